"""Work to its end: through the `execute` port of a session, or under a guard alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assay.core.errors import ComponentFailed
from assay.core.ports import Session
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.runtime import process

POLL_S = 0.5


def run_to_end(session: Session, work: Work, meanwhile: Callable[[], None] | None = None) -> Run:
    """Run the work to its end; whatever interrupts us ends it.

    Args:
        session: lends the execution.
        work: the command.
        meanwhile: called about every half second while it runs, to tell how far it is.

    Raises:
        ComponentMissing: if the program does not exist.
    """
    handle = session.execute.submit(work)
    try:
        while (run := session.execute.poll(handle, POLL_S)).wall_s is None:
            if meanwhile is not None:
                meanwhile()
    except BaseException:
        session.execute.cancel(handle)
        raise
    return run


def guarded_to_end(work: Work, status: Path) -> Run:
    """Run the work to its end without a session, under a guard of its own; whatever interrupts us ends it.

    Args:
        work: the command, with its time limit.
        status: file of the guard's record.

    Raises:
        ComponentMissing: if the program does not exist.
        ComponentFailed: if nobody knows how it ended.
    """
    grace = process.Grace()
    guarded = process.start(work, status, grace)
    try:
        while not process.wait(guarded, POLL_S):
            pass
    except BaseException:
        process.stop_guard(guarded.guard, grace)
        raise
    written = process.read_status(status)
    if written is None:
        raise ComponentFailed(
            "nobody knows how the command ended",
            failure_class=FailureClass.INFRA_TRANSIENT,
            where=work.label,
        )
    return process.run_of(written, lost=written["ended"] is None)
