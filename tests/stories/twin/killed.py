"""The real command line, killed by itself with SIGKILL right after (or right before) the k-th event of the ledger.

`python killed.py after|before K ARGUMENTS-OF-ASSAY...`: K counts the events that this process appends, from 1 on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from assay.cli import main
from assay.core.events import Event, EventType
from assay.ledger.sqlite import SqliteLedger


def arm(when: str, number: int) -> None:
    """Make the ledger deadly."""
    append = SqliteLedger.append
    appended = 0

    def deadly(self: SqliteLedger, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        nonlocal appended
        appended += 1
        if appended == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        event = append(self, type, study, data)
        if appended == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return event

    SqliteLedger.append = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    main(sys.argv[3:])
