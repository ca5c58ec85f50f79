"""What agents tell: recorded outputs of known ones, result files, and any bytes at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextKind
from assay.core.errors import UsageError
from assay.runtime.agents.presets import NAMES, preset
from assay.runtime.agents.told import STATUSES, Printed, Told, is_infra, read_result

DATA = Path(__file__).parents[2] / "data" / "agents"


def told(name: str, file: str, exit_code: int = 0) -> Told:
    """What a preset makes of a recorded output."""
    return preset(name).read(Printed((DATA / file).read_text(), None, exit_code))


@pytest.mark.parametrize(
    ("name", "file", "status", "final", "tools", "tokens", "cost"),
    [
        (
            "claude",
            "claude-success.jsonl",
            "ok",
            "Repaired the rate limit of the parser.",
            ("Bash", "Edit"),
            (26424, 41),
            0.1699985,
        ),
        (
            "claude",
            "claude-not-logged-in.jsonl",
            "infra_error",
            "Not logged in · Please run /login",
            (),
            (0, 0),
            0,
        ),
        ("claude", "claude-max-turns.jsonl", "agent_error", "", (), (5, 90), 0.58),
        (
            "codex",
            "codex-success.jsonl",
            "ok",
            "Repaired.",
            ("command_execution", "file_change", "lookup"),
            (34172, 163),
            None,
        ),
        ("codex", "codex-capacity.jsonl", "infra_error", "", (), (None, None), None),
        ("codex", "codex-retries.jsonl", "ok", "Done.", (), (100, 7), None),
        (
            "gemini",
            "gemini-success.jsonl",
            "ok",
            "I repaired the program.",
            ("run_shell_command",),
            (10764, 84),
            None,
        ),
        (
            "gemini",
            "gemini-whole.json",
            "ok",
            "I repaired it.",
            ("read_file", "read_file", "replace"),
            (376972, 8031),
            None,
        ),
        ("opencode", "opencode-success.jsonl", "ok", "Repaired it.", ("read",), (18441, 25), 0.03754035),
        ("opencode", "opencode-error.jsonl", "agent_error", "", (), (None, None), None),
        ("aider", "aider-success.txt", "ok", None, None, (4200, 1343), 0.0231),
        ("aider", "aider-no-answer.txt", "infra_error", None, None, (None, None), None),
    ],
)
def test_recorded_outputs(
    name: str,
    file: str,
    status: str,
    final: str | None,
    tools: tuple[str, ...] | None,
    tokens: tuple[int | None, int | None],
    cost: float | None,
) -> None:
    """Status, text, tools, tokens and cost; what is not told is unknown and not 0."""
    found = told(name, file)
    assert found.status == status
    assert final is None or found.final_text == final
    assert found.tools == tools
    assert (found.input_tokens, found.output_tokens) == tokens
    assert found.cost == (None if cost is None else pytest.approx(cost))
    assert bool(found.error) == (status != "ok")


def test_trajectory_of_mini_swe() -> None:
    """Submitted is well, a limit is the agent's error, and both tell their cost."""
    read = preset("mini_swe").read
    good = read(Printed("", (DATA / "mini-submitted.json").read_bytes(), 0))
    assert (good.status, good.final_text, good.tools, good.cost) == (
        "ok",
        "patched",
        ("bash", "bash"),
        0.0412,
    )
    limited = read(Printed("", (DATA / "mini-limits.json").read_bytes(), 0))
    assert (limited.status, limited.cost) == ("agent_error", 3.01)
    assert read(Printed("openai.RateLimitError: quota", None, 1)).status == "infra_error"


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
def test_a_stream_that_was_cut_is_no_success(name: str) -> None:
    """Without its last event, an output tells nothing good, and what was told before stays."""
    file = next(DATA.glob(f"{name}-success.jsonl"))
    lines = file.read_text().splitlines()
    cut = preset(name).read(Printed("\n".join(lines[:3]) + "\n" + lines[-1][:40], None, -9))
    assert cut.status in {"agent_error", "infra_error"}
    assert cut.cost is None


def test_what_an_agent_writes_about_its_task_is_no_infra_error() -> None:
    """Words such as rate limit or 429 in the answer of a successful run change nothing."""
    assert told("claude", "claude-success.jsonl").status == "ok"
    said = read_result(Printed("I handled HTTP 429, connection refused and rate limits", None, 0))
    assert said.status == ""
    value = {"status": "agent_error", "final_text": "429 rate limit"}
    assert read_result(Printed("", json.dumps(value).encode(), 1)).status == "agent_error"


def test_result_file() -> None:
    """All keys, tools flat or nested, tokens as a number or apart, null as unknown."""
    value = {
        "status": "ok",
        "cost_usd": 0.5,
        "tokens": {"input": 3, "output": 4},
        "tool_calls": ["Read", {"name": "Bash"}, {"function": {"name": "x"}}, {"tool": "y"}, 7],
        "final_text": "done",
    }
    found = read_result(Printed("noise", json.dumps(value).encode(), 0))
    assert found == Told("ok", "done", ("Read", "Bash", "x", "y"), 3, 4, 0.5)
    unknown = read_result(Printed("", b'{"cost_usd": null, "tokens": null}', 0))
    assert (unknown.cost, unknown.output_tokens, unknown.tools, unknown.status) == (None, None, None, "")
    odd = read_result(Printed("", b'{"cost_usd": -1, "tokens": true, "status": "great", "final_text": 3}', 0))
    assert (odd.cost, odd.output_tokens, odd.status) == (None, None, "")
    assert read_result(Printed("", b'{"cost_usd": 1e999, "tokens": {"input": NaN}}', 0)).cost is None


@pytest.mark.parametrize(
    "message",
    [
        "Error: 429 Too Many Requests",
        "API Error: 529 {}",
        "HTTP/1.1 503",
        "Error code: 504 - {}",
        "You've hit your usage limit. Try again at 1:37 AM.",
        "connect ECONNREFUSED 127.0.0.1:8000",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "getaddrinfo EAI_AGAIN api.example.com",
        "OSError: [Errno 28] No space left on device",
        "insufficient_quota",
        "Overloaded",
        "unexpected status 503",
    ],
)
def test_signatures_of_infra_errors(message: str) -> None:
    """Limits, quotas, networks, accounts and disks are no fault of a text."""
    assert is_infra(message)


@pytest.mark.parametrize(
    "message",
    [
        "ValueError: line 4290",
        "assert 1.503 == 2",
        "max turns reached",
        "",
        'File "/runs/x-503/a.py", line 429, in f',
    ],
)
def test_no_signatures(message: str) -> None:
    """Errors of the agent itself, and numbers that only look alike."""
    assert not is_infra(message)


@given(
    output=st.text()
    | st.sampled_from(['{"type":"result","usage":[1],"result":{}}', '{"type":"assistant","message":3}']),
    result=st.none() | st.binary(),
    exit_code=st.none() | st.integers(-20, 255),
    name=st.sampled_from(NAMES),
)
def test_any_bytes_are_survived(output: str, result: bytes | None, exit_code: int | None, name: str) -> None:
    """No output and no result file breaks a reader."""
    found = preset(name).read(Printed(output, result, exit_code))
    assert found.status in {"", *STATUSES}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "part", "item", "message", "content", "usage", "stats", "info", "messages", "result",
                         "tokens", "tool_calls", "error", "role", "status", "cost", "models", "tools", "byName"]),
        inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
_KINDS = st.sampled_from(["result", "assistant", "step_finish", "text", "tool_use", "error", "message", "turn.failed",
                          "turn.completed", "item.completed"])  # fmt: skip


@given(
    events=st.lists(
        st.tuples(_KINDS, st.dictionaries(st.text(max_size=4), _VALUES, max_size=3), _VALUES), max_size=4
    ),
    name=st.sampled_from(NAMES),
)
def test_events_of_any_shape_are_survived(events: list[tuple[str, dict, object]], name: str) -> None:
    """The right event types with anything in them."""
    lines = [
        json.dumps({**more, **(value if isinstance(value, dict) else {"part": value}), "type": kind})
        for kind, more, value in events
    ]
    whole = json.dumps(events[0][2]).encode() if events else b""
    assert preset(name).read(Printed("\n".join(lines), whole, 0)).status in {"", *STATUSES}


def test_command_lines() -> None:
    """Every preset has a program, and each delivers a skill or names the text on its command line."""
    for name in NAMES:
        if name == "command":
            continue
        known = preset(name)
        for kind in TextKind:
            parts = known.command(AgentCommand(preset=name, model="m"), kind)
            given_ = known.deliver(kind) or "{text_file}" in parts or known.composed
            assert parts[0]
            assert given_, (name, kind)
            assert any("{prompt" in p for p in parts)
            assert any("{model}" in p for p in parts)
        assert (
            not any("{model}" in p for p in known.command(AgentCommand(preset=name), TextKind.SKILL))
            or name == "prompt"
        )


def test_unknown_preset() -> None:
    """The message names those there are."""
    with pytest.raises(UsageError, match="claude"):
        preset("nobody")
