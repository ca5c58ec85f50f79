"""Known agents: a file each, with its command line, where it looks for a text, and how its output is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.core.errors import UsageError
from assay.runtime.agents.told import Printed, Told, read_result

NAMES = ("aider", "claude", "codex", "command", "gemini", "mini_swe", "opencode", "prompt")


def _own(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return agent.command


def _beside(_kind: TextKind) -> str:
    return ""


@dataclass(frozen=True)
class Preset:
    """One agent."""

    name: str
    command: Callable[[AgentCommand, TextKind], tuple[str, ...]] = _own
    """Its command line, placeholders unfilled."""
    read: Callable[[Printed], Told] = read_result
    """What its output says."""
    deliver: Callable[[TextKind], str] = _beside
    """Where in the workspace it looks for a text of that kind; empty = the command line names it."""
    composed: bool = False
    """The text is put before the prompt, because the agent knows no other place for it."""
    version_command: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Variables of which it usually needs one; only those that `agent.env` names are passed."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What is always set."""


def preset(name: str) -> Preset:
    """A known agent.

    Raises:
        UsageError: if there is none of that name.
    """
    if name == "command":
        return Preset("command")
    if name not in NAMES:
        raise UsageError(f"unknown preset {name!r}", where="agent.preset", allowed=", ".join(NAMES))
    found: Preset = importlib.import_module(f"assay.runtime.agents.presets.{name}").PRESET
    return found


def option(agent: AgentCommand, flag: str, name: str) -> tuple[str, ...]:
    """A flag and the option's value where it is given."""
    value = agent.options.get(name)
    return () if value in (None, "", False) else (flag, str(value))


def model(agent: AgentCommand, flag: str) -> tuple[str, ...]:
    """The flag of the model where one is named."""
    return (flag, "{model}") if agent.model else ()


def further(agent: AgentCommand) -> tuple[str, ...]:
    """Arguments that the user adds: option `arguments`."""
    return tuple(str(a) for a in agent.options.get("arguments") or ())
