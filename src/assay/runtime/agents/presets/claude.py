"""Claude Code: `claude -p`, events as JSON lines. Options: max_turns, max_budget_usd, permission_mode, arguments.

A skill is laid into the workspace's `.claude/skills/NAME`; any other text goes with the system prompt.
"""

from __future__ import annotations

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, further, model, option
from assay.runtime.agents.told import (
    Printed,
    Told,
    amount,
    count,
    events,
    failed,
    is_infra,
    items,
    last_line,
    mapping,
    text_of,
    total,
)


def _command(agent: AgentCommand, kind: TextKind) -> tuple[str, ...]:
    mode = str(agent.options.get("permission_mode", "bypassPermissions"))
    given = () if kind is TextKind.SKILL else ("--append-system-prompt-file", "{text_file}")
    return (
        *("claude", "-p", "{prompt}", "--output-format", "stream-json", "--verbose"),
        *("--permission-mode", mode, "--no-session-persistence", "--strict-mcp-config"),
        *model(agent, "--model"),
        *option(agent, "--max-turns", "max_turns"),
        *option(agent, "--max-budget-usd", "max_budget_usd"),
        *given,
        *further(agent),
    )


def _deliver(kind: TextKind) -> str:
    return ".claude/skills/{name}" if kind is TextKind.SKILL else ""


def read(printed: Printed) -> Told:
    """The result event decides: a failed login has subtype `success` and `is_error`."""
    result = None
    tools: list[str] = []
    for event in events(printed.output):
        if event.get("type") == "assistant":
            blocks = items(mapping(event.get("message")).get("content"))
            calls = [mapping(b) for b in blocks if mapping(b).get("type") == "tool_use"]
            tools += [text_of(c.get("name")) for c in calls]
        elif event.get("type") == "result":
            result = event
    if result is None:
        said = last_line(printed.output)
        return Told(status=failed(said), final_text=printed.output, tools=tuple(tools), error=said)
    usage = mapping(result.get("usage"))
    fresh = [count(usage.get(f"{k}input_tokens")) for k in ("", "cache_creation_", "cache_read_")]
    text, subtype = text_of(result.get("result")), text_of(result.get("subtype"))
    wrong = result.get("is_error") is True or subtype.startswith("error")
    infra = wrong and (result.get("terminal_reason") == "api_error" or is_infra(text))
    return Told(
        status="infra_error" if infra else "agent_error" if wrong else "ok",
        final_text=text,
        tools=tuple(tools),
        input_tokens=total(fresh),
        output_tokens=count(usage.get("output_tokens")),
        cost=amount(result.get("total_cost_usd")),
        error=(text or subtype) if wrong else "",
    )


PRESET = Preset(
    "claude",
    _command,
    read,
    _deliver,
    version_command=("claude", "--version"),
    keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    env={"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
)
