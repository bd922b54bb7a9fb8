"""Which rows are stale: by their age, by their own expiry, or by a condition."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_dbhygiene.policy.fields import Keep, Name, Part, Zone


class _Aged(Part):
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


class Matching(Part):
    """Rows that fulfil one boolean SQL expression: ``Matching("status = 'void'")``.

    The expression must not depend on the clock: the same run must select the same rows again.
    """

    kind: Literal["matching"] = "matching"
    where: str = Field(min_length=1, description="one boolean SQL expression over the table's columns")

    def __init__(self, where: str | None = None, /, **data: Any) -> None:
        super().__init__(**({"where": where} if where is not None else {}), **data)


Stale = Annotated[OlderThan | Expired | Matching, Field(discriminator="kind")]
