"""A unified diff of two files' bytes that `patch -p1` and `git apply` take, whatever the bytes are."""

from __future__ import annotations

import difflib

NO_NEWLINE = b"\\ No newline at end of file\n"
_ESCAPES = {
    0x07: "a",
    0x08: "b",
    0x09: "t",
    0x0A: "n",
    0x0B: "v",
    0x0C: "f",
    0x0D: "r",
    0x22: '"',
    0x5C: "\\",
}


def patch(before: bytes, after: bytes, path: str) -> bytes:
    r"""The patch that makes `after` of `before`; empty if they are equal.

    Only `\n` ends a line, so that carriage returns stay what they are: part of their line.

    Args:
        before: bytes of the old file.
        after: bytes of the new one.
        path: where the file lies below the folder in which the patch is applied, with `/`.
    """
    old, new = _lines(before), _lines(after)
    names = [_name(f"{side}/{path}") for side in "ab"]
    made = []
    # the names are put in by hand: difflib would let a tab or a line end in a name break the header
    for i, line in enumerate(difflib.diff_bytes(difflib.unified_diff, old, new, b"a", b"b", lineterm=b"\n")):
        if i < 2:
            made.append(b"%s %s\n" % (line[:3], names[i]))
        else:
            made.append(line if line.endswith(b"\n") else line + b"\n" + NO_NEWLINE)
    return b"".join(made)


def _lines(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [*(p + b"\n" for p in parts[:-1]), *([parts[-1]] if parts[-1] else [])]


def _name(path: str) -> bytes:
    """A path as git writes it: in quotes where it holds what could be mistaken, a tab behind it where a space."""
    data = path.encode("utf-8", "surrogateescape")
    if any(b < 0x20 or b == 0x7F or b in b'"\\' or b >= 0x80 for b in data):
        return b'"%s"' % "".join(_escaped(b) for b in data).encode()
    return data + b"\t" if b" " in data else data


def _escaped(byte: int) -> str:
    if byte in _ESCAPES:
        return "\\" + _ESCAPES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
