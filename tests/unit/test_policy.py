"""A policy takes what it understands, freezes it, and names field, value and fix of what it does not."""

import json
from typing import Any

import pydantic
import pytest

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.ledger.records import policy_from_record
from airflow_dbhygiene.policy import Expired, Guard, Matching, Notify, OlderThan, Pace, Parquet, Policy


def fields(**changes: Any) -> dict[str, Any]:
    """Give the fields of a good policy, with some of them changed."""
    good: dict[str, Any] = {
        "name": "flights",
        "conn_id": "shop_pg",
        "table": "public.flights",
        "stale": {"kind": "older_than", "column": "time_hour", "keep": "90 days"},
        "archive": {"kind": "parquet", "url": "s3://aws_default@cold/flights"},
    }
    return good | changes


def stale(**changes: Any) -> dict[str, Any]:
    """Give an OlderThan with some fields changed."""
    return {"stale": {"kind": "older_than", "column": "time_hour", "keep": "90 days"} | changes}


def archive(**changes: Any) -> dict[str, Any]:
    """Give a Parquet archive with some fields changed."""
    return {"archive": {"kind": "parquet", "url": "file:///cold"} | changes}


BAD: list[tuple[dict[str, Any], str, str, str]] = [
    # what changes, the field that the message names, the value that it shows, what it advises
    ({"name": "Flights!"}, "name", "'Flights!'", "pattern"),
    ({"name": ""}, "name", "''", "pattern"),
    ({"name": "x" * 64}, "name", "xxx", "pattern"),
    ({"name": 7}, "name", "7", "valid string"),
    ({"conn_id": ""}, "conn_id", "''", "at least 1 character"),
    ({"conn_id": None}, "conn_id", "None", "valid string"),
    ({"table": "flights"}, "table", "'flights'", "public.flights"),
    ({"table": "a.b.c"}, "table", "'a.b.c'", "schema.table"),
    ({"table": 'public."flights'}, "table", 'public."flights', "double quotes"),
    ({"table": "public.flights; DROP TABLE x"}, "table", "DROP TABLE x", "double quotes"),
    ({"stale": {"kind": "ancient"}}, "stale", "ancient", "older_than"),
    ({"stale": {"column": "a", "keep": "1 day"}}, "stale", "kind", "kind"),
    (stale(column=""), "stale.older_than.column", "''", "at least 1 character"),
    (stale(keep="ninety days"), "stale.older_than.keep", "'ninety days'", "'90 days'"),
    (stale(keep="-90 days"), "stale.older_than.keep", "'-90 days'", "'90 days'"),
    (stale(keep="0 days"), "stale.older_than.keep", "'0 days'", "'90 days'"),
    (stale(keep="90"), "stale.older_than.keep", "'90'", "'90 days'"),
    (stale(keep="99999999999999999999 days"), "stale.older_than.keep", "99999999999999999999", "shorter"),
    (stale(keep=90), "stale.older_than.keep", "90", "valid string"),
    (stale(zone="Europe/Atlantis"), "stale.older_than.zone", "'Europe/Atlantis'", "'Europe/Berlin'"),
    (stale(epoch="us"), "stale.older_than.epoch", "'us'", "'s' or 'ms'"),
    (stale(grace="1 day"), "stale.older_than.grace", "'1 day'", "remove it or correct its spelling"),
    ({"stale": {"kind": "expired", "column": "a", "grace": "0 days"}}, "stale.expired.grace", "'0 days'", "'90 days'"),
    ({"stale": {"kind": "matching", "where": ""}}, "stale.matching.where", "''", "at least 1 character"),
    (archive(url="/cold"), "archive.url", "'/cold'", "file:///folder"),
    (archive(kind="orc"), "archive.kind", "'orc'", "'parquet'"),
    (archive(object_bytes=0), "archive.object_bytes", "0", "greater than 0"),
    (archive(compression_level=23), "archive.compression_level", "23", "less than or equal to 22"),
    (archive(compression_level=0), "archive.compression_level", "0", "greater than or equal to 1"),
    (archive(as_text="note"), "archive.as_text", "'note'", "tuple"),
    ({"archive": {"kind": "cold_table", "table": "flights"}}, "archive.table", "'flights'", "schema.table"),
    ({"archive": {"kind": "cold_table", "table": "pg@flights"}}, "archive.table", "'flights'", "schema.table"),
    (
        {"archive": {"kind": "cold_table", "table": "cold.flights"}, "mask": {"note": "drop"}},
        "policy",
        "mask",
        "Parquet",
    ),
    ({"window": "sliding"}, "window", "'sliding'", "'cumulative' or 'interval'"),
    ({"verify": "none"}, "verify", "'none'", "'sample' or 'content'"),
    ({"sample_rows": 0}, "sample_rows", "0", "greater than 0"),
    ({"guard": {"max_rows": 0}}, "guard.max_rows", "0", "greater than 0"),
    ({"guard": {"max_rows": 1.5}}, "guard.max_rows", "1.5", "integer"),
    ({"guard": {"max_fraction": 0}}, "guard.max_fraction", "0", "greater than 0"),
    ({"guard": {"max_fraction": 1.01}}, "guard.max_fraction", "1.01", "less than or equal to 1"),
    ({"guard": {"max_fraction": float("nan")}}, "guard.max_fraction", "nan", "less than or equal to 1"),
    ({"guard": {"max_chunks": 0}}, "guard.max_chunks", "0", "greater than or equal to 1"),
    ({"guard": {"max_chunks": 1025}}, "guard.max_chunks", "1025", "less than or equal to 1024"),
    ({"guard": {"min_chunk_rows": 0}}, "guard.min_chunk_rows", "0", "greater than 0"),
    ({"guard": {"allow_full_scan": "perhaps"}}, "guard.allow_full_scan", "'perhaps'", "boolean"),
    ({"guard": {"max_row": 5}}, "guard.max_row", "5", "remove it or correct its spelling"),
    ({"pace": {"target_batch_seconds": 0}}, "pace.target_batch_seconds", "0", "greater than 0"),
    ({"pace": {"target_batch_seconds": float("nan")}}, "pace.target_batch_seconds", "nan", "greater than 0"),
    ({"pace": {"max_batch_rows": 0}}, "pace.max_batch_rows", "0", "greater than 0"),
    ({"pace": {"rest_fraction": -1}}, "pace.rest_fraction", "-1", "greater than or equal to 0"),
    ({"pace": {"lock_timeout_seconds": 0.6}}, "pace.lock_timeout_seconds", "0.6", "less than or equal to 0.5"),
    ({"pace": {"lock_timeout_seconds": 0}}, "pace.lock_timeout_seconds", "0", "greater than 0"),
    ({"pace": {"max_replica_lag_seconds": 0}}, "pace.max_replica_lag_seconds", "0", "greater than 0"),
    ({"pace": {"hours": "10pm-6am"}}, "pace.hours", "'10pm-6am'", "'22:00-06:00'"),
    ({"pace": {"hours": "22:00-25:00"}}, "pace.hours", "'22:00-25:00'", "'22:00-06:00'"),
    ({"pace": {"hours": "22:00-22:00"}}, "pace.hours", "'22:00-22:00'", "'22:00-06:00'"),
    ({"pace": {"zone": "Mars/Olympus"}}, "pace.zone", "'Mars/Olympus'", "IANA"),
    ({"pace": {"max_pause_seconds": 0}}, "pace.max_pause_seconds", "0", "greater than 0"),
    ({"children": "cascade"}, "children", "'cascade'", "'refuse' or 'skip'"),
    ({"reclaim": "full"}, "reclaim", "'full'", "'vacuum', 'analyze', 'optimize' or 'none'"),
    ({"owner": ""}, "owner", "''", "at least 1 character"),
    ({"tags": "cold"}, "tags", "'cold'", "tuple"),
    ({"notify": [{"path": "no path!"}]}, "notify.0.path", "'no path!'", "pattern"),
    ({"retention": "90 days"}, "retention", "'90 days'", "remove it or correct its spelling"),
]


@pytest.mark.parametrize(("change", "field", "value", "fix"), BAD, ids=lambda part: str(part)[:40])
def test_a_bad_value_is_refused_by_field_value_and_fix(
    change: dict[str, Any], field: str, value: str, fix: str
) -> None:
    """Whoever reads the message knows which line of which policy to change, and into what."""
    with pytest.raises(PolicyInvalid) as refused:
        Policy(**fields(**change))
    message = str(refused.value)
    assert message.startswith(f"policy {change.get('name', 'flights')!r} is not valid:")
    line = next(line for line in message.splitlines() if line.startswith(f"  - {field}"))
    assert value in line
    assert fix in line


@pytest.mark.parametrize(
    "change",
    [
        {"notify": [{"path": "a.B", "argument": {"token": "s3cret"}}]},
        {"notify": [{"path": "a.B", "token": "s3cret"}]},
        {"notify": [{"path": "a.B", "arguments": "s3cret"}]},
        {"notify": {"path": "a.B", "arguments": {"token": "s3cret"}}},
        {"notify": ["s3cret"]},
        {"notfy": [{"path": "a.B", "arguments": {"token": "s3cret"}}]},
    ],
    ids=str,
)
def test_what_a_notifier_is_given_is_not_told(change: dict[str, Any]) -> None:
    """It may hold a token, and all who see the DAGs see their import errors; the field is named all the same."""
    with pytest.raises(PolicyInvalid, match=r"- not(i)?fy") as refused:
        Policy(**fields(**change))
    assert "s3cret" not in str(refused.value)


def test_a_notifier_by_itself_tells_no_argument_either() -> None:
    """As Python code writes it."""
    with pytest.raises(PolicyInvalid, match=r"Notify is not valid:\n  - webhook: is not a field here") as refused:
        Notify(path="a.B", webhook="s3cret")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("field", ["name", "conn_id", "table", "stale", "archive"])
def test_a_missing_field_is_named(field: str) -> None:
    """What has no default must be given."""
    given = fields()
    del given[field]
    with pytest.raises(PolicyInvalid, match=rf"- {field}: Field required"):
        Policy(**given)


def test_all_faults_are_told_at_once() -> None:
    """Nobody has to correct a policy one error at a time."""
    with pytest.raises(PolicyInvalid) as refused:
        Policy(**fields(table="flights", owner="", reclaim="full"))
    assert len(str(refused.value).splitlines()) == 4


def test_a_bad_part_is_refused_where_it_is_written() -> None:
    """A part built by itself tells its fault at once, not only inside a policy."""
    with pytest.raises(PolicyInvalid, match=r"^OlderThan is not valid:\n  - keep: keep '-1 days' is not a duration"):
        OlderThan("at", keep="-1 days")
    with pytest.raises(PolicyInvalid, match=r"^Guard is not valid:\n  - max_row: is not a field here; remove it"):
        Guard(max_row=5)


def test_a_windowed_policy_needs_an_age() -> None:
    """An interval selects rows by their age: an expression without age cannot be windowed."""
    with pytest.raises(PolicyInvalid, match="needs an age column: use OlderThan or Expired"):
        Policy(**fields(stale={"kind": "matching", "where": "void"}, window="interval"))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (Policy(**fields()), "table"),
        (OlderThan("at", keep="1 day"), "keep"),
        (Expired("at"), "grace"),
        (Matching("void"), "where"),
        (Parquet("file:///cold"), "url"),
        (Guard(), "max_rows"),
        (Pace(), "hours"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_policies_are_frozen(part: pydantic.BaseModel, field: str) -> None:
    """A policy that passed its checks cannot be changed behind them."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(part, field, "1 day")


STALES = [
    OlderThan("at", keep="1 year 6 months", zone="Europe/Berlin", where="n > 5 AND note = 'ü \" \\'"),
    OlderThan("at", keep="90 days", epoch="ms"),
    Expired("expires_at"),
    Expired("expires_at", grace="2 hours"),
    Matching("status = 'void'"),
]


@pytest.mark.parametrize("stale", STALES, ids=lambda stale: stale.kind)
def test_a_policy_survives_json(stale: OlderThan | Expired | Matching) -> None:
    """The ledger keeps a policy as JSON and gets the same policy back, but for whom to tell: a token may be in that."""
    policy = Policy(
        **fields(
            stale=stale,
            archive=Parquet("file:///cold", as_text=("note",), compression_level=9),
            guard=Guard(max_rows=7, max_fraction=0.1),
            pace=Pace(hours="22:00-06:00", zone="America/New_York"),
            notify=[{"path": "a.b.C", "arguments": {"token": "s3cret"}}],
            tags=("pii",),
        )
    )
    again = Policy.from_json(policy.json_text)
    assert again == policy.model_copy(update={"notify": ()})
    assert "s3cret" not in policy.json_text
    assert again.json_text == policy.json_text
    assert again.digest == policy.digest


def test_a_recorded_policy_is_read_without_what_this_version_does_not_know() -> None:
    """At any depth; strictly read, it is refused, and so is what else is wrong with it."""
    known = Policy(**fields(pace=Pace(hours="22:00-06:00")))
    recorded = json.loads(known.json_text)
    later = {**recorded, "tide": {"low": 1}, "pace": {**recorded["pace"], "quiet_days": ["2024-12-24"]}}
    later["stale"] = {**recorded["stale"], "zones": None}
    text = json.dumps(later)
    assert Policy.from_record(text) == known
    assert policy_from_record(text) == (known, ("pace.quiet_days", "stale.zones", "tide"))
    assert policy_from_record(known.json_text) == (known, ())
    with pytest.raises(PolicyInvalid, match=r"(?s)stale\.older_than\.zones: is not a field.*tide: is not a field here"):
        Policy.from_json(text)
    with pytest.raises(PolicyInvalid, match=r"pace\.hours: hours 'night' are not a span"):
        Policy.from_record(json.dumps({**later, "pace": {"hours": "night", "quiet_days": []}}))


def test_the_digest_tells_policies_apart_and_nothing_else() -> None:
    """Order and form of the arguments do not matter; any value does. The figure itself is stable between releases."""
    reordered = dict(reversed(fields().items()))
    assert Policy(**fields()).digest == Policy(**reordered).digest
    assert Policy(**fields()).digest == Policy(**fields(stale=OlderThan("time_hour", keep="90 days"))).digest
    digests = {Policy(**fields(**change)).digest for change in ({}, {"owner": "me"}, stale(keep="91 days"))}
    assert len(digests) == 3
    assert Policy(**fields()).digest == Policy.from_json(Policy(**fields()).json_text).digest


def test_positional_forms_say_the_same_as_named_ones() -> None:
    """What reads best in Python is one way to write it, no second meaning."""
    assert OlderThan("at", keep="1 day") == OlderThan(column="at", keep="1 day")
    assert Expired("at") == Expired(column="at")
    assert Matching("void") == Matching(where="void")
    assert Parquet("file:///cold") == Parquet(url="file:///cold")


def test_the_table_is_split_into_its_parts() -> None:
    """The parts are what the catalogue spells."""
    name = Policy(**fields(table='"my schema"."ta""ble"')).table_name
    assert (name.schema, name.table) == ("my schema", 'ta"ble')
