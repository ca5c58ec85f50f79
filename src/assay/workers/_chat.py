"""One request to an OpenAI-compatible server, and whose fault it is when there is no answer. Standard library only."""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import urllib.error
import urllib.request
from typing import Any

ANSWER_LIMIT_BYTES = 16 << 20
_REQUEST_IS_WRONG = frozenset({400, 413, 422})
"""Statuses that speak of what was asked; all other failures are the server's, the network's or the account's."""


class ChatError(Exception):
    """No answer.

    Args:
        message: one line.
        infra: whether the machine, the network or the account is at fault, and not what was asked.
    """

    def __init__(self, message: str, *, infra: bool) -> None:
        super().__init__(message)
        self.infra = infra


def complete(base_url: str, body: dict[str, Any], key_env: str, timeout_s: float) -> dict[str, Any]:
    """The answer of `chat/completions`.

    Args:
        base_url: up to and including `/v1`.
        body: the request.
        key_env: variable that holds the key; a key is sent where it is set.
        timeout_s: longest wait for the answer.

    Raises:
        ChatError: if there is none that can be read.
    """
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(key_env, ""):
        headers["Authorization"] = f"Bearer {key}"
    url = base_url.rstrip("/") + "/chat/completions"
    if not url.startswith(("http://", "https://")):
        raise ChatError(f"the base URL is no http address: {base_url[:100]!r}", infra=True)
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310 - checked above
            data = reply.read(ANSWER_LIMIT_BYTES)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace")
        infra = error.code not in _REQUEST_IS_WRONG
        raise ChatError(f"HTTP status {error.code}: {' '.join(said.split())[:300]}", infra=infra) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ChatError(f"no answer: {reason}", infra=True) from error
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ChatError(f"the answer is no JSON: {data[:200]!r}", infra=True) from error
    if not isinstance(value, dict):
        raise ChatError("the answer is no object", infra=True)
    return value


def text_of(answer: dict[str, Any]) -> str | None:
    """What the model said; None where the answer holds no message."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # content in parts
        content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else None


def tokens_of(answer: dict[str, Any]) -> dict[str, int | None]:
    """Tokens taken and given; None where the server tells none."""
    usage = answer.get("usage")
    found = usage if isinstance(usage, dict) else {}
    names = {"input": "prompt_tokens", "output": "completion_tokens"}
    values = {ours: found.get(theirs) for ours, theirs in names.items()}
    return {
        k: v if isinstance(v, int) and not isinstance(v, bool) and v >= 0 else None for k, v in values.items()
    }


def cost_of(answer: dict[str, Any], input_price: float | None, output_price: float | None) -> float | None:
    """What an answer cost at prices of a million tokens; unknown unless both are given and the server tells tokens."""
    tokens = tokens_of(answer)
    taken, made = tokens["input"], tokens["output"]
    if input_price is None or output_price is None or taken is None or made is None:
        return None
    return float(taken * input_price + made * output_price) / 1e6


def price(value: str) -> float:
    """A price of the command line.

    Raises:
        argparse.ArgumentTypeError: if it is negative or no finite number.
    """
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError("a price is not negative")
    return number
