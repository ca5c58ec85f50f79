"""What a script leaves behind when it ends: on an exception, and when the interpreter shuts down."""

from __future__ import annotations

import atexit
import contextlib
import sys
from types import TracebackType
from typing import Any

_runs: list[Any] = []
_installed = False
_crashed = False
_code: int | None = None


def watch(run: Any) -> None:
    """End this run when the script ends, if the script does not."""
    global _installed  # noqa: PLW0603 - one hook a process
    for other in tuple(_runs):
        if (
            other.why_disabled == "ended"
        ):  # a script with many experiments: what comes now is not about that one
            other.end_attempt("exited", None)
            _runs.remove(other)
    _runs.append(run)
    if _installed:
        return
    _installed = True
    atexit.register(_at_exit)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _crashed  # noqa: PLW0603 - as above
        _crashed = True
        with contextlib.suppress(Exception):
            if error.__traceback__ is None:
                error = error.with_traceback(trace)
            for item in tuple(_runs):
                item.fail(error)
        before(kind, error, trace)

    sys.excepthook = hook


def _at_exit() -> None:
    for run in tuple(_runs):
        with contextlib.suppress(Exception):
            run.finish(reason="stopped" if run.should_stop else "completed")
            run.end_attempt("crashed" if _crashed else "exited", 1 if _crashed else _code)
    _runs.clear()


def leaving(error: SystemExit) -> None:
    """`sys.exit` was called inside a block of a run: its code is the attempt's, if the process ends by it."""
    global _code  # noqa: PLW0603 - as above
    _code = error.code if isinstance(error.code, int) else int(error.code is not None)
