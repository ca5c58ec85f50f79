"""aider: `aider --message-file`. Options: files (names that it may edit), arguments. It prints tokens and cost as text.

The text is a file that it reads: `--read`.
"""

from __future__ import annotations

import re

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, further, model
from assay.runtime.agents.told import Printed, Told, failed, is_infra, last_line

_TOKENS = re.compile(r"Tokens: ([\d.,]+[kM]?) sent,(?:.*?,)? ?([\d.,]+[kM]?) received")
_COST = re.compile(r"Cost: \$([\d.,]+) (?:message|request)")
_ERROR = re.compile(r"^.*(?:litellm\.\w*Error|\w*APIError|\w*Exception):.*$", re.MULTILINE)
_SCALE = {"k": 1_000, "M": 1_000_000}


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    return (
        *("aider", "--message-file", "{prompt_file}", "--read", "{text_file}", "--yes-always", "--no-git"),
        *("--no-auto-commits", "--no-check-update", "--no-show-release-notes", "--analytics-disable"),
        *("--no-pretty", "--no-stream", "--no-suggest-shell-commands"),
        *("--chat-history-file", "{home}/aider.md", "--input-history-file", "{home}/aider.input"),
        *model(agent, "--model"),
        *further(agent),
        *(str(f) for f in agent.options.get("files") or ()),
    )


def read(printed: Printed) -> Told:
    """Each message tells its tokens. It exits with 0 when its model does not answer, so errors are looked for."""
    sent = [_number(a) for a, _ in _TOKENS.findall(printed.output)]
    received = [_number(b) for _, b in _TOKENS.findall(printed.output)]
    costs = [float(c.replace(",", "").rstrip(".") or 0) for c in _COST.findall(printed.output)]
    errors = _ERROR.findall(printed.output)
    why = ""
    if not sent:
        why = next((e for e in errors if is_infra(e)), errors[-1] if errors else "")
    if printed.exit_code and not why:
        why = last_line(printed.output)
    return Told(
        status=failed(why) if why else "ok" if sent else "",
        final_text=printed.output,
        input_tokens=sum(sent) if sent else None,
        output_tokens=sum(received) if received else None,
        cost=sum(costs) if costs else None,
        error=why,
    )


def _number(text: str) -> int:
    scale = _SCALE.get(text[-1], 1)
    try:
        return round(float(text.rstrip("kM").replace(",", "")) * scale)
    except ValueError:
        return 0


PRESET = Preset(
    "aider",
    _command,
    read,
    version_command=("aider", "--version"),
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"),
)
