"""Probes on real torch models: what they measure, what they leave alone, what they cost nothing for."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from assay.track.probes import Probes

torch.set_num_threads(1)


def net(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A small net from a fixed seed."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3))


X = torch.linspace(-1, 1, 32 * 8).reshape(32, 8).sin()
Y = torch.arange(32) % 3


def step(model: nn.Module, optimizer: Any, scale: float = 1.0, accumulate: int = 1) -> None:
    """One update."""
    optimizer.zero_grad()
    for _ in range(accumulate):
        (scale * nn.functional.cross_entropy(model(X), Y) / accumulate).backward()
    optimizer.step()


def train(model: nn.Module, optimizer: Any, probes: Probes, steps: int = 25) -> list[dict[str, float]]:
    """Signals of each step."""
    found = []
    for _ in range(steps):
        step(model, optimizer)
        found.append(probes.signals())
    return found


def test_the_gradient_norm_is_the_one_torch_computes() -> None:
    """Global norm and the RMS of the first and last weight agree with a plain computation."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer)
    step(model, optimizer)
    seen = probes.signals()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert seen["grad_norm"] == pytest.approx(math.sqrt(sum(float(g.pow(2).sum()) for g in grads)), rel=1e-4)
    assert seen["grad_rms_first"] == pytest.approx(float(grads[0].pow(2).mean().sqrt()), rel=1e-4)
    assert seen["grad_rms_last"] == pytest.approx(float(grads[4].pow(2).mean().sqrt()), rel=1e-4)
    assert seen["lr"] == 0.1


def test_the_update_ratio_is_the_largest_of_all_tensors() -> None:
    """Change over size of the tensor that changed most, as measured by hand."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    step(model, optimizer)
    wanted = max(
        float((p.detach() - b).norm() / b.norm()) for p, b in zip(model.parameters(), before, strict=True)
    )
    assert probes.signals()["update_ratio"] == pytest.approx(wanted, rel=1e-3)


def test_training_with_probes_is_bitwise_the_same() -> None:
    """Weights, the random state and dropout's masks do not know that they are watched."""
    ends = []
    for watched in (False, True):
        model = nn.Sequential(net(), nn.Dropout(0.5))
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        probes = Probes(model, optimizer, every=3) if watched else None
        for _ in range(20):
            step(model, optimizer)
            if probes is not None:
                probes.signals()
        state = torch.cat([p.detach().flatten() for p in model.parameters()])
        ends.append((state, torch.get_rng_state()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_close_removes_every_hook() -> None:
    """Nothing of ours is left on modules, parameters or the optimizer, and signals are silent."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    probes = Probes(model, optimizer)
    train(model, optimizer, probes, 5)
    probes.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert probes.signals() == {}


def test_an_optimizer_over_clones_is_seen_at_once_and_in_the_wiring() -> None:
    """The ratio is exactly zero in every step, and nothing of the model is owned."""
    model = net()
    optimizer = torch.optim.SGD([p.detach().clone().requires_grad_() for p in model.parameters()], 0.1)
    probes = Probes(model, optimizer)
    facts = probes.wiring()
    assert facts["owned_trainable_elements"] == 0
    assert facts["foreign_elements"] == facts["trainable_elements"]
    assert [s["update_ratio"] for s in train(model, optimizer, probes, 9)] == [0.0] * 9


def test_a_forgotten_step_is_seen_and_accumulation_is_not_one() -> None:
    """Backward passes far beyond the usual number between steps mean that nobody steps."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer)
    for _ in range(4):
        step(model, optimizer, accumulate=4)
        probes.signals()
    ratios = []
    for _ in range(12):
        nn.functional.cross_entropy(model(X), Y).backward()
        ratios.append(probes.signals().get("update_ratio"))
    assert ratios[:8] == [None] * 8
    assert ratios[8:] == [0.0] * 4


def test_wiring_tells_frozen_layers_schedulers_and_dropout() -> None:
    """A layer frozen after the optimizer was built, and what a scheduler leaves in the groups."""
    model = nn.Sequential(net(), nn.Dropout(0.1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plain = Probes(model, optimizer).wiring()
    assert (plain["scheduler"], plain["dropout"], plain["frozen_in_optimizer"]) == (False, True, [])
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    next(model.parameters()).requires_grad_(False)
    facts = Probes(model, optimizer).wiring()
    assert facts["scheduler"] is True
    assert facts["frozen_in_optimizer"] == ["0.0.weight"]


def test_dead_units_are_found_with_modules_and_with_functional_relu() -> None:
    """A layer whose bias is far below zero is dead in both ways of writing a relu."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    torch.manual_seed(0)
    for model, bias in ((net(), "2.bias"), (Functional(), "b.bias")):
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        probes = Probes(model, optimizer)
        alive = [s["dead_frac"] for s in train(model, optimizer, probes) if "dead_frac" in s]
        with torch.no_grad():
            dict(model.named_parameters())[bias].fill_(-50.0)
        dead = [s["dead_frac"] for s in train(model, optimizer, probes) if "dead_frac" in s]
        assert max(alive) < 0.9
        assert dead[-1] == 1.0


def test_saturation_is_found() -> None:
    """Inputs fifty times too large push tanh to its ends."""
    model = net(nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    probes = Probes(model, optimizer)
    calm = [s["saturated_frac"] for s in train(model, optimizer, probes) if "saturated_frac" in s]
    with torch.no_grad():
        next(model.parameters()).mul_(200.0)
    wild = [s["saturated_frac"] for s in train(model, optimizer, probes) if "saturated_frac" in s]
    assert max(calm) < 0.5 < wild[-1]


def test_weights_that_are_not_finite_are_told_within_a_round() -> None:
    """A parameter turned infinite shows in params_finite."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer, budget_s=1.0)
    assert {s["params_finite"] for s in train(model, optimizer, probes) if "params_finite" in s} == {1.0}
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = math.inf
    seen = train(model, optimizer, probes, 11)
    assert seen[0]["params_finite"] == 0.0
    assert not math.isfinite(seen[0]["grad_norm"])


def test_without_any_budget_every_kind_is_still_measured() -> None:
    """What costs too much is measured less often, never not at all."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    seen = train(model, optimizer, Probes(model, optimizer, budget_s=0.0), 60)[20:]
    assert 3 <= sum("grad_norm" in s for s in seen) <= 10
    assert sum("update_ratio" in s for s in seen) >= 2
    assert sum("dead_frac" in s for s in seen) >= 1


def test_a_jump_of_the_gradient_is_read_again_at_once() -> None:
    """Two readings in a row make an explosion: the second does not wait for its turn."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    probes = Probes(model, optimizer, budget_s=0.0)
    train(model, optimizer, probes, 30)
    norms = []
    for _ in range(3):
        step(model, optimizer, scale=1e3)
        norms.append(probes.signals().get("grad_norm"))
    assert [n is not None for n in norms] == [True, True, False]


def test_a_quiet_step_carries_one_hook() -> None:
    """Between two measured steps nothing hangs before the step, in the forward pass or in the backward pass."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    probes = Probes(model, optimizer)
    train(model, optimizer, probes, 14)
    assert not any(m._forward_hooks for m in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks
    assert len(optimizer._optimizer_step_post_hooks) == 1


def test_a_bias_that_moves_alone_is_movement() -> None:
    """Matrices that rest are no stillness while anything else is trained."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "lr": 0.0},
        {"params": [p for p in model.parameters() if p.dim() == 1], "lr": 0.5},
    ]
    optimizer = torch.optim.SGD(groups)
    ratios = [
        s["update_ratio"] for s in train(model, optimizer, Probes(model, optimizer)) if "update_ratio" in s
    ]
    assert ratios
    assert min(ratios) > 1e-6


def test_steps_that_a_scaler_skips_are_named() -> None:
    """A real gradient scaler that overflows skips its first steps: that is no NaN of the run."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    probes = Probes(model, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    skipped = []
    for _ in range(12):
        optimizer.zero_grad()
        scaler.scale(100 * nn.functional.cross_entropy(model(X), Y)).backward()
        scaler.step(optimizer)
        scaler.update()
        seen = probes.signals()
        skipped.append(seen.get("amp_skipped", 0.0))
        assert math.isfinite(seen.get("grad_norm", 0.0))
    assert sum(skipped) >= 1
    assert skipped[-1] == 0.0


def test_without_torch_models_it_answers_with_nothing() -> None:
    """Any other object is watched without harm."""
    probes = Probes(object(), None)
    assert (probes.signals(), probes.wiring()) == ({}, {})
    probes.close()


def test_evaluation_batches_are_not_measured() -> None:
    """A forward pass in eval mode during a measured step adds nothing."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer, every=1, budget_s=1.0)
    train(model, optimizer, probes, 3)
    model.eval()
    with torch.no_grad():
        model(torch.zeros(32, 8) - 1e6)
    model.train()
    assert train(model, optimizer, probes, 1)[0]["dead_frac"] < 1.0


def test_without_an_optimizer_gradients_are_read_when_asked() -> None:
    """The norm comes from whatever gradients there are."""
    model = net()
    probes = Probes(model)
    nn.functional.cross_entropy(model(X), Y).backward()
    assert probes.signals()["grad_norm"] > 0


def test_a_fused_optimizer_moves_the_weights() -> None:
    """Its kernel writes without counting the writes; a healthy training under it was once stopped for not moving."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    probes = Probes(model, optimizer, every=5)
    found = [s["update_ratio"] for s in train(model, optimizer, probes) if "update_ratio" in s]
    probes.close()
    assert found
    assert min(found) > 1e-4


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_a_watched_model_is_copied_and_saved_without_its_hooks(activation: type[nn.Module]) -> None:
    """A moving average of the weights is a deep copy: it runs, is not measured, and is loaded where no Assay is."""
    model = net(activation)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = Probes(model, optimizer)
    hooked = 0
    for _ in range(60):
        copied = copy.deepcopy(model)
        hooked += sum(len(m._forward_hooks) for m in copied.modules())
        saved = pickle.dumps(model)
        assert b"assay" not in saved
        for twin in (copied, pickle.loads(saved)):
            assert torch.equal(twin(X), model(X))
        step(model, optimizer)
        probes.signals()
    assert hooked > 0
