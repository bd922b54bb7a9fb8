"""Asking after quiet connections, as the system does by itself only after two hours.

Else a worker waits that long for a server that is gone, or behind a gateway that has forgotten a connection on which a
long statement runs.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

KEEPALIVE: Final[Mapping[str, int]] = {
    "keepalives_idle": 60,
    "keepalives_interval": 15,
    "keepalives_count": 4,
    "tcp_user_timeout": 120_000,
}
"""libpq's parameters, in seconds and the last in milliseconds: a dead connection is noticed within two minutes."""

_OPTIONS: Final = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


def keep_alive(connection: psycopg.Connection[Any]) -> None:
    """Have the system ask after a quiet connection, unless its opener has said how, or the system cannot."""
    said = connection.info.get_parameters()
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
        if same.family == socket.AF_UNIX:
            return
        for name, value in KEEPALIVE.items():
            if name not in said and (option := getattr(socket, _OPTIONS[name], None)):
                same.setsockopt(socket.IPPROTO_TCP, option, value)
