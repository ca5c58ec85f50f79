"""Work to its end, through the `execute` port of a session."""

from __future__ import annotations

from collections.abc import Callable

from assay.core.ports import Session
from assay.core.run import Run, Work

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
