"""Signals that wait: what is in the ledger must be in memory too before an interruption is dealt with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from assay.core.errors import Interrupted

_held = 0
_waiting: Interrupted | None = None


def interrupt(error: Interrupted) -> None:
    """For the handler of a signal: raise now, or when what must not be cut in two is done.

    Raises:
        Interrupted: unless it is held.
    """
    global _waiting  # noqa: PLW0603 - a signal belongs to the process
    if not _held:
        raise error
    _waiting = error


@contextmanager
def held() -> Iterator[None]:
    """Whatever interrupts the block does so at its end.

    Raises:
        Interrupted: at the end, if it came meanwhile.
    """
    global _held, _waiting  # noqa: PLW0603 - a signal belongs to the process
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        error, _waiting = (_waiting, None) if not _held else (None, _waiting)
        if error is not None:
            raise error
