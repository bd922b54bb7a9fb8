"""One digest of many rows in their order, which the server makes as it passes them: none of them travels.

The digits of each row's version are put behind those before; as soon as there are sixteen of them, one digest takes
their place. Two sequences of versions come to the same end only if they are the same, or SHA-256 is broken.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_dbhygiene.databases.mysql.session import MySqlSession

_DIGITS: Final = 64
_TOGETHER: Final = 16
"""So many versions to a digest: fewer cost more digests, more cost the copying of longer texts."""
_NOTHING: Final = "0" * _DIGITS
_FULL: Final = _DIGITS * _TOGETHER


def begin(session: MySqlSession) -> None:
    """Begin anew; a connection folds one sequence at a time."""
    session.execute(f"SET @dbhygiene_folded = '{_NOTHING}'")


def folding_sql(digits: str) -> str:
    """Write a condition that every row fulfils, and that adds its version to what is folded.

    :param digits: an expression for a row's version in hexadecimal digits
    """
    longer = f"CONCAT(@dbhygiene_folded, {digits})"
    folded = f"IF(LENGTH(@dbhygiene_folded) < {_FULL}, {longer}, SHA2({longer}, 256))"
    return f"(@dbhygiene_folded := {folded}) <> ''"


def end(session: MySqlSession) -> str | None:
    """Give what the rows came to; None when one of them is too long for max_allowed_packet, which equals nothing."""
    folded = session.execute("SELECT @dbhygiene_folded")[0][0]
    return None if folded is None else str(folded)


def fold(versions: bytes) -> str:
    """Fold versions, one after the other, as the server does."""
    digits, folded, start = versions.hex(), _NOTHING, 0
    while len(digits) - start >= _FULL:
        folded = hashlib.sha256((folded + digits[start : start + _FULL]).encode()).hexdigest()
        start += _FULL
    return folded + digits[start:]
