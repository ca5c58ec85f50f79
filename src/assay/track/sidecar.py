"""The checker beside a script that no `assay train` stands above: `python -m assay.live FOLDER ATTEMPT`.

It is a process of its own, so that it sees a hang; it asks for a stop by stop.json and never sends a signal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

END_LIMIT_S = 20.0
"""Reading what was written last takes a second; longer means that it is stuck."""


class Sidecar:
    """One checker of one attempt.

    Args:
        folder: of the experiment.
        attempt: to watch.

    Raises:
        OSError: if no process can be started.
    """

    def __init__(self, folder: Path, attempt: int) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            # -P: a file of the user's folder that is called like a library must not be taken for it.
            [sys.executable, "-P", "-m", "assay.live", str(folder.absolute()), str(attempt)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment(),
        )

    def finish(self, limit_s: float = END_LIMIT_S) -> None:
        """The training has ended, and its end is recorded: let the checker read it, and wait for that."""
        if os.getpid() != self._owner:
            return
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment() -> dict[str, str]:
    """Ours, without what would make a child join the experiment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    house = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([house, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "ASSAY_TRACK": "off", "PYTHONPATH": path}
