"""The agent of the preset `prompt`: one request to an OpenAI-compatible server, the answer into a file.

Started as ``PYTHON prompt_agent.py --base-url URL --model M --text-file F --prompt-file F --answer F --result F ...``.
The result file is that of all agents: see ``runtime/agents/told.py``. Exit code 0 for an answer, 75 where machine,
network or account are at fault, 1 else. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import _chat

TASK = "{task}"
CODES = {"ok": 0, "infra_error": 75, "agent_error": 1}


def main(arguments: list[str]) -> int:
    """Ask, and write down what came of it."""
    given = _parser().parse_args(arguments)
    text, prompt = _read(given.text_file), _read(given.prompt_file)
    result: dict[str, Any] = {
        "status": "ok",
        "cost_usd": None,
        "tokens": None,
        "tool_calls": [],
        "final_text": "",
    }
    try:
        answer = _chat.complete(given.base_url, _body(given, text, prompt), given.key_env, given.timeout_s)
    except _chat.ChatError as error:
        result |= {"status": "infra_error" if error.infra else "agent_error", "error": str(error)}
    else:
        said = _chat.text_of(answer)
        tokens = _chat.tokens_of(answer)
        cost = _chat.cost_of(answer, given.input_price, given.output_price)
        result |= {"tokens": tokens, "final_text": said or "", "cost_usd": cost}
        if said is None:
            result |= {"status": "infra_error", "error": "the answer holds no message"}
        else:
            Path(given.answer).write_text(said, encoding="utf-8", errors="replace")
    Path(given.result).write_text(json.dumps(result), encoding="ascii")
    return CODES[str(result["status"])]


def _body(given: argparse.Namespace, text: str, prompt: str) -> dict[str, Any]:
    if given.as_ == "template":
        asked = text.replace(TASK, prompt) if TASK in text else f"{text.strip()}\n\n{prompt}".strip()
        messages = [{"role": "user", "content": asked}]
    else:
        messages = [{"role": "system", "content": text}] if text.strip() else []
        messages.append({"role": "user", "content": prompt})
    body: dict[str, Any] = {"model": given.model, "messages": messages, "stream": False}
    for name in ("seed", "temperature", "max_tokens"):
        if getattr(given, name) is not None:
            body[name] = getattr(given, name)
    return body


def _read(path: str) -> str:
    return Path(path).read_bytes().decode("utf-8", "replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name in ("--base-url", "--model", "--text-file", "--prompt-file", "--answer", "--result"):
        parser.add_argument(name, required=True)
    parser.add_argument("--as", dest="as_", choices=("system", "template"), default="system")
    parser.add_argument("--key-env", default="OPENAI_API_KEY")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--timeout-s", type=float, default=120.0)
    parser.add_argument("--input-price", type=_chat.price)
    parser.add_argument("--output-price", type=_chat.price)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
