"""A plain prompt: one request to an OpenAI-compatible server; the answer is the workspace's `answer.txt`.

Options: as (`system`: the text is the system message; `template`: the text with the task in place of {task}), answer,
temperature, max_tokens, key_env, input_price and output_price (of a million tokens), timeout_s.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.runtime.agents.presets import Preset, option

WORKER = Path(__file__).parents[3] / "workers" / "prompt_agent.py"
_NAMES = ("as", "temperature", "max_tokens", "key_env", "input_price", "output_price", "timeout_s")


def _command(agent: AgentCommand, _kind: TextKind) -> tuple[str, ...]:
    flags = (part for n in _NAMES for part in option(agent, f"--{n.replace('_', '-')}", n))
    return (
        *("{python}", "-S", str(WORKER), "--base-url", "{base_url}", "--model", "{model}"),
        *("--text-file", "{text_file}", "--prompt-file", "{prompt_file}", "--seed", "{seed}"),
        *("--answer", "{workdir}/" + str(agent.options.get("answer", "answer.txt"))),
        *("--result", "{result_file}"),
        *flags,
    )


PRESET = Preset("prompt", _command, keys=("OPENAI_API_KEY",))
