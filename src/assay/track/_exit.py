"""What a script leaves behind when it ends: on an exception, and when the interpreter shuts down."""

from __future__ import annotations

import atexit
import contextlib
import sys
from types import TracebackType
from typing import Any

_runs: list[Any] = []
_installed = False
_error: BaseException | None = None
_code: int | None = None
INTERRUPT = ("user", "interrupted (Ctrl-C)")
"""Who asked for the end, and why, where a script is ended by KeyboardInterrupt."""


def watch(run: Any) -> None:
    """End this run when the script ends, if the script does not."""
    global _installed  # noqa: PLW0603 - one hook a process
    for other in tuple(_runs):
        # A script with many experiments: what comes now is not about one that has ended.
        if other.why_disabled == "ended":
            other.end_attempt("exited", None)
            _runs.remove(other)
    _runs.append(run)
    if _installed:
        return
    _installed = True
    atexit.register(_at_exit)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):
            if error.__traceback__ is None:
                error = error.with_traceback(trace)
            _fail(error)
        before(kind, error, trace)

    sys.excepthook = hook


def _fail(error: BaseException) -> None:
    global _error  # noqa: PLW0603 - as above
    _error = error
    for run in tuple(_runs):
        run.fail(error)


def _at_exit() -> None:
    with contextlib.suppress(Exception):
        _look_for_an_error()
    for run in tuple(_runs):
        with contextlib.suppress(Exception):
            run.finish_unasked()
            run.end_attempt(*_ending())
    _runs.clear()


def _look_for_an_error() -> None:
    """Somebody replaced our hook (rich does); Python itself keeps the error that ended the script."""
    if _error is None and not hasattr(sys, "ps1") and not sys.flags.interactive:
        last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if isinstance(last, BaseException):
            _fail(last)


def _ending() -> tuple[str, int | None, str | None]:
    """Outcome, exit code and signal, as far as a process can know of itself."""
    if isinstance(_error, KeyboardInterrupt):
        return "stopped", None, "SIGINT"  # Python ends itself by that signal
    if _error is not None:
        return "crashed", 1, None
    return ("exited" if _code in (0, None) else "crashed"), _code, None


def leaving(error: SystemExit) -> None:
    """`sys.exit` was called inside a block of a run: its code is the attempt's, if the process ends by it."""
    global _code  # noqa: PLW0603 - as above
    _code = error.code if isinstance(error.code, int) else int(error.code is not None)
