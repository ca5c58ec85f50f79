"""Accelerate's tracker interface."""

from __future__ import annotations

from typing import Any

import pytest

accelerate = pytest.importorskip("accelerate")
torch = pytest.importorskip("torch")

from assay.track.frameworks.accelerate import AssayTracker  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def accelerator():
    """An accelerator on the CPU with our tracker; its process-wide state is dropped afterwards."""

    def make(tracker: Any) -> Any:
        return accelerate.Accelerator(cpu=True, log_with=tracker)

    yield make
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def train(host: Any, tracker: Any, steps: int = 6) -> int:
    """A loop as in Accelerate's guide; the step it ended at."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    model, optimizer = host.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    for step in range(1, steps + 1):
        loss = (model(torch.randn(8, 4)) ** 2).mean()
        host.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        host.log({"loss": loss.detach()}, step=step)
        if tracker.should_stop:
            return step
    host.log({"val_loss": 0.5, "epoch_time": 1.0}, step=steps)
    return steps


def test_what_is_logged_is_recorded(root, record, accelerator) -> None:
    """Rows, an evaluation, the configuration and the terminal event of a run that the tracker opened."""
    tracker = AssayTracker()
    host = accelerator(tracker)
    host.init_trackers("project", config={"width": 4})
    train(host, tracker)
    host.end_training()
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == [1, 2, 3, 4, 5, 6]
    assert len(found.losses) == 6
    assert found.evaluations[0]["metrics"] == {"val_loss": 0.5}
    assert found.one("training_started")["config"]["width"] == 4
    assert found.one("training_ended")["reason"] == "completed"


def test_the_loop_sees_a_request_to_stop(opened, record, accelerator, stop_after) -> None:
    """`tracker.should_stop` is the channel; the run that was given stays the caller's to end."""
    with opened() as run:
        stop_after(run, 3)
        tracker = AssayTracker(run)
        host = accelerator(tracker)
        host.init_trackers("project")
        assert train(host, tracker) == 3
        host.end_training()
        assert not run.disabled
    assert record().one("training_ended")["reason"] == "stopped"


def test_its_state_travels_in_accelerates_checkpoint(opened, record, accelerator, tmp_path) -> None:
    """`register_for_checkpointing`: a second attempt that loads it counts on from the step of the first."""
    with opened() as run:
        tracker = AssayTracker(run)
        host = accelerator(tracker)
        host.init_trackers("project")
        host.register_for_checkpointing(tracker)
        train(host, tracker, steps=4)
        host.save_state(str(tmp_path / "state"))
    with opened() as run:
        tracker = AssayTracker(run)
        host = accelerate.Accelerator(cpu=True, log_with=tracker)
        host.init_trackers("project")
        host.register_for_checkpointing(tracker)
        host.load_state(str(tmp_path / "state"))
        host.log({"loss": 1.0})
    assert record(2).numbers_of_steps() == [5]


def test_nothing_is_written_when_switched_off(root, accelerator, monkeypatch) -> None:
    """The loop runs to its end and no folder is made."""
    monkeypatch.setenv("ASSAY_TRACK", "off")
    tracker = AssayTracker()
    host = accelerator(tracker)
    host.init_trackers("project")
    assert train(host, tracker) == 6
    host.end_training()
    assert not root.exists()
