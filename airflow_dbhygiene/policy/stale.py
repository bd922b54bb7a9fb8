"""Which rows are stale: by their age, by their own expiry, or by a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from airflow_dbhygiene.policy.fields import Keep, Name, Part, Zone


class _Aged(Part):
    """What OlderThan and Expired share."""

    by_position: ClassVar = "column"
    column: Name = Field(description="the column that tells a row's age")
    zone: Zone | None = Field(
        default=None, description="zone of a timestamp or date column without one; also keep's calendar"
    )
    epoch: Literal["s", "ms"] | None = Field(
        default=None, description="unit of an integer column that counts from 1970"
    )
    where: str | None = Field(default=None, description="one more boolean SQL expression that stale rows fulfil")


class OlderThan(_Aged):
    """Rows whose age column lies before (now - keep): ``OlderThan("time_hour", keep="90 days")``.

    NULL, infinite dates and dates before the year 1 have no age: such rows are never stale.
    """

    kind: Literal["older_than"] = "older_than"
    keep: Keep = Field(description="how long rows stay: '90 days', '7 years', '1 year 6 months'")

    if TYPE_CHECKING:

        def __init__(
            self,
            column: str,
            *,
            keep: str,
            zone: str | None = None,
            epoch: Literal["s", "ms"] | None = None,
            where: str | None = None,
        ) -> None: ...


class Expired(_Aged):
    """Rows whose own expiry column has passed: ``Expired("expires_at")``, with ``grace`` if they may linger."""

    kind: Literal["expired"] = "expired"
    grace: Keep | None = Field(default=None, description="how long after its expiry a row stays")

    if TYPE_CHECKING:

        def __init__(
            self,
            column: str,
            *,
            grace: str | None = None,
            zone: str | None = None,
            epoch: Literal["s", "ms"] | None = None,
            where: str | None = None,
        ) -> None: ...


class Matching(Part):
    """Rows that fulfil one boolean SQL expression: ``Matching("status = 'void'")``.

    The expression must not depend on the clock: the same run must select the same rows again.
    """

    by_position: ClassVar = "where"
    kind: Literal["matching"] = "matching"
    where: str = Field(min_length=1, description="one boolean SQL expression over the table's columns")

    if TYPE_CHECKING:

        def __init__(self, where: str) -> None: ...


Stale = Annotated[OlderThan | Expired | Matching, Field(discriminator="kind")]
