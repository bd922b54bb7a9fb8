"""Archives as rows of a cold table: in the database that is cleaned, or in another of the same engine.

An object is a number in a column. In the same database the server copies its rows by itself; to another database they
travel as they do to files. What objects tell of themselves, and certificates, lie in a table of texts beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from airflow_dbhygiene.databases.cold import Copied, Origin, Outlook
from airflow_dbhygiene.databases.protocol import Column, Selection
from airflow_dbhygiene.errors import ArchiveDamaged, NotFound, PlanRefused, StatementFailed
from airflow_dbhygiene.policy.names import parse_place, parse_table_name
from airflow_dbhygiene.stores.parquet_file import ParquetObject, fingerprint, slices, spread, write_parquet
from airflow_dbhygiene.stores.protocol import Spooled, Written
from airflow_dbhygiene.stores.scratch import scratch_file

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.protocol import Database, Span
    from airflow_dbhygiene.ledger import Run
    from airflow_dbhygiene.policy.names import TableName

_EPOCH_MILLISECONDS: Final = 1_577_836_800_000
"""The start of 2020: objects are numbered from there, so that later ones have higher numbers."""
_RANDOM_BITS: Final = 22
_DISCARDED_AT_A_TIME: Final = 10_000
_FASTEST: Final = 1


@dataclass(frozen=True)
class ColdObject:
    """Answers the Archived protocol. ``session`` is open as long as the object is."""

    database: Database
    session: Any
    selection: Selection
    notes: Mapping[str, str]
    lies: Copied
    beside: bool
    sha256: str

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.lies.rows

    @property
    def copied(self) -> Copied | None:
        """Where its rows lie in the database that is cleaned, None when they lie elsewhere."""
        return self.lies if self.beside else None

    def fingerprint(self, database: Database, selection: Selection) -> str:
        """Digest the (key, version) pairs; beside the table, what digests all columns digests these too."""
        return self.sha256 if self.beside else fingerprint(database, selection, self)

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Give its rows in their order, so many at a time at most, and fewer where they are wide."""
        with self.database.cold_tables.read(self.selection, self.lies, columns) as batches:
            for batch in batches:
                yield from slices(batch, rows)

    def sample(self, rows: int) -> Iterator[pa.Table]:
        """Give so many rows, spread evenly."""
        wanted, start = spread(self.rows, rows), 0
        for batch in self.batches(self.rows or 1):
            here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
            if len(here):
                yield pa.Table.from_batches([batch]).take(here)
            start += batch.num_rows


class ColdTableStore:
    """Answers the Store protocol.

    :param home: the database that is cleaned
    :param database: the one that holds the cold table, the same or another of its engine
    :param table: the cold table
    :param url: the same, as errors and certificates show it
    :param object_rows: how many rows one object holds at most
    """

    def __init__(self, home: Database, database: Database, table: TableName, *, url: str, object_rows: int) -> None:
        self._home = home
        self._database = database
        self._cold = database.cold_tables
        self._table = table
        self.url = url
        self.object_rows = object_rows

    @property
    def beside(self) -> ColdTableStore | None:
        """The store, if its table is in the database that is cleaned."""
        return self if self._home is self._database else None

    def outlook(self, selection: Selection) -> Outlook:
        """See what stands against the table, and what would make it or bring it up to date."""
        if self.beside and self._table == selection.table:
            return Outlook((f"cold table {self.url} is the table itself: name another.",))
        if not self.beside and (refusal := self._other_engine()):
            return Outlook((refusal,))
        with self._database.session() as session:
            found = self._cold.look(session, selection, self._table)
        return replace(found, refusals=tuple(f"cold table {self.url}: {refusal}" for refusal in found.refusals))

    def prepare(self, run: Run) -> None:
        """Make the table, or bring it up to date, unless a twin is faster.

        :raises PlanRefused: naming what stands against it
        """
        statements = self._preparations(run)
        while statements:
            try:
                with self._database.session() as session:
                    self._cold.change(session, statements)
            except StatementFailed:
                before, statements = statements, self._preparations(run)
                if statements == before:
                    raise
            else:
                return

    @staticmethod
    def named(base: str) -> str:
        """Make a name that ends with the object's number: the time, and chance."""
        milliseconds = time.time_ns() // 1_000_000 - _EPOCH_MILLISECONDS
        chance = int.from_bytes(os.urandom(4), "big") >> (32 - _RANDOM_BITS)
        return f"{base}@{(milliseconds << _RANDOM_BITS) | chance}"

    def copy(  # noqa: PLR0913, PLR0917 - which rows, and what they become
        self, session: Any, run: Run, span: Span, held: str | None, name: str, notes: Mapping[str, str]
    ) -> Copied:
        """Let the server copy the span's stale rows."""
        copied = self._cold.copy(session, run.selection, span, held, self._place(name, notes), _origin(notes))
        self._note(session, copied, name, notes)
        return copied

    def digest(self, session: Any, run: Run, copied: Copied) -> Written:
        """Digest rows as they lie in the cold table."""
        digest = self._cold.digest(session, run.selection, copied, fresh=True)
        return Written(copied.rows, 0, digest, digest)

    @staticmethod
    @contextmanager
    def spool(
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        notes: Mapping[str, str],
        name: str | None = None,  # noqa: ARG004 - rows are loaded in one transaction
    ) -> Iterator[Spooled]:
        """Write batches to a local file first, as for any store: a slow one must not hold the snapshot."""
        with scratch_file() as path:
            yield write_parquet(path, batches, schema, notes, _FASTEST)

    def upload(self, spooled: Spooled, name: str) -> str:
        """Load a spooled object; give the digest of the rows as they then lie there."""
        with pq.ParquetFile(spooled.path) as file:
            notes = ParquetObject(file).notes
            selection = _selection(notes)
            to = self._place(name, notes)
            copied = replace(to, end=to.first + spooled.rows)
            origin = _origin(notes)
            with self._database.session() as session, session.transaction(durable=True):
                self._cold.load(session, selection, file.iter_batches(_DISCARDED_AT_A_TIME), to, origin)
                self._note(session, copied, name, notes)
                return self._cold.digest(session, selection, copied)

    @contextmanager
    def fetch(
        self,
        name: str,
        sha256: str,
        size: int,  # noqa: ARG002 - rows have no size
        *,
        compared: bool = False,
    ) -> Iterator[ColdObject]:
        """Find an object, and refuse it unless it is what was written."""
        with self._database.session() as session:
            text = self._cold.read_text(session, self._place(name, {}).texts, name)
            if text is None:
                raise ArchiveDamaged(f"object {name} of {self.url} is missing: {_NOT_DELETED}")
            notes = json.loads(text)
            selection = _selection(notes)
            everything = self._place(name, notes)
            with session.transaction():
                lies = replace(everything, end=self._cold.end(session, everything))
                if not (self.beside and compared) and self._cold.digest(session, selection, lies) != sha256:
                    message = f"object {name} of {self.url} is not what was written: its digest differs; {_NOT_DELETED}"
                    raise ArchiveDamaged(message)
            yield ColdObject(self._database, session, selection, notes, lies, self.beside is not None, sha256)

    def protect(self, name: str) -> None:
        """Nothing protects rows but who may write to their table."""

    @staticmethod
    def unprotected(_: str) -> str | None:
        """No policy asks for more."""
        return None

    def write_text(self, name: str, text: str) -> str:
        """Keep a small text in the table of texts; give its address."""
        texts = self._place("", {}).texts
        with self._database.session() as session, session.transaction(durable=True):
            self._cold.write_text(session, texts, name, text)
        return f"{self.url.rpartition('@')[0]}{'@' if '@' in self.url else ''}{texts}: {name}"

    def read_text(self, name: str) -> bytes | None:
        """Give back the bytes of a small text, None when it is not there."""
        with self._database.session() as session:
            text = self._cold.read_text(session, self._place("", {}).texts, name)
        return None if text is None else text.encode()

    def texts(self) -> Iterator[str]:
        """Name all certificates beside the cold table."""
        with self._database.session() as session:
            names = self._cold.texts(session, self._place("", {}).texts)
        yield from names

    def keeps(self, address: str) -> bool:
        """Tell whether the address is that of this table: others of its schema keep their certificates beside it."""
        return "://" not in address and parse_place(address)[1] == self._table

    def discard(self, name: str) -> None:
        """Remove an object in small transactions; one that is not there is no error."""
        lies = self._place(name, {})
        with contextlib.suppress(NotFound), self._database.session() as session:
            while self._cold.discard(session, lies, _DISCARDED_AT_A_TIME):
                pass
            self._cold.remove_text(session, lies.texts, name)

    def _preparations(self, run: Run) -> tuple[str, ...]:
        outlook = self.outlook(run.selection)
        if outlook.refusals:
            raise PlanRefused(str(run.selection.table), outlook.refusals)
        return outlook.statements

    def _place(self, name: str, notes: Mapping[str, str]) -> Copied:
        """Say where an object's rows begin."""
        first = int(notes.get("first_ordinal", 0))
        return Copied(self._table, int(name.rpartition("@")[2] or 0), first, first)

    def _note(self, session: Any, copied: Copied, name: str, notes: Mapping[str, str]) -> None:
        self._cold.write_text(session, copied.texts, name, json.dumps(notes, ensure_ascii=False))

    def _other_engine(self) -> str | None:
        with self._home.session() as session:
            home = self._home.server(session).engine
        with self._database.session() as session:
            there = self._database.server(session).engine
        if home == there:
            return None
        return (
            f"cold table {self.url} is on {there}, and the table on {home}: values would not come back equal. Archive "
            f"to Parquet, which any engine can read, or name a connection of {home}."
        )


def _origin(notes: Mapping[str, str]) -> Origin:
    return Origin(notes["run"], int(notes["chunk"]))


def _selection(notes: Mapping[str, str]) -> Selection:
    """Read back from an object's notes what its rows were."""
    columns = (Column(name, *typed) for name, typed in json.loads(notes["columns"]).items())
    key, walk = tuple(json.loads(notes["key"])), tuple(json.loads(notes["walk"]))
    return Selection(parse_table_name(notes["table"]), tuple(columns), key, walk, notes["predicate"])


_NOT_DELETED: Final = (
    "no more is deleted for it. Bring back its rows as they were, or, if no row of its chunk is purged yet, "
    "clear the chunk's archive task to archive it anew."
)
