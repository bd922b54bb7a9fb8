"""A proxy before the S3 server that knows one request from another, and spoils those that it is told to.

Requests pass with their Host header, so that their signatures hold.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.servers.ports import LOOPBACK
from tests.servers.proxy import LINGER_NOT
from tests.servers.s3 import S3Server

STALL_SECONDS = 30
_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length")


@dataclass(frozen=True)
class Answer:
    """What comes back: status, headers and body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""


@dataclass
class Exchange:
    """One request, and what can be done to it."""

    handler: BaseHTTPRequestHandler
    server: S3Server
    healed: threading.Event

    @property
    def operation(self) -> str:
        """What S3's own documentation calls the request."""
        return operation_of(self.handler.command, self.handler.path)

    @cached_property
    def body(self) -> bytes:
        """What the client sends along."""
        return self.handler.rfile.read(int(self.handler.headers.get("Content-Length") or 0))

    def forward(self) -> Answer:
        """Ask the server."""
        connection = http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=STALL_SECONDS)
        try:
            connection.putrequest(self.handler.command, self.handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.handler.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(self.body or None)
            response = connection.getresponse()
            kept = [each for each in response.getheaders() if each[0].lower() not in _HOP_BY_HOP]
            if self.handler.command == "HEAD":
                kept.append(("Content-Length", response.getheader("Content-Length") or "0"))
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

    def answer(self, answer: Answer, *, only: int | None = None) -> None:
        """Send an answer, or its first bytes: then the connection is reset."""
        self.handler.send_response_only(answer.status)
        for name, value in answer.headers:
            self.handler.send_header(name, value)
        if self.handler.command != "HEAD":
            self.handler.send_header("Content-Length", str(len(answer.body)))
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(answer.body[:only])
        if only is not None:
            self.reset()

    def reset(self) -> None:
        """End the connection with RST instead of FIN, and at once, whoever else holds the socket."""
        self.handler.close_connection = True
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        os.close(self.handler.connection.detach())


Fault = Callable[[Exchange], None]


def refuse(status: int, code: str) -> Fault:
    """Answer with one of S3's errors, and ask nobody."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} by the proxy</Message></Error>".encode()

    def fault(exchange: Exchange) -> None:
        _ = exchange.body
        exchange.answer(Answer(status, [("Content-Type", "application/xml")], text))

    return fault


def reset_request(exchange: Exchange) -> None:
    """Reset the connection when half of the request has come."""
    size = int(exchange.handler.headers.get("Content-Length") or 0)
    exchange.handler.rfile.read(size // 2)
    exchange.reset()


def reset_answer(exchange: Exchange) -> None:
    """Let the server do it, and reset the connection when half of the answer has gone."""
    answer = exchange.forward()
    exchange.answer(answer, only=len(answer.body) // 2)


def lose_answer(exchange: Exchange) -> None:
    """Let the server do it, and say nothing of it."""
    exchange.forward()
    exchange.reset()


def fail_after_all(exchange: Exchange) -> None:
    """Let the server do it, and answer that it failed."""
    exchange.forward()
    refuse(500, "InternalError")(exchange)


def stall(exchange: Exchange) -> None:
    """Say nothing until the client has lost its patience."""
    exchange.healed.wait(STALL_SECONDS)
    exchange.reset()


def delay(exchange: Exchange) -> None:
    """Do it later."""
    exchange.healed.wait(0.3)
    exchange.answer(exchange.forward())


def truncate(exchange: Exchange) -> None:
    """Give back less than there is, as if that were all."""
    answer = exchange.forward()
    exchange.answer(Answer(answer.status, answer.headers, answer.body[:-7]))


def alter(exchange: Exchange) -> None:
    """Give back one bit that is another."""
    answer = exchange.forward()
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 1
    exchange.answer(Answer(answer.status, answer.headers, bytes(body)))


def repeat(answer: Answer) -> Fault:
    """Give an answer that was given before, as a list that lags does."""

    def fault(exchange: Exchange) -> None:
        _ = exchange.body
        exchange.answer(answer)

    return fault


@dataclass
class _Order:
    operation: str
    fault: Fault
    skip: int
    times: int | None


@dataclass
class S3FaultProxy:
    """Stands before a server; without orders all requests pass.

    ``passed`` counts all requests by their operations, ``spoiled`` those that were spoiled; ``answers`` has the last
    sound answer to each.
    """

    server: S3Server
    passed: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Answer] = field(default_factory=dict)
    spoiled: Counter[str] = field(default_factory=Counter)
    _orders: list[_Order] = field(default_factory=list)
    _healed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle_one_request(self) -> None:
                """Let a client go whose connection is gone."""
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def relay(self) -> None:
                exchange = Exchange(self, proxy.server, proxy._healed)
                fault = proxy._fault_for(exchange.operation)
                if fault:
                    fault(exchange)
                else:
                    answer = proxy.answers[exchange.operation] = exchange.forward()
                    exchange.answer(answer)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay  # noqa: N815 - the base class's names

        self._http = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        """The address that clients take as `endpoint_url`."""
        return f"http://{LOOPBACK}:{self._http.server_address[1]}"

    def spoil(self, operation: str, fault: Fault, *, skip: int = 0, times: int | None = 1) -> None:
        """Spoil the next requests of a kind but the first few; None spoils all from then on."""
        with self._lock:
            self._healed.clear()
            self._orders.append(_Order(operation, fault, skip, times))

    def heal(self) -> None:
        """Spoil nothing any more, and let go what stands still."""
        with self._lock:
            self._orders.clear()
            self._healed.set()

    def close(self) -> None:
        """Let go what stands still, and stop to listen."""
        self.heal()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fault_for(self, operation: str) -> Fault | None:
        with self._lock:
            self.passed[operation] += 1
            for order in self._orders:
                if order.operation != operation or order.times == 0:
                    continue
                if order.skip:
                    order.skip -= 1
                    continue
                order.times = None if order.times is None else order.times - 1
                self.spoiled[operation] += 1
                return order.fault
        return None


def operation_of(method: str, target: str) -> str:
    """Name a request as S3's own documentation does."""
    parts = urlsplit(target)
    _, _, key = parts.path.lstrip("/").partition("/")
    asked = parse_qs(parts.query, keep_blank_values=True)
    if "uploads" in asked or "uploadId" in asked:
        kinds = {"PUT": "UploadPart", "DELETE": "AbortMultipartUpload", "GET": "ListMultipartUploads"}
        return kinds.get(method) or ("CreateMultipartUpload" if "uploads" in asked else "CompleteMultipartUpload")
    if method == "GET" and not key:
        return "ListObjectsV2" if "list-type" in asked else "GetBucket"
    return f"{method.title()}{'Object' if key else 'Bucket'}"
