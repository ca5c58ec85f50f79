"""Keras 3 on torch, a real small model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from assay.track.frameworks.keras import AssayCallback, restore  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # Keras's torch backend makes numpy arrays in a way that numpy 2 announces to end.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.normal(size=(40, 1)).astype("float32")


def network(seed: int = 0, **options: Any) -> Any:
    """A small compiled model with dropout."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **options)
    return model


def fit(model: Any, *callbacks: Any, epochs: int = 2, **options: Any) -> Any:
    """Five batches an epoch, shuffled."""
    options = {"batch_size": 8, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def test_a_fit_is_recorded_batch_by_batch(opened, record) -> None:
    """Ten rows, two evaluations and epochs, checkpoints, and the terminal event."""
    with opened() as run:
        model = network()
        fit(model, AssayCallback(run), validation_data=(X[:16], Y[:16]))
        model.evaluate(X, Y, verbose=0, callbacks=[AssayCallback(run)])
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 11))
    assert [row["epoch"] for row in found.steps] == [0] * 5 + [1] * 5
    assert all(math.isfinite(loss) for loss in found.losses)
    assert all(row["signals"]["lr"] == pytest.approx(0.01) for row in found.steps)
    assert any("data_wait_s" in row["signals"] for row in found.steps)
    assert [sorted(row["metrics"]) for row in found.evaluations] == [["val_loss", "val_mae"]] * 2 + [
        ["test_loss", "test_mae"]
    ]
    assert [row["epoch"] for row in found.epochs] == [0, 1]
    assert len(found.named("checkpoint_committed")) == 2
    started = found.one("training_started")
    assert (started["total_epochs"], started["total_steps"]) == (2, 10)
    assert started["config"]["framework"].startswith("keras 3.")
    assert found.one("training_ended")["reason"] == "completed"


def test_the_loss_of_a_batch_is_its_own_and_not_the_running_mean(opened, record) -> None:
    """A bad last batch shows in full; in Keras's own log it is diluted by those before."""
    losses = []

    class Truth(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rows = slice(batch * 8, batch * 8 + 8)
            losses.append(((self.model(X[rows]).detach().numpy() - bad[rows]) ** 2).mean())

    bad = Y.copy()
    bad[32:] += 100.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    with opened() as run:
        history = model.fit(
            X, bad, batch_size=8, shuffle=False, verbose=0, callbacks=[Truth(), AssayCallback(run)]
        )
    assert record().losses == pytest.approx(losses, rel=1e-4)
    assert record().losses[-1] > 4 * history.history["loss"][0]


def test_a_request_to_stop_ends_the_fit(opened, record, stop_after) -> None:
    """The fit ends after the batch, with a checkpoint, and is recorded as stopped."""
    with opened() as run:
        stop_after(run, 7)
        fit(network(), AssayCallback(run, checkpoint_every=10), epochs=5)
    found = record()
    assert found.numbers_of_steps() == list(range(1, 8))
    assert found.one("training_ended")["reason"] == "stopped"
    assert found.one("checkpoint_committed")["reason"] == "stop"


def test_a_failure_in_the_fit_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """The very exception object leaves; its text stands in the terminal event."""
    error = RuntimeError("broken batch")

    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise error

    with pytest.raises(RuntimeError) as caught, opened() as run:
        fit(network(), AssayCallback(run), Broken())
    assert caught.value is error
    ended = record().one("training_ended")
    assert ended["reason"] == "exception"
    assert ended["exception"]["text"] == "broken batch"


def test_a_resume_goes_on_with_steps_weights_and_dropout(opened, record) -> None:
    """Two epochs, then fresh objects and two more: equal to four in one go, bit for bit."""
    whole = network()
    fit(whole, epochs=4)
    with opened() as run:
        callback = AssayCallback(run)
        model = network()
        assert callback.restore(model) == 0
        fit(model, callback, epochs=2)
    with opened(resume="exp-001") as run:
        model, callback = network(seed=9), AssayCallback(run)
        fit(model, callback, epochs=4, initial_epoch=callback.restore(model))
    assert record().numbers_of_steps(attempt=2) == list(range(11, 21))
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), model.get_weights(), strict=True))


def test_a_checkpoint_of_another_model_is_refused(opened) -> None:
    """The message names the model."""
    with opened() as run:
        fit(network(), AssayCallback(run), epochs=1)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.compile("adam", "mse")
    with opened(resume="exp-001") as run:
        state = run.resume()
    with pytest.raises(ValueError, match="not those of model"):
        restore(other, state)


def test_training_is_the_same_with_and_without_us(opened, monkeypatch, record) -> None:
    """Weights are equal to the last bit: with a run, without, and switched off."""
    alone = network()
    fit(alone)
    with opened() as run:
        watched = network()
        fit(watched, AssayCallback(run))
    monkeypatch.setenv("ASSAY_TRACK", "off")
    off = network()
    fit(off, AssayCallback())
    for model in (watched, off):
        assert all(
            np.array_equal(a, b) for a, b in zip(alone.get_weights(), model.get_weights(), strict=True)
        )
    assert not (record().folder.parent / "exp-002").exists()


def test_without_a_run_it_opens_one_and_ends_it(root, record) -> None:
    """`fit(callbacks=[AssayCallback()])` is a whole experiment."""
    fit(network(), AssayCallback(), epochs=1)
    assert record().one("training_ended")["reason"] == "completed"
    assert record().numbers_of_steps() == [1, 2, 3, 4, 5]
