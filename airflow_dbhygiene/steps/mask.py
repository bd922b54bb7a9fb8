"""mask: columns that the law wants out of the archive are dropped, nulled or hashed on their way into it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_dbhygiene.errors import IllegalMove, PlanRefused
from airflow_dbhygiene.policy.stale import Matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_dbhygiene.databases.protocol import Facts
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Site


def check_mask(policy: Policy, facts: Facts) -> None:
    """Refuse to mask what is not there, or what a purge must read back.

    :raises PlanRefused: with every reason
    """
    columns = {column.name for column in facts.columns}
    compared = {*facts.key, *(() if isinstance(policy.stale, Matching) else (policy.stale.column,))}
    refusals = [
        *(f"mask names {name!r}, which is no column." for name in policy.mask if name not in columns),
        *(
            f"mask names {name!r}, which is the age or part of the key: the purge reads it back."
            for name in policy.mask
            if name in compared
        ),
    ]
    if refusals:
        raise PlanRefused(str(facts.name), tuple(refusals))


def masked_schema(run: Run, schema: pa.Schema) -> pa.Schema:
    """Give the archive's columns without what is dropped; a hash is a string."""
    mask = run.policy.mask
    fields = [field for field in schema if mask.get(field.name) != "drop"]
    return pa.schema([field.with_type(pa.string()) if mask.get(field.name) == "hash" else field for field in fields])


def masked(site: Site, run: Run, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Let batches pass as the archive may hold them."""
    mask, key = run.policy.mask, b""
    if "hash" in mask.values():
        key = site.secret(str(run.policy.mask_conn_id))
    for batch in batches:
        arrays = [_masked(batch.column(field.name), field, mask.get(field.name), key) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def unmasked(run: Run, rows: pa.Table) -> pa.Table:
    """Give the columns that the server can still compare."""
    return rows.drop_columns([name for name in run.policy.mask if name in rows.column_names])


def refuse_to_restore(run: Run) -> None:
    """Refuse what cannot be put back as it was.

    :raises IllegalMove: naming the columns, or the policy that keeps nothing
    """
    if not run.policy.archives:
        raise IllegalMove(f"policy {run.policy.name!r} discards its rows: run {run.run_id} cannot be put back.")
    if run.policy.mask:
        told = ", ".join(f"{name} ({how})" for name, how in run.policy.mask.items())
        raise IllegalMove(f"run {run.run_id} was archived under a mask, {told}: its rows cannot be put back.")


def _masked(values: pa.Array[Any], field: pa.Field[Any], how: str | None, key: bytes) -> pa.Array[Any]:
    if how is None:
        return values
    if how == "null":
        empty: pa.Array[Any] = pa.nulls(len(values), field.type)
        return empty
    hashes = [None if value is None else _hash(value, key) for value in values.to_pylist()]
    hashed: pa.Array[Any] = pa.array(hashes, pa.string())
    return hashed


def _hash(value: Any, key: bytes) -> str:
    """Give the HMAC-SHA256 of a value's text, in hexadecimal digits."""
    content = value if isinstance(value, bytes) else str(value).encode()
    return hmac.new(key, content, hashlib.sha256).hexdigest()
