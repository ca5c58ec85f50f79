"""What an agent told about its run: read from its result file and from what it printed, whatever bytes these are.

The result file is a JSON object; every key may be missing::

    {"status": "ok" | "agent_error" | "timeout" | "infra_error", "cost_usd": 0.01 | null,
     "tokens": {"input": 10, "output": 5} | 15 | null, "tool_calls": ["Read", {"name": "Bash"}],
     "final_text": "...", "error": "..."}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STATUSES = ("ok", "agent_error", "timeout", "infra_error")
TAIL_CHARS = 800
"""Where the reason of a command that failed without a result is looked for."""
TOOLS_LIMIT = 10_000

_INFRA = re.compile(
    r"rate.?limit|too many requests|\bquota|usage limit|insufficient_quota|credit balance|billing"
    r"|overloaded|at capacity|service unavailable|bad gateway|gateway time"
    # a bare number may be a line of a traceback or a part of a path
    r"|(?:\bhttp(?:/[\d.]+)?|status|error|\bcode)\W{0,4}(?:429|502|503|504|529)(?![\d.])"
    r"|connection (?:refused|reset|error|timed out|aborted)|connect(?:ion)?error|ECONN\w+|ETIMEDOUT|ENOTFOUND|EAI_AGAIN"
    r"|could not resolve|name resolution|name or service not known|network is (?:unreachable|down)|no route to host"
    r"|invalid api key|incorrect api key|invalid_api_key|unauthorized|authentication(?: |_)?error|not logged in"
    r"|token refresh failed|no space left|disk quota|out of memory|cannot allocate memory|\bMemoryError\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Printed:
    """What an agent left."""

    output: str
    """Standard output and error, in the middle cut where it is long."""
    result: bytes | None
    """The result file."""
    exit_code: int | None


@dataclass(frozen=True)
class Told:
    """What that says."""

    status: str = ""
    """A word of `STATUSES`, or empty where nothing was told: then the exit code decides."""
    final_text: str = ""
    tools: tuple[str, ...] | None = None
    """Names of tools in order; None = the agent does not tell."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    error: str = ""


def is_infra(message: str) -> bool:
    """Whether an error speaks of the machine, the network or an account, and not of the task.

    It is asked about messages of an agent that has failed, never about its work: a text that makes an agent write
    "rate limit" must not undo a failure.
    """
    return bool(_INFRA.search(message))


def failed(message: str) -> str:
    """The status that an error message stands for."""
    return "infra_error" if is_infra(message) else "agent_error"


def read_result(printed: Printed) -> Told:
    """By the result file; without one, a command that failed is looked at by the end of what it printed."""
    value = parsed(printed.result.decode("utf-8", "replace")) if printed.result is not None else None
    if not isinstance(value, dict):
        tail = printed.output[-TAIL_CHARS:].strip()
        if printed.exit_code == 0:
            return Told(final_text=printed.output)
        return Told(status=failed(tail), final_text=printed.output, error=last_line(tail))
    status = value.get("status")
    tokens = value.get("tokens")
    tokens = tokens if isinstance(tokens, dict) else {"output": tokens}
    return Told(
        status=status if status in STATUSES else "",
        final_text=text_of(value.get("final_text")) or printed.output,
        tools=_tools(value["tool_calls"]) if isinstance(value.get("tool_calls"), list) else None,
        input_tokens=count(tokens.get("input")),
        output_tokens=count(tokens.get("output")),
        cost=amount(value.get("cost_usd")),
        error=text_of(value.get("error")),
    )


def judge_cost(left: bytes | None) -> tuple[float | None, ...]:
    """What a verifier told that it cost, `{"cost_usd": 0.01 | null}`; empty where it left nothing: most cost nothing."""
    if left is None:
        return ()
    return (amount(mapping(parsed(left.decode("utf-8", "replace"))).get("cost_usd")),)


def events(output: str) -> Iterator[dict[str, Any]]:
    """JSON objects of an output that are a line each; other lines, and a torn last one, are left out."""
    for line in output.split("\n"):
        if line.lstrip().startswith("{") and isinstance(value := parsed(line), dict):
            yield value


def parsed(text: str) -> Any:
    """A JSON value, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """A text, or an empty one."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """A number of something, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return int(value)


def amount(value: Any) -> float | None:
    """A finite amount that is not negative, or None: unknown is not 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def total(values: list[int | None]) -> int | None:
    """The sum of what is known; None where nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def last_line(text: str) -> str:
    """The last line that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[:400]


def _tools(calls: list[Any]) -> tuple[str, ...]:
    """Names, flat or of objects with a name, a tool or a function."""
    names = []
    for call in calls[:TOOLS_LIMIT]:
        entry = mapping(call)
        name = call if isinstance(call, str) else entry.get("name") or entry.get("tool")
        name = name or mapping(entry.get("function")).get("name")
        if isinstance(name, str):
            names.append(name)
    return tuple(names)
