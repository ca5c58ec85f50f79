"""The console that results are printed on: a file or a pipe gets wide lines, a terminal its own width."""

from __future__ import annotations

from rich.console import Console

PIPE_WIDTH = 120


def result_console() -> Console:
    """A console on stdout."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)
