"""capture and restore: all parts, and strict in both directions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from assay.track._checkpoint.tree import encode
from assay.track.checkpoint import (
    CheckpointMismatch,
    ShuffledIndices,
    StateError,
    capture,
    restore,
    rng_state,
    set_rng_state,
)


def parts(seed: int = 0) -> dict[str, Any]:
    """Small live objects of every kind."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]),
        "scaler": torch.amp.GradScaler("cpu", init_scale=float(2 ** (seed + 3))),
        "ema": {"shadow": {"w": torch.randn(3)}, "decay": 0.9 + seed / 100},
        "loader_generator": {
            "torch": torch.Generator().manual_seed(seed), "numpy": np.random.default_rng(seed),
            "old": np.random.RandomState(seed), "python": random.Random(seed),
        },
        "loader": ShuffledIndices(10, seed),
    }  # fmt: skip


def text(state: dict[str, Any]) -> tuple[bytes, list[bytes]]:
    """A state as bytes, to compare."""
    encoded = encode(state, copy=False)
    blobs = [bytes(np.asarray(v).tobytes()) for part in encoded.blobs.values() for v, _ in part.values()]
    return encoded.text(), blobs


def test_every_part_comes_back() -> None:
    """A fresh set of objects has, after restore, the state of the captured one to the last bit."""
    old, new = parts(0), parts(1)
    state = capture(**old, position={"at": 3}, counters={"samples": 12})
    before = text(state)
    plain = restore(state, **new)
    assert plain == {"position": {"at": 3}, "counters": {"samples": 12}}
    assert text(capture(**new, position={"at": 3}, counters={"samples": 12})) == before
    assert [next(new["loader"]) for _ in range(10)] == [next(old["loader"]) for _ in range(10)]
    assert new["loader_generator"]["numpy"].random() == old["loader_generator"]["numpy"].random()


@pytest.mark.parametrize("name", sorted(parts()))
def test_a_part_that_one_side_lacks_is_named(name: str) -> None:
    """Forgotten in capture, or forgotten in restore: an error with the part's name, unless it is ignored on purpose."""
    state = capture(**{k: v for k, v in parts().items() if k != name})
    with pytest.raises(CheckpointMismatch) as caught:
        restore(state, **parts(1))
    assert caught.value.where == name
    state = capture(**parts())
    with pytest.raises(CheckpointMismatch) as caught:
        restore(state, **{k: v for k, v in parts(1).items() if k != name})
    assert caught.value.where == name
    ignored = (name, "gradients") if name == "model" else (name,)
    restore(capture(**parts()), ignore=ignored, **{k: v for k, v in parts(1).items() if k != name})


def test_lost_generators_and_gradients_are_named() -> None:
    """A state without rng or gradients that does not say so by design is refused."""
    for name in ("rng", "gradients"):
        state = capture(**parts())
        del state[name]
        with pytest.raises(CheckpointMismatch, match=name):
            restore(state, **parts(1))
    by_design = capture(**parts(), gradients=False, rng=False)
    assert by_design["absent"] == ["gradients", "rng"]
    new = parts(1)
    restore(by_design, **new, rng=False)
    assert all(p.grad is None for p in new["model"].parameters())


def test_pending_gradients_come_back() -> None:
    """Gradients of a half-done accumulation are those of the live model; others become None."""
    old, new = parts(0), parts(1)
    old["model"][0].weight.grad = None
    restore(capture(**old), **new)
    for a, b in zip(old["model"].parameters(), new["model"].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(("old", "new"), [
    ({"model": torch.nn.Linear(3, 2)}, {"model": torch.nn.Linear(4, 2)}),
    ({"model": torch.nn.Linear(3, 2)}, {"model": torch.nn.Sequential(torch.nn.Linear(3, 2))}),
    ({"ema": {"a": torch.ones(2)}}, {"ema": {"a": torch.ones(3)}}),
    ({"ema": {"a": torch.ones(2)}}, {"ema": {"b": torch.ones(2)}}),
    ({"loader": ShuffledIndices(5)}, {"loader": ShuffledIndices(6)}),
    ({"loader_generator": random.Random(1)}, {"loader_generator": torch.Generator()}),
])  # fmt: skip
def test_what_does_not_fit_is_refused(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Another shape, key, length or kind is an error that names the part."""
    with pytest.raises(CheckpointMismatch):
        restore(capture(**old), **new)


def test_global_generators_come_back() -> None:
    """Python, numpy and torch give the same numbers again after the state is set."""
    state = rng_state()
    first = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
    set_rng_state(state)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == first  # noqa: NPY002
    assert isinstance(state["numpy"]["state"]["key"]["uint32"][0], int)


class Cuda:
    """Stands for torch.cuda with two devices."""

    def __init__(self, devices: int) -> None:
        self.states = [torch.full((4,), i, dtype=torch.uint8) for i in range(devices)]

    def is_available(self) -> bool:
        """There is."""
        return bool(self.states)

    def is_initialized(self) -> bool:
        """It is."""
        return bool(self.states)

    def device_count(self) -> int:
        """Devices."""
        return len(self.states)

    def get_rng_state(self, device: int) -> torch.Tensor:
        """State of a device."""
        return self.states[device].clone()

    def set_rng_state(self, state: torch.Tensor, device: int) -> None:
        """Set the state of a device."""
        self.states[device] = state


def test_each_cuda_device_has_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """All devices are saved and set; another number of devices is refused."""
    monkeypatch.setattr(torch, "cuda", Cuda(2))
    state = rng_state()
    assert [one[0].item() for one in state["cuda"]] == [0, 1]
    target = Cuda(2)
    target.states = [torch.full((4,), 9, dtype=torch.uint8)] * 2
    monkeypatch.setattr(torch, "cuda", target)
    set_rng_state(state)
    assert [one[0].item() for one in target.states] == [0, 1]
    for count in (0, 1):
        monkeypatch.setattr(torch, "cuda", Cuda(count))
        with pytest.raises(CheckpointMismatch, match="2 CUDA devices"):
            set_rng_state(state)


def test_the_monitor_goes_along() -> None:
    """The tracker's own state is captured and given back."""

    class Monitor:
        def __init__(self) -> None:
            self.seen: Any = None

        def state_dict(self) -> dict[str, Any]:
            return {"best": 0.5}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.seen = state

    monitor = Monitor()
    state = capture(run=monitor)
    assert state["monitor"] == {"best": 0.5}
    restore(state, run=monitor)
    assert monitor.seen == {"best": 0.5}


def test_a_part_without_state_is_refused() -> None:
    """An object that has no state_dict cannot be captured."""
    with pytest.raises(StateError, match="state_dict"):
        capture(model=object())


def test_shuffled_indices_are_all_indices_in_each_epoch() -> None:
    """Every epoch is a permutation, another one each time."""
    sampler = ShuffledIndices(20, seed=3)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
