"""States of classical training: boosters, fitted estimators, searches, folds, attached files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_fakes import MemoryRun

from assay.track.checkpoint import (
    Attachment,
    Checkpointer,
    CheckpointMismatch,
    StateError,
    booster_from,
    booster_state,
    fitted_state,
    restore_fitted,
    restore_study,
    study_state,
    verify_folder,
)

pytestmark = pytest.mark.slow  # imports of the libraries take seconds


def through(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A state after a save and a load in another attempt."""
    made = Checkpointer(MemoryRun(), folder / "checkpoints", verify_every=0)
    assert made.save(state, step=1) is not None, made.failures
    back = Checkpointer(MemoryRun(attempt=2), folder / "checkpoints", verify_every=0).load()
    assert back is not None
    return back


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """A small regression."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 4))
    return x, x[:, 0] * 2 - x[:, 1] + generator.normal(size=120) * 0.1


def test_xgboost_goes_on_where_it_stopped(data: Any, tmp_path: Path) -> None:
    """Ten rounds, saved, ten more: the same predictions as twenty at once."""
    xgboost = pytest.importorskip("xgboost")
    matrix = xgboost.DMatrix(*data)
    options = {"max_depth": 3, "seed": 1, "nthread": 1}
    whole = xgboost.train(options, matrix, 20)
    half = xgboost.train(options, matrix, 10)
    state = through({"folds": {"0": booster_state(half)}, "fold": 0}, tmp_path)
    back = booster_from(state["folds"]["0"])
    assert state["folds"]["0"]["rounds"] == 10
    done = xgboost.train(options, matrix, 10, xgb_model=back)
    assert np.array_equal(done.predict(matrix), whole.predict(matrix))


def test_lightgbm_comes_back(data: Any, tmp_path: Path) -> None:
    """The model of a fold predicts the same after a load, as wrapper or booster."""
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMRegressor(n_estimators=8, n_jobs=1, verbose=-1).fit(*data)
    state = through({"folds": {"0": booster_state(model)}}, tmp_path)
    assert state["folds"]["0"]["rounds"] == 8
    assert np.array_equal(booster_from(state["folds"]["0"]).predict(data[0]), model.booster_.predict(data[0]))


def test_partial_fit_goes_on_where_it_stopped(data: Any, tmp_path: Path) -> None:
    """A linear model trained in parts is the same after a save between them."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = data

    def fresh() -> Any:
        return linear.SGDRegressor(random_state=0, shuffle=False)

    straight = fresh()
    for part in (slice(0, 60), slice(60, 120)):
        straight.partial_fit(x[part], y[part])
    first = fresh().partial_fit(x[:60], y[:60])
    second = fresh()
    restore_fitted(second, through({"model": fitted_state(first)}, tmp_path)["model"])
    second.partial_fit(x[60:], y[60:])
    assert np.array_equal(second.coef_, straight.coef_)


def test_folds_of_estimators(data: Any, tmp_path: Path) -> None:
    """Fitted models per fold come back and predict the same."""
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = data
    models = {str(i): linear.Ridge(alpha=i + 1.0).fit(x[i::3], y[i::3]) for i in range(3)}
    state = through({"folds": {name: fitted_state(model) for name, model in models.items()}}, tmp_path)
    for name, model in models.items():
        fresh = linear.Ridge(alpha=model.alpha)
        restore_fitted(fresh, state["folds"][name])
        assert np.array_equal(fresh.predict(x), model.predict(x))
    with pytest.raises(CheckpointMismatch):
        restore_fitted(linear.Lasso(), state["folds"]["0"])


def test_a_forest_is_kept_as_a_file_and_never_loaded(data: Any, tmp_path: Path) -> None:
    """What cannot be plain data is refused with its attribute; its joblib file is kept and only handed back."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    joblib = pytest.importorskip("joblib")
    forest = ensemble.RandomForestRegressor(2, random_state=0).fit(*data)
    with pytest.raises(StateError, match="Attachment"):
        fitted_state(forest)
    joblib.dump(forest, tmp_path / "forest.joblib")
    state = through({"forest": Attachment(tmp_path / "forest.joblib", note="joblib")}, tmp_path)
    kept = state["forest"].path
    assert kept.parent.name == "ckpt-00000001"
    assert np.array_equal(joblib.load(kept).predict(data[0]), forest.predict(data[0]))
    assert any(entry.name == kept.name for entry in verify_folder(kept.parent).files)


def test_a_search_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Ten trials, saved, ten more in a fresh study: the same parameters as twenty at once."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -5, 5)
        return float(
            (x - 1) ** 2 + trial.suggest_int("n", 1, 4) + (trial.suggest_categorical("k", ["a", "b"]) == "a")
        )

    def fresh() -> Any:
        return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3, n_startup_trials=5))

    straight = fresh()
    straight.optimize(objective, n_trials=20)
    first = fresh()
    first.optimize(objective, n_trials=10)
    second = fresh()
    restore_study(second, through({"search": study_state(first)}, tmp_path)["search"])
    second.optimize(objective, n_trials=10)
    assert [trial.params for trial in second.trials] == [trial.params for trial in straight.trials]
    with pytest.raises(CheckpointMismatch, match="already"):
        restore_study(second, study_state(first))
