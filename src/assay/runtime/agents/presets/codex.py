"""Codex: `codex exec --json`. Options: sandbox (workspace-write), arguments. It tells tokens and no cost.

A skill is laid into the workspace's `.agents/skills/NAME`, any other text into its `AGENTS.md`.
"""

from __future__ import annotations

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, further, model
from assay.runtime.agents.told import (
    Printed,
    Told,
    count,
    events,
    failed,
    last_line,
    mapping,
    text_of,
    total,
)

_QUIET = frozenset({"agent_message", "reasoning", "error", "todo_list"})


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return (
        *("codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral"),
        *("--sandbox", str(agent.options.get("sandbox", "workspace-write")), "-C", "{workdir}"),
        *model(agent, "-m"),
        *further(agent),
        "{prompt}",
    )


def _deliver(kind: TextKind) -> str:
    return ".agents/skills/{name}" if kind is TextKind.SKILL else "AGENTS.md"


def read(printed: Printed) -> Told:
    """The last turn decides: `error` events before a completed turn are retries, and its exit code is not reliable."""
    said, why, ended = "", "", ""
    tools: list[str] = []
    taken: list[int | None] = []
    given: list[int | None] = []
    for event in events(printed.output):
        kind, item = event.get("type"), mapping(event.get("item"))
        if kind == "item.completed" and item.get("type") == "agent_message":
            said = text_of(item.get("text"))
        elif kind == "item.completed" and text_of(item.get("type")) not in _QUIET:
            tools.append(text_of(item.get("tool")) or text_of(item.get("type")))
        elif kind == "turn.completed":
            usage = mapping(event.get("usage"))
            taken.append(count(usage.get("input_tokens")))
            given.append(count(usage.get("output_tokens")))
            ended = "ok"
        elif kind == "turn.failed":
            ended, why = "failed", text_of(mapping(event.get("error")).get("message"))
        elif kind == "error":
            why = text_of(event.get("message"))
    if ended != "ok":
        why = why or last_line(printed.output)
        ended = failed(why)
    return Told(
        status=ended,
        final_text=said,
        tools=tuple(tools),
        input_tokens=total(taken),
        output_tokens=total(given),
        error="" if ended == "ok" else why,
    )


PRESET = Preset(
    "codex",
    _command,
    read,
    _deliver,
    version_command=("codex", "--version"),
    keys=("CODEX_API_KEY", "OPENAI_API_KEY"),
)
