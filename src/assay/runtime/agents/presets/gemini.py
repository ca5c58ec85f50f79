"""Gemini CLI: `gemini -p`, events as JSON lines. Options: arguments. It tells tokens and no cost.

A skill is laid into the workspace's `.gemini/skills/NAME`, any other text into its `GEMINI.md`.
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
    parsed,
    text_of,
    total,
)

_EXITS = {42: "the input was refused", 53: "the limit of turns was reached"}


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return (
        *("gemini", "-p", "{prompt}", "--output-format", "stream-json", "--approval-mode", "yolo"),
        *model(agent, "-m"),
        *further(agent),
    )


def _deliver(kind: TextKind) -> str:
    return ".gemini/skills/{name}" if kind is TextKind.SKILL else "GEMINI.md"


def read(printed: Printed) -> Told:
    """The result event decides; the one object of `--output-format json` is read as well."""
    said: list[str] = []
    tools: list[str] = []
    result, why = None, ""
    for event in events(printed.output):
        kind = event.get("type")
        if kind == "message" and event.get("role") == "assistant":
            said.append(text_of(event.get("content")))
        elif kind == "tool_use":
            tools.append(text_of(event.get("tool_name")))
        elif kind == "error" and event.get("severity") != "warning":
            why = text_of(event.get("message"))
        elif kind == "result":
            result = event
    if result is None:
        return _whole(printed, tools, why)
    stats, error = mapping(result.get("stats")), mapping(result.get("error"))
    good = result.get("status") == "success"
    why = "" if good else text_of(error.get("message")) or why or _EXITS.get(printed.exit_code or 0, "")
    return Told(
        status="ok" if good else failed(why),
        final_text="".join(said),
        tools=tuple(tools),
        input_tokens=count(stats.get("input_tokens")),
        output_tokens=count(stats.get("output_tokens")),
        error=why,
    )


def _whole(printed: Printed, tools: list[str], why: str) -> Told:
    value = mapping(parsed(printed.output[max(0, printed.output.find("{")) :].strip()))
    if "response" not in value and "error" not in value:
        why = why or _EXITS.get(printed.exit_code or 0, "") or last_line(printed.output)
        return Told(status=failed(why), final_text=printed.output, tools=tuple(tools), error=why)
    stats = mapping(value.get("stats"))
    tokens = [mapping(mapping(m).get("tokens")) for m in mapping(stats.get("models")).values()]
    by_name = mapping(mapping(stats.get("tools")).get("byName"))
    calls = [n for n, t in by_name.items() for _ in range(min(count(mapping(t).get("count")) or 0, 1000))]
    why = text_of(mapping(value.get("error")).get("message"))
    return Told(
        status=failed(why) if "error" in value else "ok",
        final_text=text_of(value.get("response")),
        tools=tuple(calls),
        input_tokens=total([count(t.get("prompt")) for t in tokens]),
        output_tokens=total([count(t.get("candidates")) for t in tokens]),
        error=why,
    )


PRESET = Preset(
    "gemini",
    _command,
    read,
    _deliver,
    version_command=("gemini", "--version"),
    keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
)
