"""What the fields of a policy may hold: texts that are checked as soon as they are written."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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


class Part(BaseModel):
    """Frozen, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)
