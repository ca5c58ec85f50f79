"""`assay watch`: a study by its ledger, or a training experiment by its files."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

STUDY_EVERY_S = 0.5
FRAME_EVERY_S = 0.5
RESOLVE_EVERY_S = 2.0
LINGER_S = 2.0
"""The last frame of an ended experiment stays this long before the next one is looked for."""


@click.command()
@click.argument("name", metavar="[STUDY|EXPERIMENT]", required=False)
@click.option("--once", is_flag=True, help="Print one frame of the experiment and leave.")
@click.option(
    "--follow/--no-follow",
    default=None,
    help="Go on to the next experiment when one ends. Default: yes on a terminal when no name is given.",
)
def watch(name: str | None, once: bool, follow: bool | None) -> int:
    """Follow a study or a training experiment that runs in another process, until it ends.

    Without a name: the experiment that trains now, else the newest study.
    """
    from assay.cli.experiment import root_of

    root = root_of(None)
    chosen = _experiment(root, name)
    if chosen is None:
        if once:
            return _nothing(root)
        return _watch_study(name)
    if once:
        return _once(chosen)
    on_terminal = sys.stdout.isatty()
    go_on = (name is None and on_terminal) if follow is None else follow
    watcher = _Terminal(root) if on_terminal else _Lines(root)
    return watcher.run(chosen, follow=go_on)


def _experiment(root: Path, name: str | None) -> Path | None:
    """The experiment that is meant; None if it is a study or nothing."""
    from assay.core.errors import UsageError
    from assay.readers.training import folder_of, resolve_active

    if name is None:
        active = resolve_active(root) if root.is_dir() else None
        if active is None or (_study_is_newer(root / active)):
            return None
        return root / active
    if not root.is_dir() and not Path(name).is_dir():
        return None
    try:
        return folder_of(root, name)
    except UsageError:
        if name.startswith("exp-"):
            raise
        return None


def _study_is_newer(experiment: Path) -> bool:
    """Whether the ledger was written after the experiment's record."""
    from assay.ledger.home import find_home

    try:
        ledger = max(p.stat().st_mtime for p in find_home().glob("ledger.db*"))
        return ledger > max(p.stat().st_mtime for p in experiment.glob("*.json*"))
    except (OSError, ValueError):
        return False


def _nothing(root: Path) -> int:
    from assay.core.errors import UsageError

    raise UsageError("there is no experiment to show", where=str(root), next="`assay train -- COMMAND`")


def _once(folder: Path) -> int:
    from rich.console import Console

    from assay.cli.dashboard import picture
    from assay.live.watched import Watched

    watched = Watched(folder)
    while watched.read():
        pass
    width = shutil.get_terminal_size((100, 40)).columns
    Console(width=width, soft_wrap=False).print(picture(watched.frame(), width))
    return 0


class _Watcher:
    """Follows one experiment after the other.

    Args:
        root: of the experiments.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._resolved = 0.0

    def run(self, folder: Path, *, follow: bool) -> int:
        """Until the experiment has ended, or for good."""
        raise NotImplementedError

    def next(self, current: Path) -> Path:
        """The experiment that should be shown now."""
        from assay.readers.training import resolve_active

        if time.monotonic() - self._resolved < RESOLVE_EVERY_S:
            return current
        self._resolved = time.monotonic()
        active = resolve_active(self.root)
        return self.root / active if active else current


class _Terminal(_Watcher):
    """A dashboard that is drawn again twice a second."""

    def run(self, folder: Path, *, follow: bool) -> int:
        """Until the experiment has ended, or Ctrl-C."""
        from rich.console import Console
        from rich.live import Live

        from assay.cli.dashboard import picture
        from assay.core.errors import Interrupted
        from assay.live.watched import Watched

        console = Console()
        watched, ended_at = Watched(folder), None
        try:
            with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
                while True:
                    frame = watched.frame()
                    live.update(picture(frame, console.width), refresh=True)
                    now = time.monotonic()
                    ended_at = (ended_at or now) if frame.ended else None
                    if ended_at is not None and now - ended_at > LINGER_S:
                        if not follow:
                            return 0
                        following = self.next(watched.folder)
                        if following != watched.folder:
                            watched, ended_at = Watched(following), None
                    time.sleep(FRAME_EVERY_S)
        except Interrupted:
            return 130


class _Lines(_Watcher):
    """Without a terminal: one line for each thing that happened."""

    def run(self, folder: Path, *, follow: bool) -> int:
        """Until the experiment has ended, or for good."""
        from assay.live.watched import Watched

        watched, said = Watched(folder), _Said()
        while True:
            frame = watched.frame()
            for line in said.new(frame):
                click.echo(line)
            if frame.ended:
                if not follow:
                    return 0
                following = self.next(watched.folder)
                if following != watched.folder:
                    watched, said = Watched(following), _Said()
            time.sleep(FRAME_EVERY_S)


class _Said:
    """What was printed of an experiment so far."""

    EVERY_S = 5.0

    def __init__(self) -> None:
        self._state = ""
        self._alerts: dict[str, str] = {}
        self._checkpoints: dict[str, str] = {}
        self._progress_at = 0.0
        self._done = -1

    def new(self, frame: Any) -> list[str]:
        """Lines for what is new in a frame."""
        from assay.cli.dashboard import value
        from assay.report._view.text import one_line

        lines = []
        where = f"{frame.experiment} "
        for alert in frame.alerts:
            if self._alerts.get(alert.id) != alert.state:
                self._alerts[alert.id] = alert.state
                text = f"{alert.severity} {alert.name} {alert.state}: {alert.text}"
                lines.append(where + one_line(text))
        for checkpoint in frame.checkpoints:
            state = checkpoint.failed or checkpoint.verified
            if self._checkpoints.get(checkpoint.name) != state:
                self._checkpoints[checkpoint.name] = state
                word = (
                    f"failed: {checkpoint.failed}"
                    if checkpoint.failed
                    else f"verified ({state})"
                    if state
                    else "written"
                )
                lines.append(f"{where}checkpoint {one_line(checkpoint.name, 60)} {one_line(word)}")
        progress = frame.progress
        if progress.done != self._done and time.monotonic() - self._progress_at > self.EVERY_S:
            self._progress_at, self._done = time.monotonic(), progress.done
            total = f"/{progress.total}" if progress.total else ""
            numbers = " ".join(
                f"{one_line(m.name, 30)} {m.current_text or value(m.current)}" for m in frame.metrics[:4]
            )
            lines.append(f"{where}{progress.unit} {progress.done}{total} {one_line(numbers)}")
        if frame.state != self._state:
            self._state = frame.state
            lines.append(f"{where}{frame.state}" + (f" ({one_line(frame.detail)})" if frame.detail else ""))
        return lines


def _watch_study(name: str | None) -> int:
    from assay.cli.show import _echo_event
    from assay.core.errors import UsageError
    from assay.ledger.home import Home, find_home

    home = Home(find_home(), create=False)
    rows = list(home.ledger.rows())
    if not rows:
        raise UsageError("the ledger is empty", where=str(home.folder), next="`assay run SPEC`")
    known = {row["study"] for row in rows}
    study = name or rows[-1]["study"]
    if study not in known:
        raise UsageError(f"no study {study!r}", allowed=", ".join(sorted(known)), next="`assay ls`")
    seen, ended = 0, False
    while not ended:
        for row in rows:
            seen = row["seq"]
            if row["study"] == study:
                _echo_event(row)
                ended = row["type"] in {"study.closed", "study.interrupted"}
        if not ended:
            time.sleep(STUDY_EVERY_S)
            rows = list(home.ledger.rows(after=seen))
    return 0
