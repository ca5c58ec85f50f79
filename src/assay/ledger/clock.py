"""Wall-clock time as the ledger writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """UTC now, ISO 8601 with microseconds and a trailing Z."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
