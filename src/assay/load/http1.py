"""HTTP/1.1 responses, byte by byte: any split of the bytes gives the same answer, and bad bytes give one error.

Only what a client that streams needs: status, headers, and a body by length, in chunks, or until the end.
RFC 9112. No continuation lines, no trailers' values, no compression (we ask for `identity`).
"""

from __future__ import annotations

from enum import Enum

MOST_HEAD_BYTES = 64 * 1024
MOST_SIZE_LINE_BYTES = 4096


class ProtocolError(Exception):
    """The bytes are no HTTP/1.1 response."""


class _State(Enum):
    HEAD = 0
    LENGTH = 1
    CHUNK_SIZE = 2
    CHUNK_DATA = 3
    CHUNK_END = 4
    TRAILER = 5
    UNTIL_CLOSE = 6
    DONE = 7


class Response:
    """Reads one response. Feed it what arrives; it returns the body's bytes."""

    __slots__ = ("_left", "_rest", "_state", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """Lower-case names; of a repeated one the last value."""
        self.keep_alive = False
        """Whether the connection may be used again once the response is done."""
        self._state = _State.HEAD
        self._left = 0
        self._rest = b""

    @property
    def begun(self) -> bool:
        """Whether the head is complete."""
        return self._state is not _State.HEAD

    @property
    def untouched(self) -> bool:
        """Whether not a single byte came."""
        return self._state is _State.HEAD and not self._rest

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return self._state is _State.DONE

    def feed(self, data: bytes) -> bytes:
        """Take what arrived and return the bytes of the body in it.

        Raises:
            ProtocolError: if it is no HTTP/1.1 response, or goes on after its end.
        """
        if self._state is _State.HEAD:
            data = self._head(data)
            if not self.begun:
                return b""
        if self._state in (_State.CHUNK_DATA, _State.CHUNK_SIZE, _State.CHUNK_END, _State.TRAILER):
            return self._chunks(data)
        if self._state is _State.UNTIL_CLOSE:
            return data
        if self._state is _State.LENGTH:
            self._left -= len(data)
            if self._left < 0:
                raise ProtocolError("more bytes than Content-Length says")
            if self._left == 0:
                self._state = _State.DONE
            return data
        if data:
            raise ProtocolError("bytes after the end of the response")
        return b""

    def end(self) -> bool:
        """The connection was closed; returns whether the response is complete."""
        if self._state is _State.UNTIL_CLOSE:
            self._state = _State.DONE
        return self.done

    def _head(self, data: bytes) -> bytes:
        self._rest += data
        while True:
            end = self._rest.find(b"\r\n\r\n")
            if end < 0:
                if len(self._rest) > MOST_HEAD_BYTES:
                    raise ProtocolError(f"no end of headers within {MOST_HEAD_BYTES} bytes")
                if not b"HTTP/".startswith(self._rest[:5]):
                    raise ProtocolError(f"no HTTP: {self._rest[:40]!r}")
                return b""
            head, self._rest = self._rest[:end], self._rest[end + 4 :]
            self._parse_head(head)
            if self.status >= 200:
                break
        data, self._rest = self._rest, b""
        self._choose_body()
        return data

    def _parse_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        code = parts[1] if len(parts) > 1 else ""
        if (
            parts[0] not in ("HTTP/1.1", "HTTP/1.0")
            or len(code) != 3
            or not (code.isascii() and code.isdigit())
        ):
            raise ProtocolError(f"no HTTP/1.1 status line: {first[:60]!r}")
        self.status = int(code)
        self.keep_alive = parts[0] == "HTTP/1.1"
        self.headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise ProtocolError(f"no header: {line[:60]!r}")
            self.headers[name.lower()] = value.strip()

    def _choose_body(self) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = (self.keep_alive and "close" not in connection) or "keep-alive" in connection
        coding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self._state = _State.DONE
        elif coding:
            if coding != "chunked":
                raise ProtocolError(f"transfer coding {coding[:40]!r} was not asked for")
            self._state = _State.CHUNK_SIZE
        elif length is None:
            self._state, self.keep_alive = _State.UNTIL_CLOSE, False
        elif not (length.isascii() and length.isdigit() and len(length) < 19):
            raise ProtocolError(f"no Content-Length: {length[:40]!r}")
        else:
            self._left = int(length)
            self._state = _State.LENGTH if self._left else _State.DONE

    def _chunks(self, data: bytes) -> bytes:
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, size, body = 0, len(data), []
        while at < size:
            if self._state is _State.CHUNK_DATA:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                body.append(piece)
                if self._left == 0:
                    self._state = _State.CHUNK_END
                continue
            if self._state is _State.DONE:
                raise ProtocolError("bytes after the end of the response")
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                if len(self._rest) > MOST_SIZE_LINE_BYTES:
                    raise ProtocolError("no end of a chunk's size line")
                break
            self._line(data[at:end])
            at = end + 2
        return body[0] if len(body) == 1 else b"".join(body)

    def _line(self, line: bytes) -> None:
        """One line between chunks: the end of a chunk, the size of the next, or a trailer."""
        if self._state is _State.CHUNK_END:
            if line:
                raise ProtocolError("a chunk is longer than its size")
            self._state = _State.CHUNK_SIZE
        elif self._state is _State.CHUNK_SIZE:
            digits = line.partition(b";")[0].strip(b" \t")
            if not 0 < len(digits) < 16 or digits.strip(b"0123456789abcdefABCDEF"):
                raise ProtocolError(f"no chunk size: {line[:40]!r}")
            self._left = int(digits, 16)
            self._state = _State.CHUNK_DATA if self._left else _State.TRAILER
        elif not line:
            self._state = _State.DONE
