"""Canonical JSON (RFC 8785) and digests. Everything that is hashed is hashed here."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

PREFIX = "sha256:"


def canonical(value: Any) -> bytes:
    """The one byte sequence that stands for a JSON value.

    Raises:
        ValueError: if the value holds NaN, an infinity, an integer beyond 2**53 or a non-JSON type.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise ValueError(f"not canonical JSON: {error}") from error


def digest(value: Any) -> str:
    """`sha256:<hex>` of the canonical form of a JSON value."""
    return PREFIX + hashlib.sha256(canonical(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of raw bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def short(digest_: str, length: int = 12) -> str:
    """The first hex digits of a digest, for people."""
    return digest_.removeprefix(PREFIX)[:length]
