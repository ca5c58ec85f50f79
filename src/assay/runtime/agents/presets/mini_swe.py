"""mini-swe-agent: `mini -t`. Options: cost_limit, config, arguments. Its trajectory tells exit status and cost.

It knows no skills, so the text is put before the task.
"""

from __future__ import annotations

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, further, model, option
from assay.runtime.agents.told import (
    Printed,
    Told,
    amount,
    failed,
    items,
    last_line,
    mapping,
    parsed,
    text_of,
)

_LIMITS = frozenset({"LimitsExceeded", "TimeExceeded"})


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return (
        *("mini", "-t", "{prompt}", "-y", "--exit-immediately", "-o", "{result_file}"),
        *model(agent, "-m"),
        *option(agent, "-l", "cost_limit"),
        *option(agent, "-c", "config"),
        *further(agent),
    )


def read(printed: Printed) -> Told:
    """By the trajectory; one without an exit status was cut short."""
    found = parsed(printed.result.decode("utf-8", "replace")) if printed.result is not None else None
    info = mapping(mapping(found).get("info"))
    messages = [mapping(m) for m in items(mapping(found).get("messages"))]
    ended = text_of(info.get("exit_status"))
    why = ""
    if ended != "Submitted":
        why = ended if ended in _LIMITS else f"{ended} {last_line(printed.output)}".strip()
    return Told(
        status="ok" if ended == "Submitted" else "agent_error" if ended in _LIMITS else failed(why),
        final_text=text_of(info.get("submission")) or printed.output,
        tools=tuple("bash" for m in messages if m.get("role") == "assistant"),
        cost=amount(mapping(info.get("model_stats")).get("instance_cost")),
        error=why,
    )


PRESET = Preset(
    "mini_swe",
    _command,
    read,
    composed=True,
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
    env={"MSWEA_CONFIGURED": "true", "MSWEA_SILENT_STARTUP": "1"},
)
