"""Lightning 2, real small modules: the callback, the logger, and both."""

from __future__ import annotations

import math
from typing import Any

import pytest

lightning = pytest.importorskip("lightning")
torch = pytest.importorskip("torch")

from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from assay.track.frameworks.lightning import AssayCallback, AssayLogger, resume_file  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # Lightning asks torch for the kind of a leaf in a way that torch has deprecated.
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # Advice of the trainer about workers, logging intervals and missing loops of these tiny trainings.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`.*"),
]


class Net(lightning.LightningModule):
    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.error = RuntimeError("broken step")

    def loss(self, batch: Any) -> Any:
        """Mean squared error."""
        return ((self.net(batch[0]) - batch[1]) ** 2).mean()

    def training_step(self, batch: Any, index: int) -> Any:
        """May fail on purpose."""
        if index == self.hparams["fail_at"]:
            raise self.error
        loss = self.loss(batch)
        self.log("train_mse", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """One metric."""
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, index: int) -> None:
        """One metric."""
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        """The rate halves with every step."""
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def net(**options: Any) -> Net:
    """The same weights every time."""
    torch.manual_seed(0)
    return Net(**options)


def data(shuffle: bool = False) -> Any:
    """Four batches."""
    draw = torch.Generator().manual_seed(1)
    rows = TensorDataset(torch.randn(32, 4, generator=draw), torch.randn(32, 1, generator=draw))
    return DataLoader(rows, batch_size=8, shuffle=shuffle, generator=torch.Generator().manual_seed(2))


def trainer(*callbacks: Any, epochs: int = 2, logger: Any = False, **options: Any) -> Any:
    """A quiet trainer on the CPU."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet["enable_checkpointing"] = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    every = {"log_every_n_steps": 1, "accelerator": "cpu", "max_epochs": epochs}
    return lightning.Trainer(callbacks=list(callbacks), logger=logger, **{**quiet, **every, **options})


def test_a_fit_is_recorded_step_by_step(opened, record) -> None:
    """Eight rows with the rate of their own step, two evaluations without the sanity check, a test, the end."""
    with opened() as run:
        host = trainer(AssayCallback(run))
        module = net()
        host.fit(module, data(), data())
        host.test(module, data(), verbose=False)
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 9))
    assert all(math.isfinite(loss) for loss in found.losses)
    assert [row["signals"]["lr"] for row in found.steps] == pytest.approx([0.1 * 0.5**k for k in range(8)])
    assert any("data_wait_s" in row["signals"] for row in found.steps)
    assert [(row["step"], row["epoch"], sorted(row["metrics"])) for row in found.evaluations] == [
        (4, 0, ["val_loss"]),
        (8, 1, ["val_loss"]),
        (8, 1, ["test_loss"]),
    ]
    assert [sorted(row["metrics"]) for row in found.epochs] == [["train_mse", "val_loss"]] * 2
    started = found.one("training_started")
    assert (started["total_epochs"], started["total_steps"]) == (2, 8)
    assert started["config"]["hyperparameters"] == {"fail_at": -1}
    assert found.named("wiring_inspected")
    assert found.one("training_ended")["reason"] == "completed"


def test_accumulated_batches_make_one_row_with_their_mean_loss(opened, record) -> None:
    """Two batches a step: two rows an epoch."""
    single: list[float] = []

    class Truth(lightning.pytorch.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            single.append(float(outputs["loss"]))

    with opened() as run:
        trainer(AssayCallback(run), Truth(), accumulate_grad_batches=2, epochs=1).fit(net(), data())
    assert record().numbers_of_steps() == [1, 2]
    assert record().losses == pytest.approx([sum(single[:2]) / 2, sum(single[2:]) / 2])


def test_a_request_to_stop_ends_the_fit_with_a_checkpoint(opened, record, stop_after) -> None:
    """`trainer.should_stop` ends it after the batch; what a stop needs is saved although Lightning saves nothing."""
    with opened() as run:
        stop_after(run, 6)
        trainer(AssayCallback(run, save=True), epochs=5).fit(net(), data())
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 7))
    saved = found.one("checkpoint_committed")
    assert (saved["reason"], saved["step"]) == ("stop", 6)
    assert found.one("training_ended")["reason"] == "stopped"


def test_a_failure_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """Lightning's own hook tells it: the terminal event is there before the `with` ends."""
    run = opened()
    module = net(fail_at=2)
    with pytest.raises(RuntimeError) as caught:
        trainer(AssayCallback(run)).fit(module, data())
    assert caught.value is module.error
    ended = record().one("training_ended")
    assert (ended["reason"], ended["exception"]["text"]) == ("exception", "broken step")
    assert record().numbers_of_steps() == [1, 2]


def test_checkpoints_of_lightning_are_reported_and_kept_and_resumed(opened, record, tmp_path) -> None:
    """Its files are reported by path; the copy in the experiment takes a second attempt on, step numbers too."""

    def saver() -> Any:
        return ModelCheckpoint(dirpath=tmp_path / "theirs", monitor="val_loss", save_last=True)

    with opened() as run:
        trainer(AssayCallback(run, save=True), saver()).fit(net(), data(), data())
    found = record()
    found.assert_healthy()
    reported = {event["path"].rsplit("/", 1)[1] for event in found.named("checkpoint_reported")}
    assert "last.ckpt" in reported
    assert all(event["exists"] for event in found.named("checkpoint_reported"))
    assert {event["step"] for event in found.named("checkpoint_committed")} <= {4, 8}
    assert found.named("checkpoint_committed")
    assert "restore" in {event["level"] for event in found.named("checkpoint_verified")}
    with opened(resume="exp-001") as run:
        path = resume_file(run)
        trainer(AssayCallback(run), saver(), epochs=3).fit(net(), data(), data(), ckpt_path=path)
    assert record().numbers_of_steps(attempt=2) == [9, 10, 11, 12]


def test_a_resumed_fit_ends_with_the_same_weights(opened, tmp_path) -> None:
    """The next epoch draws what it would have drawn: Lightning's own checkpoint has no generators, ours adds them."""

    def fitted(module: Net, *callbacks: Any, epochs: int, path: str | None = None) -> Net:
        shuffled = DataLoader(data().dataset, batch_size=8, shuffle=True)
        saver = ModelCheckpoint(dirpath=tmp_path / "theirs", monitor="val_loss")
        trainer(*callbacks, saver, epochs=epochs).fit(module, shuffled, data(), ckpt_path=path)
        return module

    whole = fitted(net(), epochs=3)
    with opened() as run:
        fitted(net(), AssayCallback(run, save=True), epochs=2)
    torch.manual_seed(99)
    with opened(resume="exp-001") as run:
        again = fitted(Net(), AssayCallback(run), epochs=3, path=resume_file(run))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_the_logger_alone_takes_what_the_module_logs(opened, record) -> None:
    """Steps counted from 1, evaluations as such, hyperparameters, the terminal event."""
    with opened() as run:
        trainer(logger=AssayLogger(run)).fit(net(), data(), data())
    found = record()
    found.assert_healthy()
    assert sorted({row["step"] for row in found.steps}) == list(range(1, 9))
    assert "train_mse_step" in found.steps[0]["metrics"]
    assert [row["step"] for row in found.evaluations] == [4, 8]
    assert found.one("hyperparameters")["values"] == {"fail_at": -1}


def test_the_logger_alone_records_a_failure(root, record) -> None:
    """Lightning finalizes loggers while the exception is handled."""
    with pytest.raises(RuntimeError, match="broken step"):
        trainer(logger=AssayLogger()).fit(net(fail_at=2), data())
    assert record().one("training_ended")["exception"]["text"] == "broken step"


def test_callback_and_logger_together_tell_an_evaluation_once(opened, record) -> None:
    """One evaluation row a validation; the module's own metrics come at their steps."""
    with opened() as run:
        trainer(AssayCallback(run), logger=AssayLogger(run)).fit(net(), data(), data())
    found = record()
    found.assert_healthy()
    assert len(found.evaluations) == 2
    at_one = [set(row["metrics"]) for row in found.steps if row["step"] == 1]
    assert at_one == [{"loss"}, {"train_mse_step"}]


def test_fabric_takes_the_logger(opened, record) -> None:
    """`fabric.log_dict` writes rows and evaluations at the caller's steps."""
    with opened() as run:
        fabric = lightning.Fabric(accelerator="cpu", devices=1, loggers=AssayLogger(run, shift=0))
        fabric.log_dict({"loss": torch.tensor(0.5)}, step=1)
        fabric.log_dict({"val_loss": 0.25}, step=1)
    assert record().losses == [0.5]
    assert record().evaluations[0]["metrics"] == {"val_loss": 0.25}


def test_the_state_of_the_record_travels_in_lightnings_checkpoint(opened, tmp_path) -> None:
    """The best value of the first attempt is known in the second, which began from Lightning's own file."""
    path = tmp_path / "own.ckpt"
    with opened(primary_metric="val_loss") as run:
        host = trainer(AssayCallback(run))
        host.fit(net(), data(), data())
        host.save_checkpoint(path)
        before = dict(run.best)
    assert before["val_loss"]["value"] > 0
    with opened() as run:
        trainer(AssayCallback(run), epochs=2).fit(net(), data(), data(), ckpt_path=path)
        assert run.best["val_loss"] == before["val_loss"]


def test_training_is_the_same_with_and_without_us(opened, monkeypatch, root) -> None:
    """Weights and the next random number are equal: with callback and logger, without, and switched off."""

    def trained(*callbacks: Any, **options: Any) -> list[Any]:
        module = net()
        trainer(*callbacks, **options).fit(module, data(shuffle=True), data())
        return [*module.parameters(), torch.rand(1)]

    alone = trained()
    with opened() as run:
        watched = trained(AssayCallback(run), logger=AssayLogger(run))
    monkeypatch.setenv("ASSAY_TRACK", "off")
    off = trained(AssayCallback(), logger=AssayLogger())
    for found in (watched, off):
        assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))
    assert not (root / "exp-002").exists()


def test_without_a_run_it_opens_one_and_ends_it(root, record) -> None:
    """`Trainer(callbacks=[AssayCallback()])` is a whole experiment."""
    trainer(AssayCallback(), epochs=1).fit(net(), data(), data())
    ended = record().one("training_ended")
    assert ended["reason"] == "completed"
    assert set(ended["final_metrics"]) >= {"val_loss", "train_mse"}
