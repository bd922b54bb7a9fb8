"""The one tree of errors.

HygieneError
├── Terminal                    a retry cannot help: the Airflow task fails at once
│   ├── PolicyInvalid           a policy field, or a policy file, is wrong
│   ├── PlanRefused             the table, or something that hangs on it, makes the purge unsafe
│   ├── CutoffRefused           no cutoff, a zero-width window, or a cutoff in the future
│   ├── NotFound                a table, column, connection, bucket or run does not exist
│   ├── PrivilegeMissing        the role lacks a right; the message holds the GRANT
│   ├── StatementFailed         the server rejected a statement for good
│   ├── RowsReferenced          rows of another table still point at the stale rows
│   ├── SchemaChanged           the table is no longer the one that was planned
│   ├── WrongServer             the run was planned on another server, or before a failover
│   ├── ReadOnlyServer          the server is a standby or read-only
│   ├── NotLossless             a value cannot be archived exactly
│   ├── ArchiveDamaged          the store no longer holds what was written
│   ├── Idle                    pauses left a chunk no time to move for too long
│   ├── IllegalMove             a step was called in a state that does not allow it
│   └── LedgerIncompatible      the ledger was written by a newer version
└── Transient                   a retry may help: Airflow retries with back-off
    ├── DatabaseUnavailable     connection lost, server starting, too many connections
    ├── StatementTimedOut       lock, statement or deadlock timeout
    │   └── StatementTooLong    a statement was cut short, and it waited for nobody
    ├── RowsLocked              other transactions kept rows locked until the end
    ├── Paused                  a pause outlasted the time that a task may wait
    ├── StoreUnavailable        the object store did not answer
    └── DiskFull                no space left on the worker's disk
"""

from __future__ import annotations


class HygieneError(Exception):
    """Something went wrong; the message names the object and the fix."""


class Terminal(HygieneError):
    """A retry cannot help."""


class Transient(HygieneError):
    """A retry may help."""


class PolicyInvalid(Terminal):
    """A policy field, or a policy file, is wrong."""


class PlanRefused(Terminal):
    """The table, or something that hangs on it, makes the purge unsafe.

    :param table: the table's quoted name
    :param refusals: one sentence each: what, by name, and the fix
    """

    def __init__(self, table: str, refusals: tuple[str, ...]) -> None:
        self.table = table
        self.refusals = refusals
        lines = "\n".join(f"  - {refusal}" for refusal in refusals)
        super().__init__(f"{table} cannot be purged safely, nothing was changed:\n{lines}")

    def __reduce__(self) -> tuple[type[PlanRefused], tuple[str, tuple[str, ...]]]:
        """Rebuild from the two parts, since Exception would pickle the message alone."""
        return PlanRefused, (self.table, self.refusals)


class CutoffRefused(Terminal):
    """No cutoff, a zero-width window, or a cutoff in the future."""


class NotFound(Terminal):
    """A table, column, connection, bucket or run does not exist."""


class PrivilegeMissing(Terminal):
    """The role lacks a right."""


class StatementFailed(Terminal):
    """The server rejected a statement for good."""


class RowsReferenced(Terminal):
    """Rows of another table still point at the stale rows."""


class SchemaChanged(Terminal):
    """The table is no longer the one that was planned."""


class WrongServer(Terminal):
    """The run was planned on another server, or before a failover."""


class ReadOnlyServer(Terminal):
    """The server is a standby or read-only."""


class NotLossless(Terminal):
    """A value cannot be archived exactly."""


class ArchiveDamaged(Terminal):
    """The store no longer holds what was written."""


class Idle(Terminal):
    """Pauses left a chunk no time to move for too long."""


class IllegalMove(Terminal):
    """A step was called in a state that does not allow it."""


class LedgerIncompatible(Terminal):
    """The ledger was written by a newer version."""


class DatabaseUnavailable(Transient):
    """Connection lost, server starting, or too many connections."""


class StatementTimedOut(Transient):
    """A lock, statement or deadlock timeout."""


class StatementTooLong(StatementTimedOut):
    """A statement took longer than it may."""


class RowsLocked(Transient):
    """Other transactions kept rows locked until the end."""


class Paused(Transient):
    """A pause outlasted the time that a task may wait."""


class StoreUnavailable(Transient):
    """The object store did not answer."""


class DiskFull(Transient):
    """No space left on the worker's disk."""
