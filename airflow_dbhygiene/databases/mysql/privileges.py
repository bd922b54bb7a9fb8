"""What a user must be allowed to see and do. Without these rights foreign keys and triggers are invisible, and act."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_dbhygiene.databases.mysql.writing import spelled
from airflow_dbhygiene.errors import PrivilegeMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_dbhygiene.databases.mysql.session import MySqlSession
    from airflow_dbhygiene.policy.model import Policy
    from airflow_dbhygiene.policy.names import TableName

_LINE = re.compile(r"(?P<verb>GRANT|REVOKE) (?P<rights>.+?) ON (?:TABLE )?(?P<scope>\S.*?) (?:TO|FROM) ")
_ON_ALL = "*.*"
_LOCAL = "OPTIMIZE_LOCAL_TABLE"
"""The right to OPTIMIZE without telling the replicas, which MySQL asks for from 8.4 on."""


def check(session: MySqlSession, policy: Policy) -> None:
    """Refuse a user who cannot see or do all that a purge needs.

    :raises PrivilegeMissing: with the statements that an administrator must run
    """
    lines, table = tuple(_lines(session)), policy.table_name
    needed = ("SELECT", "DELETE", "TRIGGER", *(("INSERT",) if policy.reclaim != "none" else ()))
    missing = [right for right in needed if not _holds(lines, right, table)]
    statements = [f"GRANT {', '.join(missing)} ON {spelled(table)} TO {user(session)};"] if missing else []
    everywhere = frozenset().union(*(line.rights for line in lines if (line.verb, line.scope) == ("GRANT", _ON_ALL)))
    if not everywhere & {"PROCESS", "ALL PRIVILEGES"}:
        statements.append(f"GRANT PROCESS ON *.* TO {user(session)};")
    if policy.reclaim == "optimize" and _LOCAL not in everywhere and _has_right(session, _LOCAL):
        statements.append(f"GRANT {_LOCAL} ON *.* TO {user(session)};")
    if statements:
        message = (
            f"user {user(session)} lacks rights. Without TRIGGER and PROCESS the triggers of {table}, and foreign keys "
            f"of other schemas, are invisible and act all the same; INSERT is what the server asks of whoever renews "
            f"statistics or rebuilds (unless reclaim is 'none'): {' '.join(statements)}"
        )
        raise PrivilegeMissing(message)


def missing(session: MySqlSession, rights: Iterable[str], table: TableName) -> list[str]:
    """Name those of the rights that the user lacks on a table."""
    lines = tuple(_lines(session))
    return [right for right in rights if not _holds(lines, right, table)]


def user(session: MySqlSession) -> str:
    """Give the user whose rights count, as a GRANT names it."""
    name, _, host = str(session.execute("SELECT current_user()")[0][0]).rpartition("@")
    return f"'{name}'@'{host}'"


@dataclass(frozen=True)
class _Line:
    """One line of SHOW GRANTS. MySQL has REVOKE lines too, where a schema is taken out of what holds for all."""

    verb: str
    rights: frozenset[str]
    scope: str

    def names(self, right: str) -> bool:
        return bool(self.rights & {right, "ALL PRIVILEGES"})


def _lines(session: MySqlSession) -> Iterator[_Line]:
    for statement in _statements(session):
        for (text,) in session.execute(statement):
            if found := _LINE.match(str(text)):
                rights = re.sub(r"\s*\([^)]*\)", " (some columns)", found["rights"])
                yield _Line(found["verb"], frozenset(right.strip() for right in rights.split(",")), found["scope"])


def _statements(session: MySqlSession) -> Iterator[str]:
    roles = session.execute("SELECT current_role()")[0][0]
    if roles in {None, "NONE", ""}:
        yield "SHOW GRANTS"
    elif session.flavour.mariadb:
        yield from ("SHOW GRANTS", "SHOW GRANTS FOR CURRENT_ROLE")
    else:
        yield f"SHOW GRANTS FOR CURRENT_USER() USING {roles}"


def _has_right(session: MySqlSession, right: str) -> bool:
    return any(str(row[0]).upper() == right for row in session.execute("SHOW PRIVILEGES"))


def _holds(lines: tuple[_Line, ...], right: str, table: TableName) -> bool:
    granted = {line.scope for line in lines if line.verb == "GRANT" and line.names(right)}
    revoked = {line.scope for line in lines if line.verb == "REVOKE" and line.names(right)}
    if spelled(table) in granted or any(_covers(scope, table.schema) for scope in granted):
        return True
    return _ON_ALL in granted and not any(_covers(scope, table.schema) for scope in revoked)


def _covers(scope: str, schema: str) -> bool:
    r"""Tell whether a grant on a database's name holds for ours: % and _ are wildcards there unless after a \."""
    if not scope.endswith("`.*"):
        return False
    pattern = scope[1:-3].replace("``", "`")
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wildcards = {"%": ".*", "_": "."}
    whole = "".join(wildcards.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(whole, schema, re.DOTALL) is not None
