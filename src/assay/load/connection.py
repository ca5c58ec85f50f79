"""Connections: one request at a time on each, kept open between requests, stamped when bytes arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from urllib.parse import urlsplit

from assay.core.errors import UsageError
from assay.core.load import RequestError
from assay.load.http1 import ProtocolError, Response
from assay.load.loop import MeasuringLoop
from assay.load.reply import Reply, http_error
from assay.load.sse import EventStream

READ_BYTES = 256 * 1024
MOST_GONE = 3
"""Kept connections found closed, after which none is kept any more (llama.cpp closes each after a stream)."""
MOST_ERROR_BYTES = 64 * 1024
MOST_DEFERRED = 32
"""Pieces of one stream that are parsed together at most."""


class Exchange:
    """One request and its answer. Stamps are nanoseconds on the monotonic clock."""

    __slots__ = (
        "_backlog", "_body", "_defer", "_events", "end_ns", "finished", "reply", "response", "sent_ns", "streamed",
    )  # fmt: skip

    def __init__(self, finished: asyncio.Future[None], *, keep_text: bool) -> None:
        self.finished = finished
        self.reply = Reply(keep_text=keep_text)
        self.response = Response()
        self.sent_ns: int | None = None
        self.end_ns: int | None = None
        self.streamed = False
        self._events = EventStream()
        self._body = b""
        self._backlog: list[tuple[bytes, int, int]] = []
        self._defer = False

    @property
    def body(self) -> bytes:
        """The body of an answer that is no stream."""
        return self._body

    def feed(self, data: bytes, stamp_ns: int, read_ns: int) -> None:
        r"""Take bytes that arrived. Whole pieces of a stream that go on are kept with their stamps and parsed together.

        A read that ends in the end of an event and of a chunk (`\n\n\r\n`) cannot be the end of a chunked body,
        which is `\r\n\r\n`: nothing in it needs an answer now, and parsing in a row is twice as cheap.

        Args:
            data: what one read gave.
            stamp_ns: when the system reported that something had come: what stands first in the read had come by then.
            read_ns: when it was read: everything else in it may have come in between.

        Raises:
            ProtocolError: if they are no HTTP.
        """
        if self._defer and data.endswith(b"\n\n\r\n") and len(self._backlog) < MOST_DEFERRED:
            self._backlog.append((data, stamp_ns, read_ns))
            return
        self.catch_up()
        self._parse(data, stamp_ns, read_ns)

    def catch_up(self) -> None:
        """Parse what was put off.

        Raises:
            ProtocolError: if it is no HTTP.
        """
        backlog, self._backlog = self._backlog, []
        for data, stamp_ns, read_ns in backlog:
            self._parse(data, stamp_ns, read_ns)

    def _parse(self, data: bytes, stamp_ns: int, read_ns: int) -> None:
        response = self.response
        begun = response.begun
        body = response.feed(data)
        if not begun:
            stamp_ns = read_ns  # the head stands first
        if not begun and response.begun:
            kind = response.headers.get("content-type", "").lower()
            # Some servers forget the type of their streams: only JSON is no stream.
            self.streamed = response.status == 200 and "json" not in kind
            self._defer = self.streamed and "transfer-encoding" in response.headers
        if self.streamed:
            take = self.reply.take
            for event in self._events.feed(body):
                take(event, stamp_ns)
                stamp_ns = read_ns
        elif len(self._body) < MOST_ERROR_BYTES or response.status == 200:
            self._body += body
        if response.done:
            self._complete(read_ns)

    def lost(self, stamp_ns: int) -> None:
        """The connection is closed."""
        if self.finished.done():
            return
        try:
            self.catch_up()
        except ProtocolError as error:
            self.fail(RequestError.PROTOCOL, str(error), stamp_ns)
            return
        if self.response.end() or (self.streamed and self.reply.done):
            self._complete(stamp_ns)
        else:
            self.fail(RequestError.RESET, "the connection broke before the answer ended", stamp_ns)

    def fail(self, error: RequestError, detail: str, stamp_ns: int) -> None:
        """End it with an error."""
        if not self.finished.done():
            with contextlib.suppress(ProtocolError):
                self.catch_up()  # what came before the failure is part of the record
        if not self.finished.done():
            self.reply.fail(error, detail)
            self.end_ns = stamp_ns
            self.finished.set_result(None)

    def _complete(self, stamp_ns: int) -> None:
        if self.finished.done():
            return
        if self.streamed:
            for event in self._events.end():
                self.reply.take(event, stamp_ns)
        elif self.response.status == 200:
            # A server that ignores `stream`: everything comes at once, and so does its first token.
            self.reply.take(self._body, stamp_ns)
        else:
            self.reply.fail(*http_error(self.response.status, self._body))
        if not self.reply.pieces:
            self.reply.fail(RequestError.EMPTY, "the answer holds no text")
        self.end_ns = stamp_ns
        self.finished.set_result(None)


class Connection(asyncio.BufferedProtocol):
    """One connection. The buffer is shared by all: what is read is taken out of it at once."""

    def __init__(self, pool: Pool, sock: socket.socket) -> None:
        self._pool = pool
        self._socket = sock
        self._fd = sock.fileno()
        self._buffer = pool.buffer
        self._view = memoryview(pool.buffer)
        self._selector = pool.loop.stamps
        self._exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self.used = 0
        """Requests sent on it."""

    @property
    def open(self) -> bool:
        """Whether it can take a request."""
        return self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes, exchange: Exchange) -> None:
        """Send a request whose answer goes to an exchange."""
        assert self.transport is not None
        self._exchange = exchange
        self.used += 1
        exchange.sent_ns = time.perf_counter_ns()
        self.transport.write(request)

    def abort(self) -> None:
        """Close it now."""
        self._exchange = None
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not self._pool.encrypted:
            self._selector.read_with(self._fd, self._read)

    def _read(self) -> bool | None:
        """Read without the loop. The end of the stream and errors are the transport's business."""
        try:
            number = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            return None
        if number == 0:
            return None
        busy = self._exchange is not None
        self.buffer_updated(number)
        return not busy or self._exchange is None

    def get_buffer(self, sizehint: int) -> bytearray:
        """asyncio: where bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes came."""
        exchange = self._exchange
        if exchange is None:
            self.abort()  # nobody asked: the connection is in no known state
            return
        stamp = self._selector.stamp_ns
        try:
            exchange.feed(bytes(self._view[:nbytes]), stamp, time.perf_counter_ns())
        except ProtocolError as error:
            exchange.fail(RequestError.PROTOCOL, str(error), stamp)
            self.abort()
            return
        if exchange.end_ns is not None:
            self._release(exchange)

    def eof_received(self) -> bool:
        """asyncio: the server will send no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is closed."""
        exchange, self._exchange = self._exchange, None
        self._selector.forget(self._fd)
        self._pool.forget(self)
        if exchange is not None:
            exchange.lost(self._selector.stamp_ns)

    def _release(self, exchange: Exchange) -> None:
        self._exchange = None
        if exchange.response.done and exchange.response.keep_alive:
            self._pool.give_back(self)
        elif self.transport is not None:
            self.transport.close()


class Pool:
    """Connections to one server.

    Args:
        base_url: up to and including `/v1`.
        loop: the loop that they live on.
        reuse: keep connections open between requests.
    """

    def __init__(self, base_url: str, loop: MeasuringLoop, *, reuse: bool = True) -> None:
        parts = urlsplit(base_url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError(
                "no address of a server",
                where=base_url,
                allowed="http(s)://host[:port]/v1, no password or query",
            )
        self.loop = loop
        self.buffer = bytearray(READ_BYTES)
        self.host = parts.hostname
        self.port = port or (443 if parts.scheme == "https" else 80)
        self.authority = parts.netloc
        self.path = parts.path.rstrip("/")
        self.opened = 0
        """Connections made so far."""
        self.gone = 0
        """Kept connections that the server had closed."""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._reuse = reuse
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._address: tuple[socket.AddressFamily, tuple[str, int]] | None = None

    @property
    def encrypted(self) -> bool:
        """Whether bytes go through TLS, which the loop's transports do."""
        return self._tls is not None

    def idle(self) -> Connection | None:
        """A connection that stands, or None."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def connect(self) -> Connection:
        """A new connection.

        Raises:
            OSError: if there is none to be had.
        """
        if self._address is None:
            found = await self.loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            self._address = (found[0][0], found[0][4][:2])  # type: ignore[assignment]
        family, address = self._address  # type: ignore[misc]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        name = self.host if self._tls else None
        _, connection = await self.loop.create_connection(
            lambda: Connection(self, sock), sock=sock, ssl=self._tls, server_hostname=name
        )
        self._all.add(connection)
        self.opened += 1
        return connection

    async def open(self, number: int) -> None:
        """Have a number of connections ready, a few at a time: a burst of them would be our own lateness."""
        missing = number - len(self._idle)
        for at in range(0, missing, 16):
            batch = [self.connect() for _ in range(min(16, missing - at))]
            for made in await asyncio.gather(*batch, return_exceptions=True):
                if isinstance(made, Connection):
                    self._idle.append(made)

    def found_gone(self) -> None:
        """A kept connection turned out to be closed. A server that does so each time gets a new one each time."""
        self.gone += 1
        if self.gone >= MOST_GONE:
            self._reuse = False

    def give_back(self, connection: Connection) -> None:
        """A connection whose answer is complete."""
        if self._reuse:
            self._idle.append(connection)
        elif connection.transport is not None:
            connection.transport.close()

    def forget(self, connection: Connection) -> None:
        """A connection that is closed."""
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def close(self) -> None:
        """Close all of them now."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
