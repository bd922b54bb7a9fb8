"""Where stale rows go: to Parquet, to a cold table, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from airflow_dbhygiene.policy.fields import UNKNOWN_KIND, Name, Part, Place, Url
from airflow_dbhygiene.policy.names import TableName, parse_place

if TYPE_CHECKING:
    from collections.abc import Sequence


class ObjectLock(Part):
    """Keep objects of chunks that are verified, and certificates, from being changed or removed (S3 Object Lock).

    In mode "compliance" nobody can, not even the account's owner; in "governance" those who have a right of its own.
    """

    mode: Literal["governance", "compliance"] = Field(
        description="who may remove an object before its time: few, or nobody"
    )
    days: PositiveInt = Field(description="for how many days, counted from the verification")


class Encryption(Part):
    """How the store encrypts objects: with its own keys, or with one of its key service."""

    kind: Literal["sse-s3", "sse-kms"] = Field(description="the store's own keys, or those of its key service")
    key_id: Name | None = Field(
        default=None, description="key of the key service; None is the bucket's or account's own"
    )


class Parquet(Part):
    """Parquet objects below a URL: ``Parquet("s3://aws_default@cold/flights")`` or ``Parquet("file:///archive")``.

    The part before the ``@`` is an Airflow connection id.
    """

    by_position: ClassVar = "url"
    kind: Literal["parquet"] = "parquet"
    url: Url = Field(description="where objects go: scheme://connection@bucket/prefix")
    object_bytes: PositiveInt = Field(default=128 * 2**20, description="about how many bytes of rows one object holds")
    compression_level: int = Field(default=1, ge=1, le=22, description="zstd's level: 1 is fast, 22 is small")
    as_text: tuple[str, ...] = Field(default=(), description="columns to keep in the server's own text form")
    object_lock: ObjectLock | None = Field(default=None, description="protect objects by S3 Object Lock")
    encryption: Encryption | None = Field(
        default=None, description="server-side encryption; None leaves it to the bucket"
    )

    @model_validator(mode="after")
    def _s3_alone_locks_and_encrypts(self) -> Self:
        if (self.object_lock or self.encryption) and not self.url.startswith("s3://"):
            raise ValueError("object_lock and encryption are S3's: use an s3:// url, or leave them out.")
        if self.encryption and self.encryption.key_id and self.encryption.kind != "sse-kms":
            raise ValueError("encryption.key_id is for kind 'sse-kms'.")
        return self

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913
            self,
            url: str,
            *,
            object_bytes: int = ...,
            compression_level: int = ...,
            as_text: Sequence[str] = ...,
            object_lock: ObjectLock | None = None,
            encryption: Encryption | None = None,
        ) -> None: ...

    @property
    def address(self) -> str:
        """How plans and certificates name the store."""
        return self.url


class ColdTable(Part):
    """A table of the same engine: ``ColdTable("cold.flights")`` or ``ColdTable("history_pg@cold.flights")``.

    In the same database rows are copied and compared by the server itself, and never travel. The table is created
    from the one that is cleaned, and gains the columns that it gains.
    """

    by_position: ClassVar = "table"
    kind: Literal["cold_table"] = "cold_table"
    table: Place = Field(description="where rows go: schema.table, or connection@schema.table")
    object_rows: PositiveInt = Field(default=100_000, description="rows that are copied in one transaction at most")

    if TYPE_CHECKING:

        def __init__(self, table: str, *, object_rows: int = ...) -> None: ...

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


class Discard(Part):
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
        custom_error_type=UNKNOWN_KIND,
        custom_error_message="kind must be 'parquet', 'cold_table' or 'discard'",
    ),
]
