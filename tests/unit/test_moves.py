"""The table of a chunk's states allows nothing that could lose a row."""

from importlib import resources

import pytest

from airflow_dbhygiene.ledger.moves import ARCHIVED, DAMAGED, MOVES, PLANNED, PURGED, PURGING, VERIFIED


def reachable(state: str, without: str) -> set[str]:
    """Give the states that can follow when one state is never entered."""
    found: set[str] = set()
    edge = {state}
    while edge:
        found |= edge
        edge = {after for each in edge for after in MOVES[each] if after != without} - found
    return found


def test_nothing_is_purged_that_was_not_verified() -> None:
    """Every way to a delete leads through verified, and every way to verified through archived."""
    assert not {PURGING, PURGED} & reachable(PLANNED, without=VERIFIED)
    assert VERIFIED not in reachable(PLANNED, without=ARCHIVED)


@pytest.mark.parametrize("state", [PURGING, PURGED])
def test_a_purge_never_goes_back(state: str) -> None:
    """Once rows are gone the archive is the only copy: it is never written anew."""
    assert reachable(state, without="") <= {PURGING, PURGED}


def test_a_damaged_archive_is_written_anew() -> None:
    """And by nothing else made good; or it is given up, and there is none any more."""
    assert MOVES[DAMAGED] == {ARCHIVED, PLANNED}


def test_the_end_is_the_end() -> None:
    """A purged chunk stays purged."""
    assert MOVES[PURGED] == frozenset()


def test_every_state_is_known_to_the_ledger() -> None:
    """The table in the code and the constraint in the database name the same states."""
    script = (resources.files("airflow_dbhygiene.ledger") / "sql" / "postgresql").iterdir()
    text = "".join(path.read_text() for path in script)
    states = ", ".join(f"'{state}'" for state in (PLANNED, ARCHIVED, VERIFIED, PURGING, PURGED, DAMAGED))
    assert f"CHECK (state IN ({states}))" in text
    assert {after for moves in MOVES.values() for after in moves} | {PLANNED} == set(MOVES)
