"""Evaluate kind `checkpoint`: evidence with the promise in it, and failures with a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from assay.adapters.evaluate.checkpoint import Adapter, Options
from assay.core.checkpoint import Checkpoint
from assay.core.errors import ComponentFailed
from assay.core.ports import Session, Target
from assay.core.vocabulary import FailureClass

MODEL = Path(__file__).resolve().parents[4] / "examples" / "release" / "model"


class Quiet:
    """A session that tells nobody."""

    seed = 0

    def note(self, message: str, done: float | None = None) -> None:
        """Say nothing."""

    def remaining_s(self) -> float | None:
        """No limit."""
        return None


def evaluate(target: Target, **options: Any) -> Checkpoint:
    """The evidence of a target."""
    found = Adapter(Options(**options)).evaluate(target, cast("Session", Quiet()))
    assert isinstance(found, Checkpoint)
    return found


def test_the_promise_travels_with_the_evidence() -> None:
    """The gate finds the candidate's intent, nulls left out, and the engine that will serve it."""
    intent = {"recipe": "none", "num_bits": None}
    target = Target(name="c", path=str(MODEL), source=str(MODEL), intent=intent, engine="transformers")
    found = evaluate(target)
    assert found.subject == "candidate"
    assert found.facts["intent"] == {"recipe": "none", "engine": "transformers"}


def test_a_source_is_read_without_a_comparison() -> None:
    """The baseline has nothing to be compared with."""
    found = evaluate(Target(name="source", path=str(MODEL)))
    assert (found.subject, found.measurements) == ("source", ())


@pytest.mark.parametrize(
    ("source", "failure"), [("", FailureClass.USER_CONFIG_ERROR), (str(MODEL), FailureClass.UNKNOWN)]
)
def test_an_unreadable_target_fails_with_its_class(
    tmp_path: Path, source: str, failure: FailureClass
) -> None:
    """A broken source ends the study, a broken candidate is looked into: neither passes."""
    with pytest.raises(ComponentFailed) as caught:
        evaluate(Target(name="x", path=str(tmp_path / "nothing"), source=source))
    assert caught.value.failure_class is failure
    assert "no such checkpoint" in str(caught.value)


def test_it_needs_nothing() -> None:
    """`assay doctor` always finds it ready."""
    assert Adapter(Options()).check().state == "ready"
