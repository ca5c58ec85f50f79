"""Just enough of the protobuf wire format to read the records of TensorBoard and W&B without their libraries."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Field = tuple[int, int, bytes | int]
"""Number of the field, wire type, and its value: bytes for types 1, 2 and 5, a whole number for type 0."""


def fields(data: bytes) -> Iterator[Field]:
    """The fields of one message, in order.

    Raises:
        ValueError: if the bytes are no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field without a number")
        if kind == 0:
            value: bytes | int
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("a field ends beyond its message")
        yield number, kind, data[at : at + length]
        at += length


def text(value: bytes | int) -> str:
    """A text field."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def double(value: bytes | int) -> float:
    """A fixed 64-bit field as a double, a fixed 32-bit one as a float.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(value, bytes) or len(value) not in (4, 8):
        raise ValueError("no floating-point field")
    return float(struct.unpack("<f" if len(value) == 4 else "<d", value)[0])


def signed(value: bytes | int) -> int:
    """A varint as a signed 64-bit number.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, bytes):
        raise ValueError("no whole number")  # noqa: TRY004 - the bytes are wrong, not the caller
    return value - (1 << 64) if value >= 1 << 63 else value


def message(value: bytes | int) -> bytes:
    """A field that is a message of its own.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, bytes):
        raise ValueError("no message")  # noqa: TRY004 - the bytes are wrong, not the caller
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
