"""From an idea to a candidate: patches, parents, and what counts as tried."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.evidence import Measurement
from assay.core.experiment import PrimaryMetric
from assay.core.proposal import (
    Idea,
    Template,
    baseline,
    best,
    candidate,
    leaves,
    pasts,
    patched,
    told,
)
from assay.core.study import AdapterRef
from assay.core.vocabulary import Direction, FailureClass, Outcome

TEMPLATE = Template(
    source="sha256:source",
    build=AdapterRef(kind="train", options={"command": ["x"], "config": {"lr": 0.1, "net": {"width": 8}}}),
    baseline=Idea(name="baseline", hypothesis="as it stands"),
    metric=PrimaryMetric(name="score", direction=Direction.HIGHER),
)


def decided(
    made: Candidate, outcome: Outcome = Outcome.ACCEPT, value: float | None = 0.5, **more: Any
) -> Decision:
    """A Decision on a candidate, as the engine tells proposers of it."""
    decision = Decision(
        study="s-1",
        trial=more.pop("trial", f"s-1-{made.name}"),
        candidate=made.name,
        candidate_key=made.key,
        outcome=outcome,
        sentence="so it is",
        **more,
    )
    measured = [Measurement.of("score", value)]
    return told(decision, made, measured, [{"seed": 0, "experiment": f"exp-{made.name}"}])


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"lr": 0.3}, {"lr": 0.3, "net": {"width": 8}}),
        ({"net.width": 16}, {"lr": 0.1, "net": {"width": 16}}),
        ({"net": {"depth": 2}}, {"lr": 0.1, "net": {"width": 8, "depth": 2}}),
        ({"lr": None}, {"net": {"width": 8}}),
        ({"new.deep.key": 1}, {"lr": 0.1, "net": {"width": 8}, "new": {"deep": {"key": 1}}}),
        ({"lr.sub": 1}, {"lr": {"sub": 1}, "net": {"width": 8}}),
        ({}, {"lr": 0.1, "net": {"width": 8}}),
    ],
)
def test_patches_merge(patch: dict[str, Any], expected: dict[str, Any]) -> None:
    """Mappings are merged, null removes, dots lead inside; the original stays as it was."""
    before = {"lr": 0.1, "net": {"width": 8}}
    assert patched(before, patch) == expected
    assert before == {"lr": 0.1, "net": {"width": 8}}


JSON = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("ab", min_size=1, max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=4),
    st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=4),
)
def test_a_patch_applied_twice_is_applied_once(config: dict[str, Any], patch: dict[str, Any]) -> None:
    """Patching is idempotent, and every setting of the patch is in the result."""
    once = patched(config, patch)
    assert patched(once, patch) == once
    found = leaves(once)
    assert all(found[place] == value for place, value in leaves(patch).items() if value != {})


def test_the_first_candidate_is_the_configuration_as_it_stands() -> None:
    """It is proposed until it was tried; one that was aborted for the study's sake does not count as tried."""
    first = baseline(TEMPLATE, [])
    assert first is not None
    assert first.parent == "sha256:source"
    assert baseline(TEMPLATE, pasts([decided(first)])) is None
    aborted = decided(first, Outcome.ANOMALOUS, failure_class=FailureClass.SYSTEMIC)
    assert baseline(TEMPLATE, pasts([aborted])) == first


def test_a_candidate_grows_out_of_the_last_kept_one() -> None:
    """What was not kept is reverted: the patch changes the best configuration, which is named as the parent."""
    first = baseline(TEMPLATE, [])
    assert first is not None
    history = [decided(first)]
    wide = candidate(TEMPLATE, pasts(history), Idea(name="wide", patch={"net.width": 64}, hypothesis="w"))
    history.append(decided(wide))
    bad = candidate(TEMPLATE, pasts(history), Idea(name="bad", patch={"lr": 9.0}, hypothesis="b"))
    history.append(decided(bad, Outcome.NO_GAIN))
    slow = candidate(TEMPLATE, pasts(history), Idea(patch={"lr": 0.01}, hypothesis="s"))
    assert slow.build.options["config"] == {"lr": 0.01, "net": {"width": 64}}
    assert slow.parent == wide.key
    assert slow.name == "try-4"
    assert slow.intent["parent_experiments"] == {"0": "exp-wide"}
    found = best(pasts(history))
    assert found is not None
    assert found.candidate == wide


def test_a_decision_that_tells_nothing_is_left_out() -> None:
    """A plain Decision, as the ledger holds it, is no past: nothing is guessed."""
    first = baseline(TEMPLATE, [])
    assert first is not None
    plain = decided(first).model_copy(update={"facts": {}})
    assert pasts([plain]) == []
