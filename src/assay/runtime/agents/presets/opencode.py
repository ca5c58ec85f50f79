"""opencode: `opencode run --format json`. Options: arguments. It tells tokens and cost.

A skill is laid into the workspace's `.opencode/skills/NAME`, any other text into its `AGENTS.md`.
"""

from __future__ import annotations

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, further, model
from assay.runtime.agents.told import (
    Printed,
    Told,
    amount,
    count,
    events,
    failed,
    last_line,
    mapping,
    text_of,
    total,
)


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return (
        *("opencode", "run", "--format", "json"),
        *model(agent, "-m"),
        *further(agent),
        "{prompt}",
    )


def _deliver(kind: TextKind) -> str:
    return ".opencode/skills/{name}" if kind is TextKind.SKILL else "AGENTS.md"


def read(printed: Printed) -> Told:
    """Steps are added up; the final text is what the last message said."""
    said: dict[str, str] = {}
    tools: list[str] = []
    costs: list[float] = []
    taken: list[int | None] = []
    given: list[int | None] = []
    why, ended = "", ""
    for event in events(printed.output):
        kind, part = event.get("type"), mapping(event.get("part"))
        if kind == "text":
            message = text_of(part.get("messageID"))
            said = {message: said.get(message, "") + text_of(part.get("text"))}
        elif kind == "tool_use":
            tools.append(text_of(part.get("tool")))
        elif kind == "step_finish":
            tokens = mapping(part.get("tokens"))
            cache = mapping(tokens.get("cache"))
            taken.append(
                total([count(tokens.get("input")), count(cache.get("read")), count(cache.get("write"))])
            )
            given.append(total([count(tokens.get("output")), count(tokens.get("reasoning"))]))
            if (cost := amount(part.get("cost"))) is not None:
                costs.append(cost)
            ended = text_of(part.get("reason")) or "stop"
        elif kind == "error":
            error = event.get("error")
            inner = mapping(error)
            why = (
                text_of(error)
                or text_of(mapping(inner.get("data")).get("message"))
                or text_of(inner.get("message"))
                or text_of(inner.get("name"))
                or "an error without a message"
            )
    if not why and ended in ("", "error"):
        why = last_line(printed.output) or "nothing was told"
    return Told(
        status=failed(why) if why else "ok",
        final_text=next(iter(said.values()), ""),
        tools=tuple(tools),
        input_tokens=total(taken),
        output_tokens=total(given),
        cost=sum(costs) if costs else None,
        error=why,
    )


PRESET = Preset(
    "opencode",
    _command,
    read,
    _deliver,
    version_command=("opencode", "--version"),
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"),
    env={"OPENCODE_CONFIG_CONTENT": '{"permission":"allow","share":"disabled","autoupdate":false}'},
)
