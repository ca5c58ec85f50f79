"""The nouns: frozen, closed, with a digest that says what they are."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from assay.core.candidate import Candidate
from assay.core.canon import canonical, digest, short
from assay.core.checkpoint import Checkpoint
from assay.core.errors import ComponentFailed, SpecError
from assay.core.evidence import Evidence, Measurement
from assay.core.kinds import evidence_from_json
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.study import AdapterRef
from assay.core.vocabulary import Direction, FailureClass, State


def test_canonical_json_is_rfc_8785() -> None:
    """Keys in UTF-16 order, shortest numbers, no spaces: the example of the RFC, section 3.2.3."""
    value = {"\u20ac": "Euro", "\r": "CR", "1": "One", "\u00f6": "o", "numbers": [1e30, 4.50, 2e-3]}
    expected = '{"\\r":"CR","1":"One","numbers":[1e+30,4.5,0.002],"ö":"o","€":"Euro"}'
    assert canonical(value).decode() == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1, {1: "x"}, object()])
def test_what_is_no_canonical_json_is_refused(value: Any) -> None:
    """Nothing that could be read back as something else gets a digest."""
    with pytest.raises(ValueError, match="not canonical JSON"):
        digest(value)


def test_digest_names_its_function() -> None:
    """A digest says how it was made; its short form is for people."""
    key = digest({})
    assert key == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert short(key) == "44136fa355b3"


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (None, State.MISSING),
        (math.nan, State.NONFINITE),
        (-math.inf, State.NONFINITE),
        (True, State.ERRORED),
        ("0.9", State.ERRORED),
        ([], State.ERRORED),
        (0, State.MEASURED),
        (0.25, State.MEASURED),
    ],
)
def test_a_measurement_has_a_value_only_if_it_was_measured(value: Any, state: State) -> None:
    """What is no finite number gets its own state, never 0.0."""
    made = Measurement.of("score", value)
    assert made.state is state
    assert (made.value is not None) == (state is State.MEASURED)


def test_a_value_without_its_state_is_refused() -> None:
    """A failed measurement cannot carry a number along."""
    with pytest.raises(ValidationError, match="exactly when"):
        Measurement(name="score", state=State.ERRORED, value=0.0)
    with pytest.raises(ValidationError, match="exactly when"):
        Measurement(name="score", state=State.MEASURED)


def test_nouns_are_frozen_and_closed() -> None:
    """No field is changed, none is added."""
    noun = AdapterRef(kind="gguf")
    with pytest.raises(ValidationError, match="frozen"):
        noun.kind = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        AdapterRef.model_validate({"kind": "gguf", "oops": 1})


def test_a_candidate_is_known_by_its_content() -> None:
    """Two names of one change are one candidate; another option is another."""
    parent = "sha256:" + "0" * 64
    a = Candidate(name="a", parent=parent, build=AdapterRef(kind="gguf", options={"type": "Q4_0"}))
    b = a.model_copy(update={"name": "b"})
    c = a.model_copy(update={"build": AdapterRef(kind="gguf", options={"type": "Q8_0"})})
    assert a.key == b.key != c.key


def test_evidence_is_read_back_as_its_own_class() -> None:
    """What was stored comes back equal, with the same digest."""
    results = Results(
        subject="source",
        harness="lm_eval",
        tasks=(
            TaskResult(
                task="t",
                metric="acc",
                samples=Samples(
                    id=("a",),
                    repeat=(0,),
                    prompt=("p",),
                    score=(1.0,),
                    state=(SampleState.SCORED,),
                    output=("o",),
                ),
            ),
        ),
    )
    checkpoint = Checkpoint(subject="source", format="safetensors", weight_bytes=2)
    for evidence in (results, checkpoint, Evidence(kind="machine", subject="machine")):
        again = evidence_from_json(evidence.to_json())
        assert type(again) is type(evidence)
        assert again == evidence
        assert again.content_digest == evidence.content_digest


def test_columns_of_samples_have_one_length() -> None:
    """A row that lacks a column is refused where it arises."""
    with pytest.raises(ValidationError, match="different length"):
        Samples(
            id=("a", "b"),
            repeat=(0,),
            prompt=("p",),
            score=(1.0,),
            state=(SampleState.SCORED,),
            output=("o",),
        )


def test_goodness_knows_range_and_direction() -> None:
    """A score becomes 0..1 with 1 best."""
    index = TaskResult(task="t", metric="m", low=-100, high=100)
    rate = TaskResult(task="t", metric="m", low=0, high=100, direction=Direction.LOWER)
    assert index.goodness(0) == 0.5
    assert rate.goodness(25) == 0.75


def test_an_error_says_what_where_allowed_and_next_in_one_line() -> None:
    """The text that a user reads."""
    error = SpecError(
        "unknown key", where="a.yaml:3: recipe", allowed="recipes, serve", next="`assay schema release`"
    )
    expected = "a.yaml:3: recipe: unknown key (allowed: recipes, serve). Next: `assay schema release`"
    assert str(error) == expected
    assert error.exit_code == 2
    failed = ComponentFailed("line one\nline two", failure_class=FailureClass.SYSTEMIC)
    assert "\n" not in str(failed)
    assert failed.exit_code == 6
