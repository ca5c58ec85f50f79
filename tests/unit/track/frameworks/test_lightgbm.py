"""LightGBM 4, real boosters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm")

from assay.track.frameworks.lightgbm import AssayCallback, restore  # noqa: E402

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
X = RNG.random((300, 5))
Y = (X[:, 0] + 0.2 * RNG.normal(size=300) > 0.5).astype(int)
PARAMS = {
    "objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 4, "learning_rate": 0.2,
    "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 1, "deterministic": True,
}  # fmt: skip


def train(rounds: int, *callbacks: Any, **options: Any) -> Any:
    """A small boosting with a held-out set."""
    fit = lightgbm.Dataset(X[:200], Y[:200], free_raw_data=False)
    held = lightgbm.Dataset(X[200:], Y[200:], reference=fit)
    options = {"valid_sets": [fit, held], "valid_names": ["train", "valid"], **options}
    return lightgbm.train(PARAMS, fit, rounds, callbacks=list(callbacks), **options)


def test_a_boosting_is_recorded_round_by_round(opened, record) -> None:
    """A row a round, evaluations at 10 and the end, the curve, a final checkpoint, the terminal event."""
    results: dict[str, Any] = {}
    with opened() as run:
        train(12, AssayCallback(run), lightgbm.record_evaluation(results))
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 13))
    assert found.losses == pytest.approx(results["train"]["binary_logloss"])
    assert all(row["signals"]["lr"] == 0.2 for row in found.steps)
    assert [row["step"] for row in found.evaluations] == [10, 12]
    facts = found.one("classical_inspected")["facts"]["classical"]
    assert facts["boosting"] == pytest.approx(results["valid"]["binary_logloss"])
    assert found.one("checkpoint_committed")["reason"] == "final"
    assert found.one("training_started")["total_steps"] == 12
    assert found.one("training_ended")["reason"] == "completed"


def test_a_request_to_stop_ends_the_boosting_with_all_rounds(opened, record, stop_after) -> None:
    """LightGBM's own exception ends it; predictions use the four rounds that were made."""
    with opened() as run:
        stop_after(run, 4)
        booster = train(50, AssayCallback(run))
    found = record()
    assert booster.current_iteration() == booster.best_iteration == 4
    assert found.numbers_of_steps() == [1, 2, 3, 4]
    assert found.one("checkpoint_committed")["reason"] == "stop"
    assert found.one("training_ended")["reason"] == "stopped"


def test_early_stopping_of_another_callback_is_seen_to_its_last_round(opened, record) -> None:
    """Our order is before early stopping: the round that ends the training has its row."""
    with opened() as run:
        booster = train(200, lightgbm.early_stopping(2, verbose=False), AssayCallback(run))
    assert record().numbers_of_steps()[-1] == booster.best_iteration + 2 < 200
    assert record().one("training_ended")["reason"] == "completed"


def test_a_failure_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """A callback that raises in round 3, after ours."""
    error = OSError("disk of the user")

    def broken(env):
        if env.iteration == 2:
            raise error

    broken.order = 99
    with pytest.raises(OSError) as caught, opened() as run:  # noqa: PT011 - the object is compared
        train(10, AssayCallback(run), broken)
    assert caught.value is error
    assert record().one("training_ended")["exception"]["text"] == "disk of the user"
    assert record().numbers_of_steps() == [1, 2, 3]


def test_a_resume_goes_on_with_the_step_numbers(opened, record) -> None:
    """`init_model` keeps the iteration count; the rows of the second attempt go on at 7."""
    with opened() as run:
        train(6, AssayCallback(run))
    with opened(resume="exp-001") as run:
        booster, rounds = restore(run.resume())
        assert rounds == 6
        train(4, AssayCallback(run), init_model=booster)
    assert record().numbers_of_steps(attempt=2) == [7, 8, 9, 10]
    assert record().named("training_started")[-1]["total_steps"] == 10


def test_cross_validation_has_the_spread_over_folds(opened, record) -> None:
    """`lightgbm.cv` gives mean and spread; there is no single booster to save."""
    with opened() as run:
        lightgbm.cv(PARAMS, lightgbm.Dataset(X, Y), 3, nfold=3, callbacks=[AssayCallback(run)])
    found = record()
    assert found.numbers_of_steps() == [1, 2, 3]
    assert found.steps[-1]["metrics"]["valid_binary_logloss_std"] > 0
    assert found.named("checkpoint_committed") == []


def test_the_scikit_learn_interface_takes_it(opened, record) -> None:
    """`fit(callbacks=[...])` of the classifier."""
    with opened() as run:
        model = lightgbm.LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1)
        model.fit(X, Y, eval_X=X, eval_y=Y, callbacks=[AssayCallback(run)])
    assert record().numbers_of_steps() == [1, 2, 3]
    assert "valid_0_binary_logloss" in record().steps[0]["metrics"]


def test_training_is_the_same_with_and_without_us(opened, monkeypatch, root) -> None:
    """The boosters are equal character for character: with a run, without, and switched off."""
    alone = train(8).model_to_string()
    with opened() as run:
        assert train(8, AssayCallback(run, checkpoint_every=2)).model_to_string() == alone
    monkeypatch.setenv("ASSAY_TRACK", "off")
    assert train(8, AssayCallback()).model_to_string() == alone
    assert not (root / "exp-002").exists()


def test_without_a_run_it_opens_one_and_ends_it(root, record) -> None:
    """`train(callbacks=[AssayCallback()])` is a whole experiment."""
    train(3, AssayCallback())
    assert record().one("training_ended")["reason"] == "completed"
