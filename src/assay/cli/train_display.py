"""What `assay train` shows while a command trains: its output, and the state of the experiment."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

FIRST_LINE_S, GROWTH, LONGEST_S = 2.0, 1.6, 60.0
"""Lines of progress come after 2 s, then ever more rarely, and at least once a minute."""


@contextlib.contextmanager
def display(log: Any, *, quiet: bool = False, live: bool = True, dashboard: bool = False) -> Iterator[Any]:
    """A footer below the scrolling output on a terminal, else plain lines; both on stderr.

    Args:
        log: the command's output (`live.following.FollowText`).
        quiet: leave the command's output out.
        live: False asks for plain lines on a terminal too.
        dashboard: show the picture of `assay watch` instead of a footer.
    """
    if not sys.stderr.isatty() or not live:
        yield Plain(log, quiet=quiet)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as shown:
        yield Footer(log, console, shown, quiet=quiet, dashboard=dashboard)


class Plain:
    """The command's output as it comes, and our lines between."""

    def __init__(self, log: Any, *, quiet: bool) -> None:
        self._log, self._quiet = log, quiet
        self._at_start = True
        self._gap_s = FIRST_LINE_S
        self._told_at = time.monotonic()
        self._told: tuple[object, ...] = ()

    def say(self, line: str) -> None:
        """A line of ours."""
        from assay.report._view.text import one_line

        self._write(("" if self._at_start else "\n") + f"assay: {one_line(line, 500)}\n")

    def update(self, supervisor: Any) -> None:
        """Show what the command printed since, and now and then how far it is."""
        if not self._quiet:
            while text := self._log.new():
                self._write(text)
        if time.monotonic() - self._told_at >= self._gap_s:
            self._progress(supervisor)

    def _progress(self, supervisor: Any) -> None:
        from assay.cli.dashboard import plain_line

        frame = supervisor.story.frame(time.time())
        told = (frame.progress.done, frame.state)
        if not frame.metrics or told == self._told:
            return
        self._told, self._told_at = told, time.monotonic()
        self._gap_s = min(LONGEST_S, self._gap_s * GROWTH)
        self.say(plain_line(frame))

    def _write(self, text: str) -> None:
        self._at_start = text.endswith("\n")
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Footer:
    """On a terminal: the output scrolls by above, progress and alerts stay below."""

    def __init__(self, log: Any, console: Any, live: Any, *, quiet: bool, dashboard: bool = False) -> None:
        self._log, self._console, self._live, self._quiet = log, console, live, quiet
        self._dashboard = dashboard
        self._rest = ""

    def say(self, line: str) -> None:
        """A line of ours."""
        from rich.text import Text

        from assay.report._view.text import one_line

        style = (
            "bold red" if line.startswith("critical") else "yellow" if line.startswith("warning") else "dim"
        )
        self._console.print(Text(f"assay: {one_line(line, 500)}", style=style))

    def update(self, supervisor: Any) -> None:
        """Show what the command printed since, and the newest state."""
        from rich.text import Text

        from assay.cli.dashboard import footer, picture

        while not self._quiet and (text := self._log.new()):
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                # A progress bar rewrites its line: its last state is enough.
                self._console.print(Text.from_ansi(line.rstrip("\r").rpartition("\r")[2]), soft_wrap=True)
        seen = supervisor.seen
        frame = supervisor.story.frame(time.time(), None if seen is None else seen.alive or None)
        shown = picture if self._dashboard else footer
        self._live.update(shown(frame, self._console.width), refresh=True)
