"""Requests: new every time, of the wanted length, repeatable."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from assay.core.load import Length, ServiceLevels, Workload
from assay.load.requests import Calibration, Requests, Sized, sized

HEAD = (b"POST / HTTP/1.1\r\nContent-Length: ", b"\r\n\r\n")


def made(calibration: Calibration | None = None, control: str = "none", **workload: Any) -> Requests:
    """Requests of a workload."""
    return Requests(
        Workload.model_validate(workload), "m", HEAD, calibration or Calibration(), control=control
    )


def body(data: bytes) -> dict[str, Any]:
    """The JSON of a request whose length header must be right."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert int(head.rpartition(b" ")[2]) == len(rest)
    value: dict[str, Any] = json.loads(rest)
    return value


def words(data: bytes) -> list[str]:
    """The words of the prompt."""
    return str(body(data)["messages"][-1]["content"]).split()


def test_prompts_are_new_and_repeatable() -> None:
    """No two of 500 begin alike; the same number gives the same bytes again."""
    requests = made(prompt_tokens=64)
    datas = [requests.first(i).data for i in range(500)]
    assert len({tuple(words(d)[:6]) for d in datas}) == 500
    assert datas == [made(prompt_tokens=64).first(i).data for i in range(500)]
    assert datas[0] != made(prompt_tokens=64, seed=1).first(0).data


def test_calibration_gives_the_wanted_tokens() -> None:
    """10 tokens of template, 1.25 tokens a word: 135 tokens are 100 words."""
    requests = made(Calibration(per_word=1.25, fixed=10.0), prompt_tokens=135)
    assert len(words(requests.first(0).data)) == 100


def test_a_tokenizer_that_takes_words_apart_is_reckoned_by_characters() -> None:
    """Where each byte is a token, prompts still hold what was asked, and never more: they would overflow a context."""

    def probe(size: int, index: int) -> Sized:
        ask = made().first(index, size)
        return sized(ask, 3 + len(ask.messages[-1]["content"]))

    calibration = Calibration.between(probe(8, 1), probe(64, 2))
    assert calibration.per_character == pytest.approx(1.0)
    requests = made(calibration, prompt_tokens=500)
    lengths = {3 + len(requests.first(i).messages[-1]["content"]) for i in range(200)}
    assert max(lengths) <= 500
    assert min(lengths) >= 496


def test_whole_words_are_counted_as_words() -> None:
    """Two prompts whose tokens grow with their words are not taken for ones that grow with their characters."""
    assert Calibration.between(Sized(8, 45, 14), Sized(64, 350, 84)) == Calibration(1.25, 4.0, "usage")


def test_the_shared_prefix_has_its_share() -> None:
    """A quarter of the words are the same in all prompts, and the next one differs."""
    requests = made(prompt_tokens=80, shared_prefix_frac=0.25)
    prompts = [words(requests.first(i).data) for i in range(50)]
    assert len({tuple(p[:20]) for p in prompts}) == 1
    assert len({tuple(p[20:26]) for p in prompts}) == 50
    assert all(len(p) == 80 for p in prompts)


def test_several_shared_prefixes() -> None:
    """Three groups."""
    requests = made(prompt_tokens=40, shared_prefix_frac=0.5, shared_prefixes=3)
    assert len({tuple(words(requests.first(i).data)[:20]) for i in range(60)}) == 3


def test_a_turn_sends_everything_before_it() -> None:
    """Prompt, answer, new prompt."""
    requests = made(prompt_tokens=10, turns=3)
    first = requests.first(4)
    second = requests.following(4, 1, first, " the answer")
    messages = body(second.data)["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"] == body(first.data)["messages"][0]["content"]
    assert messages[1]["content"] == " the answer"
    assert messages[2]["content"] != messages[0]["content"]


def test_the_length_is_forced_as_the_server_takes_it() -> None:
    """llama.cpp and vLLM by ignore_eos, transformers by a JSON text."""
    assert body(made(control="ignore_eos").first(0).data)["ignore_eos"] is True
    config = body(made(control="generation_config", output_tokens=7).first(0).data)["generation_config"]
    assert json.loads(config) == {"min_new_tokens": 7, "max_new_tokens": 7}
    plain = body(made().first(0).data)
    assert not {"ignore_eos", "generation_config"} & set(plain)
    assert plain["stream_options"] == {"include_usage": True}


def test_extra_fields_win() -> None:
    """The user's own."""
    assert body(made(extra_body={"temperature": 0.5, "x": 1}).first(0).data)["temperature"] == 0.5


@pytest.mark.parametrize(
    ("text", "mean", "spread"),
    [(128, 128, 0), ("128", 128, 0), ("uniform:10-30", 20, 6.06), ("normal:100,10", 100, 10)],
)
def test_lengths_are_drawn_from_their_distribution(text: Any, mean: float, spread: float) -> None:
    """Mean and standard deviation of what is drawn."""
    length = Length.model_validate(text)
    rng = np.random.default_rng(0)
    drawn = np.array([length.draw(rng.random(), rng.normal()) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.std() == pytest.approx(spread, abs=0.3)


def test_lognormal_lengths_have_their_median() -> None:
    """And stay within their bounds, whatever is drawn."""
    length = Length(kind="lognormal", mean=200, spread=1.0, low=10, high=5000)
    assert length.draw(0.5, 0.0) == 200
    assert length.draw(0.5, 1e9) == 5000
    assert length.draw(0.5, -1e9) == 10


@pytest.mark.parametrize(
    "text", ["x", "-1", "0", "uniform:9-2", "uniform:0-4", "normal:1", "12 ", True, "nan", 1e400]
)
def test_what_is_no_length_is_refused(text: Any) -> None:
    """With a validation error."""
    with pytest.raises(ValidationError):
        Length.model_validate(text)


def test_service_levels_in_short_form() -> None:
    """`ttft_p99_ms: 500`; without a percentile p95."""
    levels = ServiceLevels.model_validate({"ttft_p99_ms": 500, "e2e_ms": 9000, "goodput_frac": 0.9})
    assert [x.text for x in levels.levels] == ["ttft p99 <= 500 ms", "e2e p95 <= 9000 ms"]
    assert ServiceLevels.from_json(levels.to_json()) == levels
    with pytest.raises(ValidationError):
        ServiceLevels.model_validate({"tft_p99_ms": 500})
