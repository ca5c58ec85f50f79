"""The real command line, killed by itself with SIGKILL at a moment that is no event of the ledger.

`python killed.py before|torn|after K ARGUMENTS...`: at the K-th line that this process writes to a journal of agent runs
or to the record of a search; `torn` leaves half of the line. `python killed.py put-before|put-after K ARGUMENTS...`: at
the K-th file that is put into a user's folder.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from assay.adapters.build.search.record import Record
from assay.cli import main
from assay.runtime import owned_file
from assay.runtime.agents.journal import RunJournal


def die() -> None:
    """As kill -9 does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm_journals(when: str, number: int) -> None:
    """Make both journals deadly."""
    written = 0

    def deadly(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(self: Any, *given: Any) -> None:
            nonlocal written
            written += 1
            if written == number and when == "before":
                die()
            if written == number and when == "torn":
                with self.path.open("ab") as file:
                    file.write(b'{"task": "gre')
                die()
            write(self, *given)
            if written == number:
                die()

        return wrapped

    RunJournal._write = deadly(RunJournal._write)  # type: ignore[method-assign]
    Record.write = deadly(Record.write)  # type: ignore[method-assign]


def arm_put(when: str, number: int) -> None:
    """Make the exchange of a user's file deadly."""
    put, done = owned_file.put, 0

    def deadly(*given: Any, **named: Any) -> None:
        nonlocal done
        done += 1
        if done == number and when == "put-before":
            die()
        put(*given, **named)
        if done == number:
            die()

    owned_file.put = deadly


if __name__ == "__main__":
    (arm_put if sys.argv[1].startswith("put") else arm_journals)(sys.argv[1], int(sys.argv[2]))
    main(sys.argv[3:])
