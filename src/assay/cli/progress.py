"""Live progress on stderr: a rich display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from assay.core.decision import Decision, GateLine
from assay.core.vocabulary import Outcome, Status
from assay.engine.observer import Observer, Progress
from assay.report.decision import COLOUR, is_reading, launched

STYLE = {
    Status.PASS: "green",
    Status.FAIL: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.ERROR: "magenta",
    Outcome.ACCEPT: "bold green",
    Outcome.REGRESSION: "bold red",
    Outcome.NO_GAIN: "bold red",
    Outcome.INFEASIBLE: "bold red",
    Outcome.INCONCLUSIVE: "bold yellow",
    Outcome.ANOMALOUS: "bold magenta",
}
MARK = {Status.PASS: "✓", Status.FAIL: "✗", Status.INCONCLUSIVE: "?", Status.ERROR: "!"}
NOTE_EVERY_S = 5.0
WARNING = "warning: "
"""How a note begins that must not be lost among others."""


@contextmanager
def observer(console: Console | None = None) -> Iterator[Observer]:
    """The display that fits where stderr goes."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Unread(PlainLines())
        return
    display = LiveDisplay(console)
    live = Live(display, console=console, refresh_per_second=8, transient=True)
    live.start()
    try:
        yield Unread(display)
    finally:
        with suppress(OSError, ValueError):
            live.stop()


class Unread:
    """A display whose terminal may be closed, or whose reader may be gone: a study does not end for that."""

    def __init__(self, display: Observer) -> None:
        self._display = display

    def tell(self, progress: Progress) -> None:
        """Show it, if anybody looks."""
        with suppress(OSError, ValueError):
            self._display.tell(progress)


class PlainLines:
    """One line for each thing that happened; notes at most every few seconds."""

    def __init__(self) -> None:
        self._noted = 0.0

    def tell(self, progress: Progress) -> None:
        """Print it."""
        line = _line(progress)
        if progress.kind == "note" and not progress.message.startswith(WARNING):
            if time.monotonic() - self._noted < NOTE_EVERY_S:
                return
            self._noted = time.monotonic()
        if line is not None:
            print(line.plain, file=sys.stderr, flush=True)


class LiveDisplay:
    """Finished lines scroll by above; the running step stays below with its bar, elapsed and remaining time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = ""
        self._started = 0.0
        self._note = ""
        self._done: float | None = None
        self._seen_s: dict[str, float] = {}
        self._spinner = Spinner("dots")

    def tell(self, progress: Progress) -> None:
        """Show it."""
        if progress.kind == "step":
            self._step, self._note, self._done = progress.step, "", None
            self._started = time.monotonic()
            return
        if progress.kind == "note" and not progress.message.startswith(WARNING):
            self._note, self._done = progress.message, progress.done
            return
        if progress.kind == "step_done" and progress.wall_s is not None:
            self._seen_s[_kin(progress.step)] = progress.wall_s
            self._step = ""
        line = _line(progress)
        if line is not None:
            self._console.print(line)

    def __rich__(self) -> Group | Text:
        """The running step: one line with its bar, and one with what it said last, cut to the terminal."""
        if not self._step:
            return Text("")
        elapsed = time.monotonic() - self._started
        table = Table.grid(padding=(0, 1))
        for _ in range(4):
            table.add_column(no_wrap=True)
        bar = _bar(self._done) if self._done is not None else Text("")
        eta = self._remaining(elapsed)
        left = Text(
            f"{_duration(elapsed)}" + (f", about {_duration(eta)} to go" if eta is not None else ""),
            style="dim",
        )
        table.add_row(self._spinner, Text(self._step, style="bold"), bar, left)
        note = " ".join(self._note.split())
        return Group(table, Text(f"  {note}", style="dim", no_wrap=True, overflow="ellipsis"))

    def _remaining(self, elapsed: float) -> float | None:
        """By the share done once there is one, else by how long such a step took before."""
        if self._done and self._done > 0.05:
            return elapsed / self._done - elapsed
        before = self._seen_s.get(_kin(self._step))
        return max(0.0, before - elapsed) if before else None


def _duration(seconds: float) -> str:
    """Short, for a display that is drawn again and again."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _kin(step: str) -> str:
    """Baseline and candidate evaluation take about the same time."""
    return "evaluate" if step == "baseline" else step


def _bar(done: float, width: int = 24) -> Text:
    filled = round(width * min(1.0, done))
    return Text("━" * filled, style="cyan") + Text("━" * (width - filled), style="bright_black")


def _line(progress: Progress) -> Text | None:
    match progress.kind:
        case "study" if progress.study:
            return Text(f"{progress.study.id}: {progress.study.question}", style="bold")
        case "trial":
            return Text(f"\n▸ {progress.candidate}", style="bold")
        case "step":
            return Text(f"  {progress.step} ...", style="dim")
        case "note" if progress.message.startswith(WARNING):
            return Text(f"  {progress.message}", style="yellow")
        case "note" if progress.message:
            share = f" {progress.done:.0%}" if progress.done is not None else ""
            return Text(f"    {progress.message}{share}", style="dim")
        case "reused":
            return Text(f"  {progress.step:<15} {progress.message}", style="dim")
        case "step_done":
            return Text(f"  {progress.step:<15} {progress.wall_s or 0:.1f} s")
        case "retry":
            return Text(f"  {progress.step}: {progress.message}", style="yellow")
        case "gate" if progress.line and not is_reading(
            progress.line
        ):  # of a reading the Decision says the same
            return _gate(progress.line)
        case "decision" if progress.decision:
            return _decision(progress.decision)
        case "apply":
            return Text(f"  applied {progress.candidate}", style="green")
    return None


def _gate(line: GateLine) -> Text:
    status = line.status or Status.ERROR
    text = Text("  ")
    text.append(f"{MARK[status]} {line.gate:<18}", style=STYLE[status])
    return text.append(line.detail, style="dim")


def _decision(decision: Decision) -> Text:
    word, sentence = "interrupted" if decision.interrupted else decision.outcome.value, decision.sentence
    style = STYLE[decision.outcome]
    if not decision.interrupted and (launch := launched(decision.gates)) is not None:
        word, sentence = launch
        style = COLOUR[word]
    return Text("  ").append(word, style=style).append(f"  {decision.candidate}: {sentence}")
