"""What the fields of a policy may hold: texts that are checked as soon as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy.keep import parse_keep
from airflow_dbhygiene.policy.names import parse_place, parse_table_name


def _check_keep(text: str) -> str:
    parse_keep(text)
    return text


def _check_table(text: str) -> str:
    return str(parse_table_name(text))


def _check_place(text: str) -> str:
    conn_id, table = parse_place(text)
    return f"{conn_id}@{table}" if conn_id else str(table)


def _check_url(url: str) -> str:
    if not re.match(r"[a-z0-9]+://", url):
        raise PolicyInvalid(f"url {url!r} names no store. Write 's3://connection@bucket/prefix' or 'file:///folder'.")
    return url


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
Url = Annotated[str, AfterValidator(_policy_error(_check_url)), Field(json_schema_extra={"pattern": "^[a-z0-9]+://"})]
Hours = Annotated[str, AfterValidator(_policy_error(_check_hours))]
Name = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
PositiveSeconds = Annotated[float, Field(gt=0)]


UNKNOWN_KIND: Final = "unknown_kind"
ARCHIVE_KINDS: Final = ("parquet", "cold_table", "discard")

_within: ContextVar[bool] = ContextVar("_within", default=False)
"""Whether a part is being made for another one, which collects its faults."""

_leniently: ContextVar[bool] = ContextVar("_leniently", default=False)
"""Whether parts leave out of account what they do not know."""


class Part(BaseModel):
    """Frozen, and strict about what it does not know.

    Where a field may be given by position, a signature for type checkers says so: those that pydantic's own gives them
    have names alone.
    """

    by_position: ClassVar[str | None] = None
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)

    def __init__(self, first: Any = None, /, **data: Any) -> None:
        if first is not None:
            if self.by_position is None or self.by_position in data:
                raise TypeError(f"{type(self).__name__} takes no such argument by position: name its fields.")
            data[self.by_position] = first
        if _leniently.get():
            data = {name: value for name, value in data.items() if name in type(self).model_fields}
        if _within.get():
            super().__init__(**data)
            return
        token = _within.set(True)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise PolicyInvalid(explain(error, where=self._told(data))) from None
        finally:
            _within.reset(token)

    @classmethod
    def _told(cls, data: dict[str, Any]) -> str:  # noqa: ARG003 - a policy has a name among its data
        """How an error names what was to be made."""
        return cls.__name__


@contextmanager
def leniently() -> Iterator[None]:
    """Let parts that are made within leave out fields that they do not know, at any depth."""
    token = _leniently.set(True)
    try:
        yield
    finally:
        _leniently.reset(token)


def explain(error: ValidationError, *, where: str) -> str:
    """Turn pydantic's findings into lines of place, fault and value."""
    lines = [f"{where} is not valid:"]
    for finding in error.errors(include_url=False):
        place, given = list(finding["loc"]), finding["input"]
        if finding["type"] == UNKNOWN_KIND:
            place, given = [*place, "kind"], given.get("kind") if isinstance(given, dict) else given
        elif place[:1] == ["archive"] and len(place) > 1 and place[1] in ARCHIVE_KINDS:
            del place[1]  # the kind's name stands between a union and its field
        field = ".".join(map(str, place)) or "policy"
        fault = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            fault = "is not a field here; remove it or correct its spelling"
        silent = finding["type"] in ("missing", "value_error") or _may_be_secret(where, place, given)
        lines.append(f"  - {field}: {fault}" + ("" if silent else f" (got {given!r})"))
    return "\n".join(lines)


def _may_be_secret(where: str, place: list[Any], given: Any) -> bool:
    """Tell whether a notifier's arguments, which may hold a token, would be told to all who see the DAGs.

    A misspelled field may be meant to hold them, so that of mappings and lists nothing is told.
    """
    of_notifier = where == "Notify" or place[:1] == ["notify"]
    return isinstance(given, dict | list | tuple) or (of_notifier and place[-1:] != ["path"])
