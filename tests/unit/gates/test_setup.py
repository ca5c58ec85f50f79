"""Gate `setup`: what is missing is named with the command that helps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.evidence import Evidence
from assay.core.ports import Component
from assay.core.verdict import Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates.setup import SetupGate, SetupPolicy

READY = Component(verb="serve", kind="transformers", state="ready", vendor={"torch": "2.13.0"})
MISSING = Component(
    verb="evaluate",
    kind="lm_eval",
    state="missing",
    detail='package lm_eval is missing: pip install "assay[lm-eval]"',
)
UNSUPPORTED = Component(verb="serve", kind="vllm", state="unsupported", detail="needs a GPU")


def judge(policy: SetupPolicy | None = None, **change: Any) -> Verdict:
    """The verdict on a machine."""
    facts = {
        "components": [READY.to_json()],
        "disk_free_bytes": 10**10,
        "disk_needed_bytes": 10**6,
        "source": {"readable": True, "detail": ""},
        **change,
    }
    evidence = Evidence(
        kind="machine", subject="machine", facts={k: v for k, v in facts.items() if v is not ...}
    )
    return SetupGate(policy).judge({"machine": evidence})


def test_a_complete_machine_passes() -> None:
    """All components ready, disk free, source readable."""
    verdict = judge()
    assert verdict.passed
    assert verdict.reads.keys() == {"machine"}


@pytest.mark.parametrize(
    ("change", "failure", "word"),
    [
        (
            {"components": [READY.to_json(), MISSING.to_json()]},
            FailureClass.USER_CONFIG_ERROR,
            'pip install "assay[lm-eval]"',
        ),
        (
            {"components": [UNSUPPORTED.to_json()]},
            FailureClass.SYSTEMIC,
            "serve/vllm is unsupported: needs a GPU",
        ),
        ({"components": ["x"]}, FailureClass.SYSTEMIC, "not an object"),
        ({"disk_free_bytes": 10**5}, FailureClass.SYSTEMIC, "disk"),
        ({"disk_free_bytes": None}, FailureClass.SYSTEMIC, "not measured"),
        ({"disk_needed_bytes": True}, FailureClass.SYSTEMIC, "not measured"),
        ({"source": {"readable": False, "detail": "truncated"}}, FailureClass.USER_CONFIG_ERROR, "truncated"),
        ({"source": {"readable": 1}}, FailureClass.USER_CONFIG_ERROR, "cannot be read"),
        ({"source": ...}, FailureClass.SYSTEMIC, "not checked"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], failure: FailureClass, word: str) -> None:
    """Each lack fails with its class before anything runs."""
    verdict = judge(**change)
    assert (verdict.status, verdict.failure_class, verdict.outcome) == (
        Status.FAIL,
        failure,
        Outcome.ANOMALOUS,
    )
    assert word in verdict.detail


@pytest.mark.parametrize("components", [..., [], None, "x"])
def test_an_unchecked_machine_cannot_be_judged(components: Any) -> None:
    """No list of components is not a complete machine."""
    assert judge(components=components).status is Status.ERROR
    assert SetupGate().judge({}).status is Status.ERROR


def test_a_component_can_be_declared_dispensable() -> None:
    """What the policy can do without is noted."""
    policy = SetupPolicy(may_lack=("evaluate/lm_eval",))
    assert judge(policy, components=[READY.to_json(), MISSING.to_json()]).passed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**52) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(components=JSON, free=JSON, needed=JSON, source=JSON)
def test_any_machine_gives_a_verdict(components: Any, free: Any, needed: Any, source: Any) -> None:
    """No shape of the evidence raises, and none passes without a ready component."""
    verdict = judge(components=components, disk_free_bytes=free, disk_needed_bytes=needed, source=source)
    assert not verdict.passed
