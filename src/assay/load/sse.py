"""Server-sent events, byte by byte: CRLF, CR or LF, comments, events of many lines, any split of the bytes.

https://html.spec.whatwg.org/multipage/server-sent-events.html. One deviation: what stands behind the last blank
line is an event too when the stream ends, since servers forget that line.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class EventStream:
    """Reads the `data` of events. Feed it the body's bytes as they arrive."""

    __slots__ = ("_data", "_fresh", "_rest", "_skip_lf", "comments")

    def __init__(self) -> None:
        self.comments = 0
        """Comment lines seen, such as keep-alives."""
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._skip_lf = False
        self._fresh = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete."""
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            if data:
                self._rest.append(data)
            return []
        if self._rest:
            self._rest.append(data)
            data = b"".join(self._rest)
            self._rest = []
        lines = data.split(b"\n")
        if last := lines.pop():
            self._rest.append(last)
        if self._fresh:
            self._fresh = False
            lines[0] = lines[0].removeprefix(_BOM)
        return self._events(lines)

    def end(self) -> list[bytes]:
        """The stream is over: what is left, if it is an event."""
        line, self._rest = b"".join(self._rest), []
        if self._fresh:
            line = line.removeprefix(_BOM)
        return self._events([line, b""]) if line else self._events([b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        found = []
        for line in lines:
            if not line:
                if self._data:
                    found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")
            elif line[0] == 58:
                self.comments += 1
        return found
