"""What a policy says: which rows of which table are stale, where they go, and how carefully."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy.keep import parse_keep
from airflow_dbhygiene.policy.names import TableName, parse_place, parse_table_name


def _check_keep(text: str) -> str:
    parse_keep(text)
    return text


def _check_table(text: str) -> str:
    return str(parse_table_name(text))


def _check_place(text: str) -> str:
    conn_id, table = parse_place(text)
    return f"{conn_id}@{table}" if conn_id else str(table)


def _check_zone(name: str) -> str:
    from pendulum import timezone  # noqa: PLC0415 - reading the zone database is dear, and few policies name a zone

    try:
        timezone(name)
    except Exception as error:
        message = f"time zone {name!r} is unknown. Use an IANA name such as 'Europe/Berlin' or 'UTC'."
        raise PolicyInvalid(message) from error
    return name


def _check_hours(text: str) -> str:
    start, _, end = text.partition("-")
    if start == end or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
        message = f"hours {text!r} are not a span of the day. Write '22:00-06:00'."
        raise PolicyInvalid(message)
    return text


def _policy_error(check: Any) -> Any:
    """Let pydantic collect our errors with the field's place: it collects ValueErrors only."""

    def checked(value: str) -> str:
        try:
            return str(check(value))
        except PolicyInvalid as error:
            raise ValueError(str(error)) from None

    return checked


Keep = Annotated[str, AfterValidator(_policy_error(_check_keep))]
Zone = Annotated[str, AfterValidator(_policy_error(_check_zone))]
Table = Annotated[str, AfterValidator(_policy_error(_check_table))]
Place = Annotated[str, AfterValidator(_policy_error(_check_place))]
Hours = Annotated[str, AfterValidator(_policy_error(_check_hours))]
Name = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    """Frozen, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


class _Aged(_Part):
    """What OlderThan and Expired share."""

    column: Name = Field(description="the column that tells a row's age")
    zone: Zone | None = Field(None, description="zone of a timestamp or date column without one; also keep's calendar")
    epoch: Literal["s", "ms"] | None = Field(None, description="unit of an integer column that counts from 1970")
    where: str | None = Field(None, description="one more boolean SQL expression that stale rows fulfil")

    def __init__(self, column: str | None = None, /, **data: Any) -> None:
        super().__init__(**({"column": column} if column is not None else {}), **data)


class OlderThan(_Aged):
    """Rows whose age column lies before (now - keep): ``OlderThan("time_hour", keep="90 days")``.

    NULL, infinite dates and dates before the year 1 have no age: such rows are never stale.
    """

    kind: Literal["older_than"] = "older_than"
    keep: Keep = Field(description="how long rows stay: '90 days', '7 years', '1 year 6 months'")


class Expired(_Aged):
    """Rows whose own expiry column has passed: ``Expired("expires_at")``, with ``grace`` if they may linger."""

    kind: Literal["expired"] = "expired"
    grace: Keep | None = Field(None, description="how long after its expiry a row stays")


class Matching(_Part):
    """Rows that fulfil one boolean SQL expression: ``Matching("status = 'void'")``.

    The expression must not depend on the clock: the same run must select the same rows again.
    """

    kind: Literal["matching"] = "matching"
    where: str = Field(min_length=1, description="one boolean SQL expression over the table's columns")

    def __init__(self, where: str | None = None, /, **data: Any) -> None:
        super().__init__(**({"where": where} if where is not None else {}), **data)


Stale = Annotated[OlderThan | Expired | Matching, Field(discriminator="kind")]


class ObjectLock(_Part):
    """Keep objects of chunks that are verified, and certificates, from being changed or removed (S3 Object Lock).

    In mode "compliance" nobody can, not even the account's owner; in "governance" those who have a right of its own.
    """

    mode: Literal["governance", "compliance"] = Field(
        description="who may remove an object before its time: few, or nobody"
    )
    days: PositiveInt = Field(description="for how many days, counted from the verification")


class Encryption(_Part):
    """How the store encrypts objects: with its own keys, or with one of its key service."""

    kind: Literal["sse-s3", "sse-kms"] = Field(description="the store's own keys, or those of its key service")
    key_id: Name | None = Field(None, description="key of the key service; None is the bucket's or account's own")


class Parquet(_Part):
    """Parquet objects below a URL: ``Parquet("s3://aws_default@cold/flights")`` or ``Parquet("file:///archive")``.

    The part before the ``@`` is an Airflow connection id.
    """

    kind: Literal["parquet"] = "parquet"
    url: str = Field(pattern=r"^[a-z0-9]+://", description="where objects go: scheme://connection@bucket/prefix")
    object_bytes: PositiveInt = Field(128 * 2**20, description="about how many bytes of rows one object holds")
    compression_level: int = Field(1, ge=1, le=22, description="zstd's level: 1 is fast, 22 is small")
    as_text: tuple[str, ...] = Field((), description="columns to keep in the server's own text form")
    object_lock: ObjectLock | None = Field(None, description="protect objects by S3 Object Lock")
    encryption: Encryption | None = Field(None, description="server-side encryption; None leaves it to the bucket")

    @model_validator(mode="after")
    def _s3_alone_locks_and_encrypts(self) -> Self:
        if (self.object_lock or self.encryption) and not self.url.startswith("s3://"):
            raise ValueError("object_lock and encryption are S3's: use an s3:// url, or leave them out.")
        if self.encryption and self.encryption.key_id and self.encryption.kind != "sse-kms":
            raise ValueError("encryption.key_id is for kind 'sse-kms'.")
        return self

    def __init__(self, url: str | None = None, /, **data: Any) -> None:
        super().__init__(**({"url": url} if url is not None else {}), **data)

    @property
    def address(self) -> str:
        """How plans and certificates name the store."""
        return self.url


class ColdTable(_Part):
    """A table of the same engine: ``ColdTable("cold.flights")`` or ``ColdTable("history_pg@cold.flights")``.

    In the same database rows are copied and compared by the server itself, and never travel. The table is created
    from the one that is cleaned, and gains the columns that it gains.
    """

    kind: Literal["cold_table"] = "cold_table"
    table: Place = Field(description="where rows go: schema.table, or connection@schema.table")
    object_rows: PositiveInt = Field(100_000, description="rows that are copied in one transaction at most")

    def __init__(self, table: str | None = None, /, **data: Any) -> None:
        super().__init__(**({"table": table} if table is not None else {}), **data)

    @property
    def address(self) -> str:
        """How plans and certificates name the store."""
        return self.table

    @property
    def conn_id(self) -> str | None:
        """The Airflow connection of the cold table; None for that of the policy."""
        return parse_place(self.table)[0]

    @property
    def table_name(self) -> TableName:
        """Schema and table apart."""
        return parse_place(self.table)[1]

    @property
    def as_text(self) -> tuple[str, ...]:
        """Name columns to keep as text: none, since a cold table has the columns' own types."""
        return ()


class Discard(_Part):
    """Nowhere: rows go without a copy, and cannot be brought back: ``Discard(reason="a cache")``."""

    kind: Literal["discard"] = "discard"
    reason: str = Field(min_length=1, description="why nobody will ask for these rows; certificates repeat it")

    @property
    def address(self) -> str:
        """How plans and certificates name what becomes of the rows."""
        return f"none, rows are discarded: {self.reason}"

    @property
    def as_text(self) -> tuple[str, ...]:
        """Name columns to keep as text: none, since nothing is kept."""
        return ()


_UNKNOWN_KIND = "unknown_kind"
_ARCHIVE_KINDS = ("parquet", "cold_table", "discard")
_FIELD_OF_KIND = {"url": "parquet", "table": "cold_table", "reason": "discard"}


def _kind_of_archive(archive: Any) -> str:
    """Tell which of them is meant; a mapping without a kind tells by its fields."""
    if not isinstance(archive, dict):
        return str(getattr(archive, "kind", None))
    told = (kind for field, kind in _FIELD_OF_KIND.items() if field in archive)
    return str(archive.get("kind", next(told, "parquet")))


Archive = Annotated[
    Annotated[Parquet, Tag("parquet")] | Annotated[ColdTable, Tag("cold_table")] | Annotated[Discard, Tag("discard")],
    Discriminator(
        _kind_of_archive,
        custom_error_type=_UNKNOWN_KIND,
        custom_error_message="kind must be 'parquet', 'cold_table' or 'discard'",
    ),
]


class Guard(_Part):
    """Limits beyond which a plan is refused or cut short."""

    max_rows: PositiveInt = Field(5_000_000, description="rows a run takes; what is beyond waits for the next run")
    max_fraction: Fraction = Field(0.5, description="refuse when more of the table than this is stale")
    max_chunks: int = Field(64, ge=1, le=1024, description="mapped task groups per run")
    min_chunk_rows: PositiveInt = Field(100_000, description="a chunk is not cut smaller than this")
    allow_full_scan: bool = Field(default=False, description="work without an index on the age column")
    max_optimize_bytes: PositiveInt | None = Field(
        None, description="largest copy that reclaim 'optimize' may make: the server's disk has room for it"
    )


class Pace(_Part):
    """How fast rows are purged, and when not at all."""

    target_batch_seconds: PositiveSeconds = Field(0.25, description="what one transaction should last")
    max_batch_rows: PositiveInt = Field(50_000, description="rows in one transaction at most")
    rest_fraction: float = Field(0.0, ge=0, description="pause after a batch, as a part of the batch's own time")
    lock_timeout_seconds: PositiveSeconds = Field(0.2, le=0.5, description="how long a batch waits for a row's lock")
    max_replica_lag_seconds: PositiveSeconds | None = Field(
        None, description="pause while a standby, or one of the replicas named below, is further behind"
    )
    replica_conn_ids: tuple[Name, ...] = Field(
        (), description="Airflow connections of the replicas to ask for their lag (MySQL, MariaDB)"
    )
    max_wal_kept_bytes: PositiveInt | None = Field(
        None, description="pause while a replication slot keeps more WAL (PostgreSQL)"
    )
    max_wal_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="pause while more of max_wal_size was written since the last checkpoint began (PostgreSQL)",
    )
    max_history_list_length: PositiveInt | None = Field(
        None, description="pause while InnoDB has more old row versions to clear away (MySQL, MariaDB)"
    )
    max_active_sessions: PositiveInt | None = Field(None, description="pause while more other sessions are at work")
    hours: Hours | None = Field(None, description="span of the day in which rows are purged: '22:00-06:00'")
    zone: Zone = Field("UTC", description="zone of the hours")
    max_pause_seconds: PositiveSeconds = Field(60, description="a longer pause frees the worker: the task is deferred")
    max_idle_seconds: PositiveSeconds = Field(86_400, description="a chunk that has not moved for longer fails")


class Notify(_Part):
    """A notifier to call when a task fails: its import path and its arguments."""

    path: str = Field(
        pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$", description="import path of a notifier class: package.module.Class"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="its keyword arguments")


class Policy(_Part):
    """One table's hygiene: what is stale, where it goes, and how carefully.

    >>> Policy(
    ...     name="flights",
    ...     conn_id="shop_pg",
    ...     table="public.flights",
    ...     stale=OlderThan("time_hour", keep="90 days"),
    ...     archive=Parquet("s3://aws_default@cold/flights"),
    ... )
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="unique among the policies")]
    conn_id: Name = Field(description="Airflow connection of the database to clean")
    table: Table = Field(description='schema.table, as the catalogue spells it; quote odd parts: "my schema"."t"')
    stale: Stale = Field(description="which rows may go: OlderThan, Expired or Matching")
    archive: Archive = Field(description="where their copies go")
    window: Literal["cumulative", "interval"] = Field(
        "cumulative", description="all rows before the cutoff, or only those of the run's own data interval"
    )
    verify: Literal["sample", "content"] = Field("sample", description="compare some, or all, rows with the server's")
    sample_rows: PositiveInt = Field(1_000, description="rows per object that a sample compares")
    guard: Guard = Field(Guard(), description="limits beyond which a plan is refused or cut short")
    pace: Pace = Field(Pace(), description="how fast rows are purged, and when not at all")
    children: Literal["refuse", "skip"] = Field(
        "refuse", description="refuse when other tables' rows point at stale ones, or leave such rows out"
    )
    restored: Literal["keep", "purge"] = Field(
        "keep", description="whether rows that were restored from an archive stay, or may be purged again"
    )
    mask: dict[Name, Literal["drop", "null", "hash"]] = Field(
        default_factory=dict, description="columns to drop, null or hash on their way into the archive: no restore then"
    )
    mask_conn_id: Name | None = Field(None, description="Airflow connection whose password is the key of the hashes")
    reclaim: Literal["vacuum", "analyze", "optimize", "none"] = Field(
        "vacuum", description="what happens to the table afterwards"
    )
    owner: Name = Field("airflow", description="owner of the Airflow tasks")
    tags: tuple[str, ...] = Field((), description="tags of the DAG, beside 'hygiene' and the connection id")
    notify: tuple[Notify, ...] = Field((), description="whom to tell when a task fails")

    @model_validator(mode="after")
    def _interval_needs_an_age(self) -> Self:
        if self.window == "interval" and isinstance(self.stale, Matching):
            message = "window 'interval' needs an age column: use OlderThan or Expired, or window 'cumulative'."
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _cold_tables_hold_whole_rows(self) -> Self:
        if self.mask and not isinstance(self.archive, Parquet):
            raise ValueError("mask needs a Parquet archive: a cold table's rows are compared as a whole.")
        return self

    @model_validator(mode="after")
    def _hashes_need_a_key(self) -> Self:
        if "hash" in self.mask.values() and self.mask_conn_id is None:
            raise ValueError("mask_conn_id is missing: name an Airflow connection whose password is the hashes' key.")
        return self

    @model_validator(mode="after")
    def _a_copy_needs_room(self) -> Self:
        if self.reclaim == "optimize" and self.guard.max_optimize_bytes is None:
            message = (
                "reclaim 'optimize' copies the table, and no such server tells over SQL how much disk is free: "
                "say by guard.max_optimize_bytes how large a copy it has room for."
            )
            raise ValueError(message)
        return self

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise PolicyInvalid(explain(error, where=f"policy {data.get('name', '(unnamed)')!r}")) from None

    @property
    def table_name(self) -> TableName:
        """Schema and table apart."""
        return parse_table_name(self.table)

    @property
    def archives(self) -> bool:
        """Whether rows are archived before they go: so it is, but for ``Discard``."""
        return self.archive.kind != "discard"

    @property
    def json_text(self) -> str:
        """The policy as canonical JSON: the same policy gives the same text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal digits."""
        return hashlib.sha256(self.json_text.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read back what ``json_text`` gave."""
        return cls(**json.loads(text))


def explain(error: ValidationError, *, where: str) -> str:
    """Turn pydantic's findings into lines of place, fault and value."""
    lines = [f"{where} is not valid:"]
    for finding in error.errors(include_url=False):
        place, given = list(finding["loc"]), finding["input"]
        if finding["type"] == _UNKNOWN_KIND:
            place, given = [*place, "kind"], given.get("kind") if isinstance(given, dict) else given
        elif place[:1] == ["archive"] and len(place) > 1 and place[1] in _ARCHIVE_KINDS:
            del place[1]  # the kind's name stands between a union and its field
        field = ".".join(map(str, place)) or "policy"
        fault = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            fault = "is not a field of a policy; remove it or correct its spelling"
        shown = "" if finding["type"] in ("missing", "value_error") else f" (got {given!r})"
        lines.append(f"  - {field}: {fault}{shown}")
    return "\n".join(lines)
