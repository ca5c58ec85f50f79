"""The Trainer of transformers 5 with a real, tiny language model."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from assay.track.frameworks.transformers import AssayCallback, LossTap, register, resume_folder  # noqa: E402

pytestmark = pytest.mark.slow


def model(seed: int = 0) -> Any:
    """A tiny language model."""
    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


def rows(count: int = 24) -> list[dict[str, Any]]:
    """Sequences of eight tokens."""
    draw = torch.Generator().manual_seed(1)
    found = [{"input_ids": torch.randint(0, 50, (8,), generator=draw)} for _ in range(count)]
    return [{**row, "labels": row["input_ids"].clone()} for row in found]


def trainer(net: Any, *callbacks: Any, **options: Any) -> Any:
    """Six updates an epoch."""
    settings = {
        "output_dir": "out", "per_device_train_batch_size": 4, "num_train_epochs": 2, "logging_steps": 4,
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "eval_strategy": "epoch",
        "save_strategy": "epoch", "dataloader_pin_memory": False, "learning_rate": 1e-2,
    }  # fmt: skip
    args = TrainingArguments(**{**settings, **options})
    return Trainer(
        model=net, args=args, train_dataset=rows(), eval_dataset=rows(8), callbacks=list(callbacks)
    )


def test_a_training_is_recorded_step_by_step(opened, record) -> None:
    """Twelve rows though the Trainer logs every fourth step; evaluations, epochs, its checkpoints, the end."""
    with opened() as run:
        host = trainer(model(), AssayCallback(run))
        host.train()
        host.predict(rows(4))
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 13))
    assert len(found.losses) == 12
    assert all(math.isfinite(loss) for loss in found.losses)
    logged = [entry for entry in host.state.log_history if "loss" in entry]
    for entry in logged:
        mean = sum(found.losses[entry["step"] - 4 : entry["step"]]) / 4
        assert mean == pytest.approx(entry["loss"], abs=1e-3)
    assert [row["signals"]["lr"] for row in found.steps] == pytest.approx(
        [1e-2 * (1 - k / 12) for k in range(12)]
    )
    assert [row["step"] for row in found.steps if "grad_norm" in row["metrics"]] == [4, 8, 12]
    assert (
        sum("grad_norm" in row["signals"] for row in found.steps) >= 6
    )  # of the probes, within their budget
    assert any("data_wait_s" in row["signals"] for row in found.steps)
    assert [(row["step"], row["epoch"], sorted(row["metrics"])) for row in found.evaluations] == [
        (6, 0, ["eval_loss"]),
        (12, 1, ["eval_loss"]),
        (12, 1, ["test_loss"]),
    ]
    assert [row["epoch"] for row in found.epochs] == [0, 1]
    reported = found.named("checkpoint_reported")
    assert [(event["path"], event["step"], event["exists"]) for event in reported] == [
        ("out/checkpoint-6", 6, True),
        ("out/checkpoint-12", 12, True),
    ]
    started = found.one("training_started")
    assert (started["total_epochs"], started["total_steps"]) == (2, 12)
    assert started["config"]["logging_steps"] == 4
    assert found.one("training_ended")["reason"] == "completed"


def test_a_nan_is_seen_in_its_step_although_the_trainer_hides_it(opened, record) -> None:
    """`logging_nan_inf_filter` puts the mean of earlier losses in its place; our row names it."""
    net = model()
    seen = []

    def poison(module: Any, args: Any, output: Any) -> Any:
        seen.append(1)
        if len(seen) == 4:
            output["loss"] = output["loss"] * float("nan")
        return output

    net.register_forward_hook(poison)
    with opened() as run:
        host = trainer(net, AssayCallback(run), logging_steps=1, num_train_epochs=1, eval_strategy="no")
        host.train()
    bad = [row["step"] for row in record().steps if row.get("nonfinite", {}).get("loss") == "nan"]
    assert bad[0] == 4
    assert all(math.isfinite(entry["loss"]) for entry in host.state.log_history if "loss" in entry)


@pytest.mark.parametrize("micro", [2, 3])
def test_accumulated_micro_batches_make_one_row(opened, record, micro) -> None:
    """The Trainer gives the model a share of the step's loss for each micro-batch; the row has the whole."""
    with opened() as run:
        host = trainer(model(), AssayCallback(run), gradient_accumulation_steps=micro, logging_steps=1)
        host.train()
    logged = [entry["loss"] for entry in host.state.log_history if "loss" in entry]
    assert record().losses == pytest.approx(logged, rel=1e-3)


def test_a_request_to_stop_ends_the_training_with_a_checkpoint(opened, record, stop_after) -> None:
    """After the step, saved by the Trainer and kept in the experiment."""
    with opened() as run:
        stop_after(run, 5)
        trainer(model(), AssayCallback(run, save=True), num_train_epochs=5).train()
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == [1, 2, 3, 4, 5]
    assert Path("out/checkpoint-5").is_dir()
    saved = found.one("checkpoint_committed")
    assert (saved["step"], saved["reason"]) == (5, "stop")
    assert found.one("training_ended")["reason"] == "stopped"


def test_a_failure_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """The very exception object leaves; its text stands in the terminal event."""
    error = RuntimeError("broken step")

    class Broken(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise error

    with pytest.raises(RuntimeError) as caught, opened() as run:
        trainer(model(), AssayCallback(run), Broken()).train()
    assert caught.value is error
    assert record().one("training_ended")["exception"]["text"] == "broken step"
    assert record().numbers_of_steps() == [1, 2, 3]


def test_a_resume_goes_on_from_the_kept_checkpoint(opened, record) -> None:
    """The Trainer's own folder is gone; the copy in the experiment gives the same weights and step numbers."""
    whole = model()
    trainer(whole, num_train_epochs=2).train()
    shutil.rmtree("out")
    with opened() as run:
        host = trainer(model(), AssayCallback(run, save=True))
        host.add_callback(_StopAfterEpoch())
        host.train()
    record().assert_healthy()
    assert "restore" in {event["level"] for event in record().named("checkpoint_verified")}
    shutil.rmtree("out")
    with opened(resume="exp-001") as run:
        again = model(seed=5)
        trainer(again, AssayCallback(run)).train(resume_from_checkpoint=resume_folder(run))
    found = record()
    assert found.numbers_of_steps() == [1, 2, 3, 4, 5, 6]
    assert found.numbers_of_steps(attempt=2) == [7, 8, 9, 10, 11, 12]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


class _StopAfterEpoch(TrainerCallback):
    """As a machine that is taken away after the first epoch."""

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_training_is_the_same_with_and_without_us(opened, monkeypatch, root) -> None:
    """Weights and the next random number are equal: with a run, without, and switched off."""

    def trained(*callbacks: Any) -> list[Any]:
        net = model()
        trainer(net, *callbacks).train()
        return [*net.parameters(), torch.rand(1)]

    alone = trained()
    with opened() as run:
        watched = trained(AssayCallback(run))
    monkeypatch.setenv("ASSAY_TRACK", "off")
    off = trained(AssayCallback())
    for found in (watched, off):
        assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))
    assert not (root / "exp-002").exists()


def test_report_to_assay(root, record) -> None:
    """After `register()` no callback is passed: the Trainer opens, records and ends the experiment by itself."""
    register()
    trainer(model(), report_to="assay", num_train_epochs=1).train()
    ended = record().one("training_ended")
    assert ended["reason"] == "completed"
    assert {"train_loss", "eval_loss"} <= set(ended["final_metrics"])


def test_a_model_that_is_copied_or_saved_while_we_listen_takes_nothing_of_ours_along() -> None:
    """An average of the weights, a pickle: their copy of the hook is empty and keeps nothing."""
    net = model()
    handle = net.register_forward_hook(LossTap(), with_kwargs=True)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        ids = rows(2)[0]["input_ids"][None]
        other.train()(input_ids=ids, labels=ids)
        (tap,) = other._forward_hooks.values()
        assert not isinstance(tap, LossTap)
    handle.remove()


def test_the_hook_is_gone_after_training(opened) -> None:
    """The model is as it was."""
    net = model()
    with opened() as run:
        trainer(net, AssayCallback(run, watch=False), num_train_epochs=1).train()
    assert not net._forward_hooks
