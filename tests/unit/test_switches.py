"""Switches of servers that could not be run here say on and off in words of their own."""

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_dbhygiene.databases.mysql.catalog import server
from airflow_dbhygiene.errors import ReadOnlyServer


def session(read_only: object) -> Any:
    """Give a session that answers as MariaDB 12.1 does: its read_only is a word."""
    flavour = SimpleNamespace(mariadb=True, version=120100, engine="mariadb")
    return SimpleNamespace(flavour=flavour, execute=lambda _: [(read_only, 0, "uid")])


@pytest.mark.parametrize("word", ["OFF", 0, "0"])
def test_a_server_that_may_be_written_to_is_taken(word: object) -> None:
    """The word OFF is no yes."""
    assert server(session(word)).system_identifier == "uid"


@pytest.mark.parametrize("word", ["ON", "NO_LOCK", "NO_LOCK_NO_ADMIN", 1])
def test_a_server_that_is_read_only_in_any_way_is_refused(word: object) -> None:
    """All other words forbid writing."""
    with pytest.raises(ReadOnlyServer):
        server(session(word))
