"""The written-out loop of plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from assay.track.frameworks.pytorch import fit  # noqa: E402

pytestmark = pytest.mark.slow


def world(seed: int = 0, generator: bool = False) -> tuple[dict[str, Any], Any]:
    """What is trained, and five shuffled batches an epoch."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    parts = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3),
    }
    draw = torch.Generator().manual_seed(1)
    rows = TensorDataset(torch.randn(40, 4, generator=draw), torch.randn(40, 1, generator=draw))
    own = torch.Generator().manual_seed(seed) if generator else None
    return parts, DataLoader(rows, batch_size=8, shuffle=True, generator=own)


def loss(model: Any, batch: Any) -> Any:
    """Mean squared error."""
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def weights(parts: dict[str, Any]) -> list[Any]:
    """Weights and the statistics of the normalisation."""
    return list(parts["model"].state_dict().values())


def same(one: list[Any], other: list[Any]) -> bool:
    """Equal to the last bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_training_is_recorded_step_by_step(opened, record) -> None:
    """Ten rows with rate, gradient norm and waiting time, two evaluations, two checkpoints, the end."""
    parts, loader = world()
    with opened(primary_metric="val_loss") as run:
        held = next(iter(loader))
        fit(
            run,
            parts,
            loader,
            loss,
            epochs=2,
            clip_norm=1.0,
            evaluate=lambda model: {"val_loss": loss(model, held)},
        )
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 11))
    assert all(math.isfinite(value) for value in found.losses)
    assert all(row["signals"]["grad_norm"] > 0 for row in found.steps)
    assert [row["signals"]["lr"] for row in found.steps[:4]] == pytest.approx([0.01, 0.01, 0.01, 0.001])
    assert any("data_wait_s" in row["signals"] for row in found.steps)
    assert [row["epoch"] for row in found.evaluations] == [0, 1]
    assert len(found.named("checkpoint_committed")) == 2
    assert found.one("training_started")["total_steps"] == 10
    assert found.one("training_ended")["reason"] == "completed"


@pytest.mark.parametrize("stop_at", [3, 5, 7])
@pytest.mark.parametrize("generator", [False, True])
def test_stopped_and_resumed_is_the_same_as_never_stopped(
    opened, record, stop_after, stop_at, generator
) -> None:
    """Stopped inside an epoch and at its end, resumed in fresh objects of another seed: equal bit for bit."""
    whole, loader = world(generator=generator)
    fit(opened(), whole, loader, loss, epochs=3)
    parts, loader = world(generator=generator)
    with opened() as run:
        stop_after(run, stop_at)
        fit(run, parts, loader, loss, epochs=3)
    found = record(2)
    assert found.numbers_of_steps() == list(range(1, stop_at + 1))
    assert found.named("checkpoint_committed")[-1]["reason"] == "stop"
    assert found.one("training_ended")["reason"] == "stopped"
    parts, loader = world(seed=7, generator=generator)
    with opened(resume="exp-002") as run:
        fit(run, parts, loader, loss, epochs=3)
    assert record(2).numbers_of_steps(attempt=2) == list(range(stop_at + 1, 16))
    assert same(weights(whole), weights(parts))


def test_a_failure_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """The loss function raises in the third batch."""
    error = RuntimeError("broken batch")
    calls = []

    def broken(model: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise error
        return loss(model, batch)

    parts, loader = world()
    with pytest.raises(RuntimeError) as caught, opened() as run:
        fit(run, parts, loader, broken, epochs=2)
    assert caught.value is error
    assert record().one("training_ended")["exception"]["text"] == "broken batch"
    assert record().numbers_of_steps() == [1, 2]


def test_training_is_the_same_with_and_without_a_record(opened, monkeypatch, root) -> None:
    """Weights are equal to those of the bare loop: recorded, and switched off."""
    bare, loader = world()
    for _ in range(2):
        bare["model"].train()
        for batch in loader:
            bare["optimizer"].zero_grad()
            loss(bare["model"], batch).backward()
            bare["optimizer"].step()
            bare["scheduler"].step()
    watched, loader = world()
    with opened() as run:
        fit(run, watched, loader, loss, epochs=2, checkpoint_every=2)
    monkeypatch.setenv("ASSAY_TRACK", "off")
    off, loader = world()
    fit(opened(), off, loader, loss, epochs=2)
    assert same(weights(bare), weights(watched))
    assert same(weights(bare), weights(off))
    assert not (root / "exp-002").exists()
