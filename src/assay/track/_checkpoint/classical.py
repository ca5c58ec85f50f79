"""States without torch: boosters in their own format, fitted estimators as arrays, searches as their trials.

A pickle (joblib) is never loaded here. Who must keep one gives it as `Attachment(path, note="joblib ...")`: it is
copied and digested, and the script that wrote it loads it again.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.track._checkpoint.arrays import loaded
from assay.track._checkpoint.errors import CheckpointMismatch, StateError
from assay.track._checkpoint.tree import decode, encode


def booster_state(model: Any) -> dict[str, Any]:
    """A model of XGBoost or LightGBM in its library's own format (UBJSON, text); both go on training from it.

    Args:
        model: a Booster, or the scikit-learn wrapper of one.

    Raises:
        StateError: if it is neither.
    """
    xgboost, lightgbm = loaded("xgboost"), loaded("lightgbm")
    if xgboost is not None:
        booster = model.get_booster() if isinstance(model, xgboost.XGBModel) else model
        if isinstance(booster, xgboost.Booster):
            raw = bytes(booster.save_raw("ubj"))
            return {"kind": "xgboost", "rounds": booster.num_boosted_rounds(), "model": raw}
    if lightgbm is not None:
        booster = model.booster_ if isinstance(model, lightgbm.LGBMModel) else model
        if isinstance(booster, lightgbm.Booster):
            text = booster.model_to_string(num_iteration=-1)
            return {"kind": "lightgbm", "rounds": booster.current_iteration(), "model": text}
    raise StateError(f"{type(model).__qualname__} is no booster of XGBoost or LightGBM")


def booster_from(state: Mapping[str, Any]) -> Any:
    """The Booster of `booster_state`; pass it as `xgb_model` or `init_model` to go on, with the rounds that are left.

    Raises:
        CheckpointMismatch: if the state is none of a booster.
    """
    try:
        if state["kind"] == "xgboost":
            booster = importlib.import_module("xgboost").Booster()
            booster.load_model(bytearray(state["model"]))
            return booster
        if state["kind"] == "lightgbm":
            return importlib.import_module("lightgbm").Booster(model_str=state["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointMismatch(f"no state of a booster: {error}") from error
    raise CheckpointMismatch(f"no state of a booster: kind {state['kind']!r}")


def fitted_state(estimator: Any) -> dict[str, Any]:
    """What a scikit-learn estimator learned, if that is plain data (linear models, naive Bayes, scalers).

    Raises:
        StateError: naming the attribute that is not plain data (a tree, a kernel): save such a model as an attachment.
    """
    name = type(estimator).__qualname__
    own = {
        key: value for key, value in vars(estimator).items() if key not in estimator.get_params(deep=False)
    }
    for key, value in own.items():
        try:
            decode(encode({key: value}, copy=False).tree, lambda _: None, Path())
        except StateError as error:
            raise StateError(
                f"{name}.{key} is no plain data: {error.what}",
                where=key,
                next="save the file of your own choice as Attachment(path); Assay never unpickles it",
            ) from error
    return {"kind": "sklearn", "class": name, "fitted": own}


def restore_fitted(estimator: Any, state: Mapping[str, Any]) -> None:
    """Give a fresh estimator with the same parameters what another one learned.

    Raises:
        CheckpointMismatch: if it is of another class.
    """
    if state.get("class") != type(estimator).__qualname__:
        raise CheckpointMismatch(f"saved from {state.get('class')!r}, given a {type(estimator).__qualname__}")
    for key, value in state["fitted"].items():
        setattr(estimator, key, value)


def study_state(study: Any) -> dict[str, Any]:
    """An Optuna study: its trials, and the generator of its sampler, so that it goes on as if it had never stopped.

    A study in a database needs only the generator; its trials are kept all the same.
    """
    optuna = importlib.import_module("optuna")
    trials = [
        {
            "state": trial.state.name,
            "values": trial.values,
            "params": dict(trial.params),
            "distributions": {
                name: optuna.distributions.distribution_to_json(one)
                for name, one in trial.distributions.items()
            },
            "user_attrs": dict(trial.user_attrs),
            "system_attrs": dict(trial.system_attrs),
            "intermediate_values": dict(trial.intermediate_values),
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]
    directions = [direction.name.lower() for direction in study.directions]
    generators = {path: dict(one.get_state(legacy=False)) for path, one in _generators(study.sampler)}
    return {
        "kind": "optuna", "directions": directions, "trials": trials,
        "sampler": type(study.sampler).__qualname__, "generators": generators,
    }  # fmt: skip


def restore_study(study: Any, state: Mapping[str, Any]) -> None:
    """Fill an empty study with the trials of another and set its sampler's generators.

    Raises:
        CheckpointMismatch: if it is not empty, or has other directions or another sampler.
    """
    optuna = importlib.import_module("optuna")
    if study.get_trials(deepcopy=False):
        raise CheckpointMismatch("the study already has trials")
    here = [direction.name.lower() for direction in study.directions]
    if here != state["directions"] or type(study.sampler).__qualname__ != state["sampler"]:
        raise CheckpointMismatch(f"saved with {state['sampler']} {state['directions']}, given {here}")
    for row in state["trials"]:
        parts = {
            key: row[key] for key in ("values", "params", "user_attrs", "system_attrs", "intermediate_values")
        }
        spaces = {
            name: optuna.distributions.json_to_distribution(text)
            for name, text in row["distributions"].items()
        }
        outcome = optuna.trial.TrialState[row["state"]]
        study.add_trial(optuna.trial.create_trial(state=outcome, distributions=spaces, **parts))
    for path, generator in _generators(study.sampler):
        if path in state["generators"]:
            generator.set_state(dict(state["generators"][path]))


def _generators(sampler: Any, path: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """Generators of numpy inside a sampler, by where they are; Optuna has no public door to them."""
    random_state = getattr(loaded("numpy"), "random", None)
    found: list[tuple[str, Any]] = []
    for name, value in sorted(getattr(sampler, "__dict__", {}).items()):
        place = f"{path}{name}"
        lazy = getattr(value, "rng", None)
        if random_state is not None and isinstance(value, random_state.RandomState):
            found.append((place, value))
        elif random_state is not None and isinstance(lazy, random_state.RandomState):
            found.append((place, lazy))
        elif depth < 2 and type(value).__module__.startswith("optuna."):
            found += _generators(value, place + ".", depth + 1)
    return found
