"""diagnosis.md: what, when, likely cause, next step, each with its number; what a person or a command wrote is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from assay.core.experiment import Alert
from assay.live import diagnosis, mechanisms
from assay.live.classes import CLASSES
from assay.live.mechanisms import Surroundings
from experiment_files import ExperimentFiles, sound

NAN = {
    "class": 1,
    "name": "nonfinite",
    "step": 40,
    "first_seen_step": 40,
    "text": "not finite at step 40: loss",
}


def row(step: int, **values: float) -> tuple[int, dict[str, float]]:
    """A step row as the rules of a mechanism see it."""
    return step, values


def alert(number: int, **more: Any) -> Alert:
    """An open alert."""
    known = {
        "id": "a-0001",
        "number": number,
        "name": CLASSES[number].name,
        "severity": "critical",
        "state": "open",
    }
    return Alert.model_validate(
        {**known, "text": "not finite at step 40: loss", "first_seen_step": 40, **more}
    )


def broken(root: Path, **losses: float) -> ExperimentFiles:
    """A training whose loss is lost at step 40 of 100, with a good checkpoint before and a ruined one after it."""
    made = ExperimentFiles(root)
    made.created()
    made.started(pid=2**22 - 1)
    for step in range(1, 40):
        made.step(step, loss=losses.get(f"at_{step}", 1.0))
    made.evaluated(30, accuracy=0.7)
    made.checkpoint(30)
    made.append(
        "metrics.jsonl",
        {
            "event": "step",
            "attempt": 1,
            "step": 40,
            "t": 9.0,
            "metrics": {"loss": None},
            "nonfinite": {"loss": "nan"},
        },
    )
    made.alert(**NAN)
    made.event("stop_requested", 1, by="checker", reason="not finite at step 40: loss")
    made.checkpoint(42, verified=None, reason="stop")
    made.event(
        "checkpoint_failed", 1, name="ckpt-00000042", level="finite", detail="the weights are not finite"
    )
    made.status(step=42)
    made.ended(step=42, reason="stopped")
    return made


def test_a_nan_out_of_the_blue(tmp_path: Path) -> None:
    """What, when, that it was ordinary before, which checkpoint is good, which was kept aside, what it spared."""
    made = broken(tmp_path)
    found = diagnosis.write(made.folder)
    assert found is not None
    text = (made.folder / "diagnosis.md").read_text()
    for part in (
        "critical nonfinite at step 40",
        "checker asked for a stop: not finite at step 40: loss. That spared 60 of 100 steps (60 %).",
        "Last good checkpoint: ckpt-00000030, step 30, verified by restore",
        "ckpt-00000042 was kept aside: the weights are not finite",
        "Up to step 39 all was ordinary (the median loss was 1 over the 39 steps before)",
        "Look at the batch of step 40",
        "`assay train --resume exp-001` goes on from ckpt-00000030 (step 30).",
        "by: assay",
    ):
        assert part in text, part


def test_a_nan_after_growth_is_told_from_one_out_of_the_blue(tmp_path: Path) -> None:
    """The same alert; here the loss had grown tenfold before: too large steps, not a bad batch."""
    made = broken(tmp_path, at_37=4.0, at_38=20.0, at_39=90.0)
    found = diagnosis.write(made.folder)
    assert found is not None
    assert "grew out of control: the loss rose from 1 to 90 at step 39" in found.mechanism[0]
    assert "Lower the learning rate from 0.1 to 0.033." in found.next


def test_a_jump_of_the_learning_rate_is_named() -> None:
    """With both values and the step; the rate that trained well is the one to keep."""
    before = tuple(row(s, loss=1.0, lr=0.001, grad_norm=1.0 + s / 100) for s in range(20, 41))
    after = tuple(row(s, loss=50.0 * (s - 40), lr=0.3, grad_norm=90.0) for s in range(41, 45))
    cause = mechanisms.of(alert(2), Surroundings(41, before, after, 44, 100))
    assert "The learning rate jumped from 0.001 to 0.3 at step 41: that is the likely cause." in cause.why
    assert "the gradient norm went from 1.3 to 90" in cause.why
    assert (
        cause.next[0] == "Keep the learning rate at 0.001, which trained well, and look at what changed it."
    )
    assert cause.next[1].startswith("Clip the gradient norm at 1.3")


@pytest.mark.parametrize("number", sorted(CLASSES))
@pytest.mark.parametrize(
    "around",
    [
        Surroundings(),
        Surroundings(5, (row(4),), (row(5),), 5, None),
        Surroundings(5, tuple(row(s, loss=1.0, lr=0.0) for s in range(5)), (row(5, loss=2.0, lr=0.0),), 5, 9),
    ],
)
def test_every_class_has_a_cause_and_a_next_step(number: int, around: Surroundings) -> None:
    """Whatever the rows lack, something true can be said, in whole sentences."""
    cause = mechanisms.of(alert(number, text="the reason (resolved: attempt 2 began)"), around)
    assert cause.why.endswith(".")
    assert "resolved" not in cause.why
    assert cause.next
    assert all(idea.endswith(".") for idea in cause.next), cause.next


def test_after_a_divergence_the_newest_checkpoint_is_not_the_one_to_resume(tmp_path: Path) -> None:
    """It was saved when the fault was at work: the one before it is named with its command."""
    made = broken(tmp_path)
    made.event("checkpoint_verified", 1, name="ckpt-00000042", level="digest", detail="")
    found = diagnosis.write(made.folder)
    assert found is not None
    assert found.next[-1] == (
        "ckpt-00000042 was saved after the fault began (step 40): `assay checkpoint restore exp-001 --name "
        "ckpt-00000030`, then `assay train --resume exp-001` goes on from there."
    )


@pytest.mark.parametrize(
    ("accuracies", "idea"),
    [
        ((0.5, 0.6, 0.7, 0.9), "Train longer: accuracy was still improving"),
        ((0.5, 0.9, 0.8, 0.7), "Stop earlier or regularise: accuracy was best at step 20 (0.9)"),
        ((0.5, 0.9, 0.9, 0.9), "Change something else than its length: accuracy stands at 0.9 since step 20"),
        ((0.5,), "Evaluate more often"),
    ],
)
def test_a_healthy_training_suggests_by_where_its_best_value_lies(
    tmp_path: Path, accuracies: tuple[float, ...], idea: str
) -> None:
    """Nothing speaks of a fault; the next experiment follows from the evaluations."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    for at, value in enumerate(accuracies, 1):
        made.step(10 * at, loss=1.0)
        made.evaluated(10 * at, accuracy=value)
    made.status(step=40)
    made.ended(step=40)
    found = diagnosis.write(made.folder)
    assert found is not None
    assert found.healthy
    assert found.next[0].startswith(idea)


@pytest.mark.parametrize(
    ("alert", "ideas"),
    [
        ({"severity": "info", "class": 19, "name": CLASSES[19].name}, "Evaluate more often"),
        ({"severity": "warning", "class": 19, "name": CLASSES[19].name}, ""),
        ({"severity": "critical", **NAN}, "`assay train --resume exp-001` goes on from ckpt-00000030"),
    ],
)
def test_a_completed_training_resumes_only_to_undo_a_ruin(
    tmp_path: Path, alert: dict[str, Any], ideas: str
) -> None:
    """What went to its end has nothing to go on with; what was ruined goes back to before the fault."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    made.step(30, loss=1.0)
    made.checkpoint(30)
    made.alert(**alert)
    made.status(step=100)
    made.ended(step=100)
    found = diagnosis.write(made.folder)
    assert found is not None
    assert any("--resume" in idea for idea in found.next) == ("--resume" in ideas)
    assert any(idea.startswith(ideas) for idea in found.next)


@pytest.mark.parametrize("outcome", ["stopped", "killed", "crashed"])
def test_what_did_not_go_to_its_end_may_be_resumed(tmp_path: Path, outcome: str) -> None:
    """Also where no tracker told of a training and no alert is open."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=2**22 - 1)
    made.step(30, loss=1.0)
    made.checkpoint(30)
    made.event("attempt_ended", 1, outcome=outcome, exit_code=None, signal="SIGTERM", resources={})
    found = diagnosis.write(made.folder)
    assert found is not None
    assert found.next[-1] == "`assay train --resume exp-001` goes on from ckpt-00000030 (step 30)."


def test_what_a_person_wrote_is_not_replaced(tmp_path: Path) -> None:
    """Ours is written again and again; theirs stays; that of an earlier attempt goes to the logs."""
    made = sound(tmp_path)
    diagnosis.write(made.folder)
    first = (made.folder / "diagnosis.md").read_text()
    made.trained(attempt=2)
    diagnosis.write(made.folder)
    assert "attempt: 2" in (made.folder / "diagnosis.md").read_text()
    assert (made.folder / "log" / "diagnosis-attempt-1.md").read_text() == first
    (made.folder / "diagnosis.md").write_text("I think it was the data.")
    diagnosis.write(made.folder)
    assert (made.folder / "diagnosis.md").read_text() == "I think it was the data."


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_may_say_more_and_is_kept_apart(tmp_path: Path, code: int) -> None:
    """It gets the evidence as JSON; what it says stands in its own file, marked, however it ended."""
    made = broken(tmp_path)
    told = "import json, sys; e = json.load(sys.stdin); print('because of', e['alerts'][0]['name']); "
    diagnosis.write(made.folder, [sys.executable, "-c", f"{told}sys.exit({code})"])
    text = (made.folder / "diagnosis-by-command.md").read_text()
    assert "because of nonfinite" in text
    assert f"exit: {code}" in text
    assert "Not measured by Assay" in text
    assert "because of" not in (made.folder / "diagnosis.md").read_text()


def test_nothing_to_read_is_no_error(tmp_path: Path) -> None:
    """A diagnosis is a service: without readable files there is none, and nothing is raised."""
    assert diagnosis.write(tmp_path / "nowhere") is None
