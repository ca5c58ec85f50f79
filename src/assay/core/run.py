"""Run: one real execution of a command, and what is known about it afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from assay.core.base import Noun


class Work(Noun):
    """A command to be run: what an adapter asks the `execute` port for."""

    label: str
    command: tuple[str, ...] = Field(min_length=1)
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the inherited environment."""
    cwd: str
    log: str
    """File that receives stdout and stderr."""
    timeout_s: float | None = Field(default=None, gt=0)
    """None = until cancelled, as a server runs."""


class Run(Noun):
    """One execution. A run is never reused silently: a resumed study shows which it kept."""

    label: str
    command: tuple[str, ...]
    cwd: str
    log: str
    pid: int | None = None
    started: str
    """UTC, ISO 8601."""
    wall_s: float | None = None
    exit_code: int | None = None
    """Negative = ended by that signal, as `subprocess` reports it."""
    timed_out: bool = False
    cancelled: bool = False
    """Ended by us: the exit code says nothing about the command."""
    log_tail: str = ""
