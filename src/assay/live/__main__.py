"""`python -m assay.live DIR`: watch the training whose folder this is, from beside it, until it ends.

For scripts that open an experiment themselves (`assay.experiment(live=True)` starts it). It asks the training to
stop by stop.json and never sends a signal: it did not start that process.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from assay.core.errors import AssayError, UsageError
from assay.live.session import follow, watching
from assay.live.supervisor import Supervisor
from assay.live.watching import Desk
from assay.track import files

USAGE = "python -m assay.live EXPERIMENT_FOLDER [ATTEMPT]"


def main(arguments: list[str]) -> int:
    """Exit code 0 at the end of the attempt, 2 where there is nothing to watch, 6 and 7 as in the command line."""
    # Ctrl-C in a terminal reaches the training and us; the training's last words still have to be read.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        folder, attempt = _chosen(arguments)
        with watching(folder):
            desk = Desk(folder, _say)
            follow(
                Supervisor(
                    folder,
                    attempt,
                    desk.judge,
                    desk.deliver,
                    say=_say,
                    fresh=False,
                    by="python -m assay.live",
                    settle=desk.settle,
                )
            )
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _say(line: str) -> None:
    print(f"assay: {line}", file=sys.stderr, flush=True)


def _chosen(arguments: list[str]) -> tuple[Path, int]:
    if not arguments or len(arguments) > 2 or arguments[0].startswith("-"):
        raise UsageError("which folder?", allowed=USAGE)
    folder = Path(arguments[0])
    started = [e for e in files.read_events(folder) if e["event"] == "attempt_started"]
    numbers = [e["attempt"] for e in started if isinstance(e.get("attempt"), int)]
    if not numbers:
        raise UsageError("no attempt was started here", where=str(folder), allowed=USAGE)
    if len(arguments) == 2 and not arguments[1].isdecimal():
        raise UsageError(f"{arguments[1]!r} is no attempt", allowed=USAGE)
    return folder.absolute(), int(arguments[1]) if len(arguments) == 2 else max(numbers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
