"""A TCP proxy that spoils connections: latency, throttle, stall, reset, cut after so many bytes, refuse."""

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Self

from tests.servers.ports import LOOPBACK

PIECE_BYTES = 65_536
STALL_POLL_SECONDS = 0.02

# SO_LINGER with no time to linger: closing the socket sends RST instead of FIN.
LINGER_NOT = struct.pack("ii", 1, 0)

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Flow(Enum):
    """Which way bytes travel."""

    UP = "to the server"
    DOWN = "to the client"


@dataclass
class Cut:
    """Where the proxy resets a connection: before it passes on byte number `at_byte` of that flow."""

    flow: Flow
    at_byte: int


class FaultProxy:
    """A proxy in a thread of its own, between clients and the server at `upstream`.

    It listens from the start, on the free `port` that it picked when none is given.
    Set its faults while connections are open; they act at once:

    - `latency_seconds` delays each piece, `bytes_per_second` limits each flow;
    - `stalled` holds everything back and keeps connections open;
    - `refuse` resets new connections right after they are made;
    - `cut_after`, `reset_all`: see there.

    `passed` counts the bytes passed on in each flow, over all connections.
    """

    def __init__(self, upstream: tuple[str, int], *, host: str = LOOPBACK, port: int = 0) -> None:
        self.upstream = upstream
        self.host = host
        self.port = port
        self.latency_seconds = 0.0
        self.bytes_per_second: float | None = None
        self.stalled = False
        self.refuse = False
        self.passed = dict.fromkeys(Flow, 0)
        self._cut: Cut | None = None
        self._pairs: set[Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = self._loop.run_until_complete(asyncio.start_server(self._serve, host, port))
        self.port = int(self._listener.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"fault-proxy-{self.port}", daemon=True)
        self._thread.start()

    def cut_after(self, more_bytes: int, flow: Flow = Flow.DOWN) -> None:
        """Reset, once, the connection that asks to pass on more than `more_bytes` from now on.

        The piece that crosses the line is not passed on. `cut_after(0)` right before a COMMIT lets the server commit
        and loses its acknowledgement.
        """
        self._cut = Cut(flow, self.passed[flow] + more_bytes)

    @property
    def cut_is_pending(self) -> bool:
        """Whether `cut_after` has yet to strike."""
        return self._cut is not None

    def reset_all(self) -> None:
        """Reset all open connections; new ones are accepted."""
        self._loop.call_soon_threadsafe(self._reset_pairs)

    def heal(self) -> None:
        """Take back all faults."""
        self.latency_seconds = 0.0
        self.bytes_per_second = None
        self.stalled = False
        self.refuse = False
        self._cut = None

    def close(self) -> None:
        """Reset all connections, stop to listen and end the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def _shut_down(self) -> None:
        self._listener.close()
        self._reset_pairs()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuse:
            _reset(client)
            return
        try:
            server_reader, server = await asyncio.open_connection(*self.upstream)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pass_on(Flow.UP, client_reader, server, pair),
                self._pass_on(Flow.DOWN, server_reader, client, pair),
            )
        finally:
            self._pairs.discard(pair)
            for writer in pair:
                writer.close()

    async def _pass_on(
        self, flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair
    ) -> None:
        try:
            while piece := await reader.read(PIECE_BYTES):
                await self._hold_back(piece)
                if self._crosses_cut(flow, piece):
                    _reset(*pair)
                    return
                self.passed[flow] += len(piece)
                writer.write(piece)
                await writer.drain()
            # One side is done; the other may still have something to say.
            writer.write_eof()
        except OSError:
            _reset(*pair)  # one side is gone, and the other must not wait for it for ever

    async def _hold_back(self, piece: bytes) -> None:
        delay = self.latency_seconds
        if self.bytes_per_second:
            delay += len(piece) / self.bytes_per_second
        if delay:
            await asyncio.sleep(delay)
        while self.stalled:  # noqa: ASYNC110 - set from other threads, where an Event must not be set
            await asyncio.sleep(STALL_POLL_SECONDS)

    def _crosses_cut(self, flow: Flow, piece: bytes) -> bool:
        cut = self._cut
        if cut is None or flow is not cut.flow or self.passed[flow] + len(piece) <= cut.at_byte:
            return False
        self._cut = None
        return True

    def _reset_pairs(self) -> None:
        for pair in list(self._pairs):
            _reset(*pair)


def _reset(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        raw = writer.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        writer.transport.abort()
