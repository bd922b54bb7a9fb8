"""What a policy says: which rows of which table are stale, where they go, and how carefully."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from airflow_dbhygiene.policy.archive import Archive, Parquet
from airflow_dbhygiene.policy.fields import Fraction, Hours, Name, Part, PositiveSeconds, Table, Zone, leniently
from airflow_dbhygiene.policy.names import TableName, parse_table_name
from airflow_dbhygiene.policy.stale import Matching, Stale


class Guard(Part):
    """Limits beyond which a plan is refused or cut short."""

    max_rows: PositiveInt = Field(
        default=5_000_000, description="rows a run takes; what is beyond waits for the next run"
    )
    max_fraction: Fraction = Field(default=0.5, description="refuse when more of the table than this is stale")
    max_chunks: int = Field(default=64, ge=1, le=1024, description="mapped task groups per run")
    min_chunk_rows: PositiveInt = Field(default=100_000, description="a chunk is not cut smaller than this")
    allow_full_scan: bool = Field(default=False, description="work without an index on the age column")
    max_optimize_bytes: PositiveInt | None = Field(
        default=None, description="largest copy that reclaim 'optimize' may make: the server's disk has room for it"
    )


class Pace(Part):
    """How fast rows are purged, and when not at all."""

    target_batch_seconds: PositiveSeconds = Field(default=0.25, description="what one transaction should last")
    max_batch_rows: PositiveInt = Field(default=100_000, description="rows in one transaction at most")
    rest_fraction: float = Field(
        default=0.0, ge=0, description="pause after a batch, as a part of the batch's own time"
    )
    lock_timeout_seconds: PositiveSeconds = Field(
        default=0.2, le=0.5, description="how long a batch waits for a row's lock"
    )
    max_replica_lag_seconds: PositiveSeconds | None = Field(
        default=None, description="pause while a standby, or one of the replicas named below, is further behind"
    )
    replica_conn_ids: tuple[Name, ...] = Field(
        default=(), description="Airflow connections of the replicas to ask for their lag (MySQL, MariaDB)"
    )
    max_wal_kept_bytes: PositiveInt | None = Field(
        default=None, description="pause while a replication slot keeps more WAL (PostgreSQL)"
    )
    max_wal_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="pause while more of max_wal_size was written since the last checkpoint began (PostgreSQL)",
    )
    max_history_list_length: PositiveInt | None = Field(
        default=None, description="pause while InnoDB has more old row versions to clear away (MySQL, MariaDB)"
    )
    max_active_sessions: PositiveInt | None = Field(
        default=None, description="pause while more other sessions are at work"
    )
    hours: Hours | None = Field(default=None, description="span of the day in which rows are purged: '22:00-06:00'")
    zone: Zone = Field(default="UTC", description="zone of the hours")
    max_pause_seconds: PositiveSeconds = Field(
        default=60, description="a longer pause frees the worker: the task is deferred"
    )
    max_idle_seconds: PositiveSeconds = Field(default=86_400, description="a chunk that has not moved for longer fails")


class Notify(Part):
    """A notifier to call when a task fails: its import path and its arguments."""

    path: str = Field(
        pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$", description="import path of a notifier class: package.module.Class"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="its keyword arguments")


class Policy(Part):
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
        default="cumulative", description="all rows before the cutoff, or only those of the run's own data interval"
    )
    verify: Literal["sample", "content"] = Field(
        default="sample", description="compare some, or all, rows with the server's"
    )
    sample_rows: PositiveInt = Field(default=1_000, description="rows per object that a sample compares")
    guard: Guard = Field(default=Guard(), description="limits beyond which a plan is refused or cut short")
    pace: Pace = Field(default=Pace(), description="how fast rows are purged, and when not at all")
    children: Literal["refuse", "skip"] = Field(
        default="refuse", description="refuse when other tables' rows point at stale ones, or leave such rows out"
    )
    restored: Literal["keep", "purge"] = Field(
        default="keep", description="whether rows that were restored from an archive stay, or may be purged again"
    )
    mask: dict[Name, Literal["drop", "null", "hash"]] = Field(
        default_factory=dict, description="columns to drop, null or hash on their way into the archive: no restore then"
    )
    mask_conn_id: Name | None = Field(
        default=None, description="Airflow connection whose password is the key of the hashes"
    )
    reclaim: Literal["vacuum", "analyze", "optimize", "none"] = Field(
        default="vacuum", description="what happens to the table afterwards"
    )
    owner: Name = Field(default="airflow", description="owner of the Airflow tasks")
    tags: tuple[str, ...] = Field(default=(), description="tags of the DAG, beside 'hygiene' and the connection id")
    notify: tuple[Notify, ...] = Field(default=(), description="whom to tell when a task fails")

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

    @classmethod
    def _told(cls, data: dict[str, Any]) -> str:
        return f"policy {data.get('name', '(unnamed)')!r}"

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
        """The policy as canonical JSON: the same policy gives the same text.

        Whom to tell is the DAG's affair: what a notifier is given may be a secret, and this text goes into ledger and
        archive.
        """
        return json.dumps(self.model_dump(mode="json", exclude={"notify"}), sort_keys=True, ensure_ascii=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal digits."""
        return hashlib.sha256(self.json_text.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read back what ``json_text`` gave."""
        return cls(**json.loads(text))

    @classmethod
    def from_record(cls, text: str) -> Policy:
        """Read back what ``json_text`` of any version gave: fields that this one does not know are left out."""
        with leniently():
            return cls.from_json(text)
