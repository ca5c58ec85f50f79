"""XGBoost 3, real boosters."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

xgboost = pytest.importorskip("xgboost")

from sklearn.base import clone  # noqa: E402

from assay.track.frameworks.xgboost import AssayCallback, restore  # noqa: E402

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
X = RNG.random((200, 5))
Y = (X[:, 0] + 0.2 * RNG.normal(size=200) > 0.5).astype(int)
PARAMS = {
    "objective": "binary:logistic",
    "max_depth": 2,
    "eta": 0.3,
    "nthread": 1,
    "subsample": 0.8,
    "seed": 1,
}


def train(rounds: int, *callbacks: Any, **options: Any) -> Any:
    """A small boosting with a held-out set."""
    fit, held = xgboost.DMatrix(X[:150], Y[:150]), xgboost.DMatrix(X[150:], Y[150:])
    options = {"evals": [(fit, "train"), (held, "valid")], "verbose_eval": False, **options}
    return xgboost.train(PARAMS, fit, rounds, callbacks=list(callbacks), **options)


def raw(booster: Any) -> bytes:
    """The whole model."""
    return bytes(booster.save_raw("ubj"))


def test_a_boosting_is_recorded_round_by_round(opened, record) -> None:
    """A row a round, evaluations at 10 and the end, the curve, a final checkpoint, the terminal event."""
    results: dict[str, Any] = {}
    with opened() as run:
        train(12, AssayCallback(run, total_rounds=12), evals_result=results)
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 13))
    assert found.losses == pytest.approx(results["train"]["logloss"])
    assert [row["metrics"]["valid_logloss"] for row in found.steps] == pytest.approx(
        results["valid"]["logloss"]
    )
    assert [row["step"] for row in found.evaluations] == [10, 12]
    facts = found.one("classical_inspected")["facts"]["classical"]
    assert facts["boosting"] == pytest.approx(results["valid"]["logloss"])
    assert facts["boosting_direction"] == "min"
    assert found.one("checkpoint_committed")["reason"] == "final"
    started = found.one("training_started")
    assert started["total_steps"] == 12
    assert started["config"]["objective"]["name"] == "binary:logistic"
    assert found.one("training_ended")["reason"] == "completed"


def test_a_request_to_stop_ends_the_boosting(opened, record, stop_after) -> None:
    """`return True` ends it after the round; the booster so far is returned and saved."""
    with opened() as run:
        stop_after(run, 4)
        booster = train(50, AssayCallback(run))
    found = record()
    assert booster.num_boosted_rounds() == 4
    assert found.numbers_of_steps() == [1, 2, 3, 4]
    assert found.one("checkpoint_committed")["reason"] == "stop"
    assert found.one("training_ended")["reason"] == "stopped"


def test_a_failure_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """An objective that raises in round 3."""
    error = ArithmeticError("no gradient")
    calls = []

    def objective(margin, data):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return margin - data.get_label(), np.ones_like(margin)

    with pytest.raises(ArithmeticError) as caught, opened() as run:
        train(10, AssayCallback(run), obj=objective)
    assert caught.value is error
    ended = record().one("training_ended")
    assert (ended["reason"], ended["exception"]["type"]) == ("exception", "ArithmeticError")
    assert record().numbers_of_steps() == [1, 2]


def test_a_resume_adds_the_rounds_that_the_booster_has(opened, record) -> None:
    """XGBoost counts from 0 again; the rows of the second attempt go on at 7."""
    with opened() as run:
        train(6, AssayCallback(run))
    with opened(resume="exp-001") as run:
        booster, rounds = restore(run.resume())
        assert rounds == 6
        booster = train(4, AssayCallback(run), xgb_model=booster)
    assert booster.num_boosted_rounds() == 10
    assert record().numbers_of_steps(attempt=2) == [7, 8, 9, 10]


def test_cross_validation_has_the_spread_over_folds(opened, record) -> None:
    """`xgboost.cv` gives mean and spread; there is no booster to save."""
    with opened() as run:
        xgboost.cv(PARAMS, xgboost.DMatrix(X, Y), 3, nfold=3, callbacks=[AssayCallback(run)])
    found = record()
    assert found.numbers_of_steps() == [1, 2, 3]
    assert found.steps[-1]["metrics"]["test_logloss_std"] > 0
    assert found.named("checkpoint_committed") == []


def test_the_scikit_learn_interface_takes_it_and_its_copies(opened, record) -> None:
    """A clone writes to the same run; a pickled model comes back with a callback that does nothing."""
    with opened() as run:
        model = xgboost.XGBClassifier(
            n_estimators=3, n_jobs=1, callbacks=[AssayCallback(run, evaluate_every=1)]
        )
        clone(model).fit(X, Y, eval_set=[(X, Y)], verbose=False)
        again = pickle.loads(pickle.dumps(clone(model)))
        again.fit(X, Y, verbose=False)
        copy.deepcopy(model)
    assert record().numbers_of_steps() == [1, 2, 3]


def test_training_is_the_same_with_and_without_us(opened, monkeypatch, root) -> None:
    """The boosters are equal byte for byte: with a run, without, and switched off."""
    alone = raw(train(8))
    with opened() as run:
        assert raw(train(8, AssayCallback(run, checkpoint_every=2))) == alone
    monkeypatch.setenv("ASSAY_TRACK", "off")
    assert raw(train(8, AssayCallback())) == alone
    assert not (root / "exp-002").exists()


def test_without_a_run_it_opens_one_and_ends_it(root, record) -> None:
    """`train(callbacks=[AssayCallback()])` is a whole experiment, with early stopping too."""
    train(40, AssayCallback(), early_stopping_rounds=2)
    found = record()
    assert found.one("training_ended")["final_metrics"].keys() == {"train_logloss", "valid_logloss"}
    assert found.numbers_of_steps()[-1] < 40
