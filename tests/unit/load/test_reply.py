"""What the events of an answer mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.load import RequestError
from assay.load.reply import Reply, http_error


def delta(**fields: Any) -> bytes:
    """A chat piece."""
    return json.dumps({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}).encode()


def taken(*events: bytes, keep_text: bool = False) -> Reply:
    """A reply that took these events, at 1, 2, 3, ... ns."""
    reply = Reply(keep_text=keep_text)
    for stamp, event in enumerate(events, 1):
        reply.take(event, stamp)
    return reply


@pytest.mark.parametrize(
    ("text", "leaked"),
    [
        ("good<|im_end|>", "<|im_end|>"), ("</s>", "</s>"), ("a <end_of_turn>\n", "<end_of_turn>"),
        ("<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
        ("if a < b and c > d:", ""), ("<s>struck</strong>", ""), ("<|user|>", ""),
    ],
)  # fmt: skip
def test_stop_tokens_in_the_text_are_seen(text: str, leaked: str) -> None:
    """Chat formats' ends of a turn; markup and comparisons are text."""
    assert taken(delta(content=text)).leaked == leaked
    assert taken(delta(reasoning_content=text)).leaked == leaked


def test_role_null_and_empty_deltas_are_no_first_token() -> None:
    """The first stamp is that of the first text."""
    reply = taken(
        delta(role="assistant", content=""),
        delta(role="assistant", content=None),
        delta(content=""),
        delta(content="a"),
        delta(content="b"),
        b"[DONE]",
    )
    assert list(reply.stamps) == [4, 5]
    assert reply.done


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "content", "refusal"])
def test_reasoning_counts_as_text(name: str) -> None:
    """A model that thinks first has its first token there."""
    assert list(taken(delta(**{name: "x"})).stamps) == [1]


def test_tool_calls_count() -> None:
    """A delta with a call is an answer."""
    assert taken(delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}])).pieces == 1


def test_usage_in_an_event_without_choices() -> None:
    """The counts of the server, cached and reasoning tokens included."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    reply = taken(delta(content="x"), json.dumps({"choices": [], "usage": usage}).encode())
    assert (reply.prompt_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens) == (
        9,
        4,
        3,
        2,
    )


def test_usage_in_every_piece_leaves_the_last() -> None:
    """Continuous usage."""
    events = [json.dumps({"choices": [], "usage": {"completion_tokens": n}}).encode() for n in (1, 2, 3)]
    assert taken(*events).output_tokens == 3


def test_timings_of_llama_cpp_stand_in_for_usage() -> None:
    """prompt_n excludes what was cached."""
    event = json.dumps(
        {"choices": [{"delta": {}}], "timings": {"prompt_n": 5, "cache_n": 4, "predicted_n": 7}}
    ).encode()
    reply = taken(event)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (9, 4, 7)


@pytest.mark.parametrize("bad", [True, -1, "3", 2.5, None, [1]])
def test_counts_that_are_none_are_ignored(bad: Any) -> None:
    """Only a whole number >= 0 is a count."""
    assert taken(json.dumps({"usage": {"completion_tokens": bad}}).encode()).output_tokens is None


def test_an_error_object_inside_the_stream() -> None:
    """The first error stays."""
    reply = taken(delta(content="x"), b'{"error": {"message": "No requests can be scheduled", "code": 500}}')
    assert (reply.error, reply.detail) == (RequestError.STREAM, "No requests can be scheduled")
    assert taken(b'{"error": "context too long"}').error is RequestError.CONTEXT


@pytest.mark.parametrize("event", [b"{", b"[1]", b"3", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_object_is_a_protocol_error(event: bytes) -> None:
    """Never an exception."""
    assert taken(event).error is RequestError.PROTOCOL


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda c: st.lists(c, max_size=3)
       | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "error", "timings", "message",
                                          "finish_reason", "prompt_tokens_details", "x"]), c, max_size=4),
       max_leaves=12))  # fmt: skip
def test_no_json_breaks_it(value: Any) -> None:
    """Any JSON value is taken without an exception."""
    taken(json.dumps(value).encode(), keep_text=True)


def test_text_is_kept_on_request_only() -> None:
    """Reasoning is not part of what is said to the model in the next turn."""
    events = (delta(reasoning_content="hm"), delta(content="a"), delta(content="b"))
    assert taken(*events, keep_text=True).text == "ab"
    assert taken(*events).text == ""


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, b"slow down", RequestError.OVERLOAD),
        (503, b'{"error": {"message": "Loading model"}}', RequestError.OVERLOAD),
        (401, b"", RequestError.AUTH),
        (403, b"{}", RequestError.AUTH),
        (
            400,
            b'{"error": {"type": "exceed_context_size_error", "message": "n_ctx 512"}}',
            RequestError.CONTEXT,
        ),
        (400, b'{"message": "maximum model length is 256"}', RequestError.CONTEXT),
        (422, b'{"detail": "Unexpected fields"}', RequestError.REFUSED),
        (404, b"\xff\xfe", RequestError.REFUSED),
        (500, b"[" * 100_000, RequestError.SERVER),
        (302, b"", RequestError.REFUSED),
    ],
)
def test_status_and_words_give_the_class(status: int, body: bytes, error: RequestError) -> None:
    """The status is always in the text."""
    found, text = http_error(status, body)
    assert found is error
    assert text.startswith(f"HTTP {status}: ")
    assert len(text) <= 300
