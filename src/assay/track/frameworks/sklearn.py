"""scikit-learn: the callback protocol of 1.9 where an estimator has it, and loops of ours where it has none.

`LogisticRegression().set_callbacks(AssayCallback(run, scoring="neg_log_loss"))` records every iteration of a fit;
pipelines and searches take the callback too. Only a few estimators support it, and 1.9 does not obey the stop that a
callback returns. For the rest: `partial_fit`, `warm_start`, `cross_validate` and `search` do what scikit-learn does,
record it, obey a request to stop, and go on where an earlier attempt has ended.
"""

from __future__ import annotations

import copy
import itertools
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sklearn

from assay.track import StopTraining, checkpoint
from assay.track.frameworks._host import Host
from assay.track.frameworks._trials import Trials, mean, spread

if TYPE_CHECKING:
    from assay.track import Run

_FRAMEWORK = f"scikit-learn {sklearn.__version__}"
_REBUILT = ("_loss_function_",)
"""Attributes that every `partial_fit` makes anew."""


class AssayCallback:
    """A `FitCallback` of scikit-learn 1.9: a row for every task of a fit that has no parts.

    Args:
        run: the run to write to; None joins or opens one.
        scoring: scorer or names of scorers, asked of the model as it is after every iteration; None asks none.
        validation: held-out `(X, y)` for the scorers; evaluated every `evaluate_every` iterations and at the end.
        evaluate_every: iterations between evaluation rows; each is an fsynced event.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        scoring: Any = None,
        validation: tuple[Any, Any] | None = None,
        evaluate_every: int = 10,
    ) -> None:
        self._host = Host(run, _FRAMEWORK)
        self._scoring = scoring
        self._validation = validation
        self._evaluate_every = max(1, evaluate_every)
        self._depth = 0
        self._outer: BaseException | None = None
        self._began: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._held_out: tuple[int, dict[str, float]] | None = None
        self._evaluated = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy in a worker process records nothing; a search's results come back to the first process."""
        return {**self.__dict__, "_began": None, "_outer": None, "_validation": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._began = weakref.WeakKeyDictionary()

    def setup(self, estimator: Any, context: Any) -> None:
        """A fit begins."""
        with _Quietly(self._host, "setup"):
            self._depth += 1
            if self._depth == 1:
                self._outer = sys.exception()
                self._held_out, self._evaluated = None, 0
                self._host.begin(config=lambda: _config(estimator))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """A part of the fit begins."""
        with _Quietly(self._host, "on_fit_task_begin"):
            self._began[context] = time.monotonic()

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,  # noqa: N803 - scikit-learn passes what is named here
        y: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        """A part of the fit is done; True asks scikit-learn to stop, which 1.9 does not heed."""
        with _Quietly(self._host, "on_fit_task_end"):
            self._task(estimator, context, fitted_estimator, X, y)
        return self._host.should_stop

    def teardown(self, estimator: Any, context: Any) -> None:
        """The fit has returned or raised; an exception is on its way out while this is called."""
        with _Quietly(self._host, "teardown"):
            self._depth -= 1
            run, error = self._host.run, sys.exception()
            if self._depth or run is None or not self._host.active:
                return
            if error is not None and error is not self._outer:
                self._host.fail(error)
                return
            step, final = self._held_out or (0, {})
            if step > self._evaluated:
                run.log_evaluation(final, step)
            self._host.end(final)

    def _task(self, estimator: Any, context: Any, fitted: Any, X: Any, y: Any) -> None:  # noqa: N803
        run = self._host.run
        if run is None or not self._host.active:
            return
        if context.parent is None and hasattr(estimator, "cv_results_"):
            record_search(run, estimator)
        if context.max_subtasks != 0 or context.parent is None:
            return
        began = self._began.pop(context, None)
        row: dict[str, Any] = {} if began is None else {"task_s": time.monotonic() - began}
        scored = fitted is not None and self._scoring is not None
        if scored:
            scores = _scores(self._scoring, fitted, X, y)
            row |= _prefixed("train", scores) | _loss(scores)
        step = run.step + 1
        run.log(row, step)
        if scored and self._validation is not None:
            held_out = _prefixed("val", _scores(self._scoring, fitted, *self._validation))
            self._held_out = step, held_out
            if step % self._evaluate_every == 0:
                run.log_evaluation(held_out, step)
                self._evaluated = step


def partial_fit(
    run: Run,
    estimator: Any,
    batches: Callable[[int], Iterable[tuple[Any, Any]]],
    *,
    epochs: int,
    classes: Any = None,
    scoring: Any = None,
    validation: tuple[Any, Any] | None = None,
) -> Any:
    """Fit by batches: a row with the scores of every batch, an evaluation and a checkpoint of every epoch.

    Args:
        run: the run to write to.
        estimator: has `partial_fit`.
        batches: epoch, from 0 → its batches `(X, y)`; the same for the same epoch, so that a resume may go on.
        epochs: passes planned; those that an earlier attempt has done count.
        classes: all labels, for classifiers.
        scoring: scorer or names of scorers; None is the estimator's own score.
        validation: held-out `(X, y)`.

    Returns:
        The fitted estimator.

    Raises:
        ValueError: there is a checkpoint, and it is of another estimator or version.
    """
    first, done, step = _resumed(run, estimator)
    run.start(total_epochs=epochs, config=_config(estimator))
    options = {} if classes is None else {"classes": classes}
    for epoch in range(first, epochs):
        for X, y in run.track(itertools.islice(batches(epoch), done, None)):  # noqa: N806 - scikit-learn's names
            estimator.partial_fit(X, y, **options)
            step, done = step + 1, done + 1
            scores = _scores(scoring, estimator, X, y)
            run.log(_prefixed("train", scores) | _loss(scores), step, epoch=epoch)
            if run.should_stop:
                _checkpoint(run, estimator, {}, {"step": step, "epoch": epoch, "batch": done}, reason="stop")
                return estimator
        done = 0
        metrics: dict[str, float] = {}
        if validation is not None:
            metrics = _prefixed("val", _scores(scoring, estimator, *validation))
            run.log_evaluation(metrics, step, epoch)
        run.epoch_end(epoch, metrics)
        _checkpoint(run, estimator, metrics, {"step": step, "epoch": epoch + 1, "batch": 0})
    return estimator


def warm_start(
    run: Run,
    estimator: Any,
    X: Any,  # noqa: N803
    y: Any,
    *,
    parameter: str,
    values: Sequence[int],
    scoring: Any = None,
    validation: tuple[Any, Any] | None = None,
) -> Any:
    """Grow an estimator with `warm_start=True`: `n_estimators` or `max_iter` takes one value after the other.

    A step is a value; it is scored on the training data and, if there are any, on the held-out data.

    Returns:
        The estimator, fitted up to the last value reached.
    """
    estimator.set_params(warm_start=True)
    run.start(total_steps=len(values), config={**_config(estimator), "grows": parameter})
    for step, value in enumerate(values, 1):
        estimator.set_params(**{parameter: value}).fit(X, y)
        scores = _scores(scoring, estimator, X, y)
        run.log({**_prefixed("train", scores), **_loss(scores), parameter: value}, step)
        if validation is not None:
            run.log_evaluation(_prefixed("val", _scores(scoring, estimator, *validation)), step)
        if run.should_stop:
            break
    return estimator


def cross_validate(
    run: Run,
    estimator: Any,
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    scoring: Any = None,
    baseline: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """`sklearn.model_selection.cross_validate`, recorded: a row a fold, and the facts that folds are judged by.

    The event `classical_inspected` holds the scores of every fold on held-out and training data, the mean score of a
    dummy on the same folds, the classes of the folds, and how many different predictions a fold's model makes.

    Args:
        run: the run to write to.
        estimator: what is validated; it is not fitted itself.
        X: inputs.
        y: targets.
        scoring: as in scikit-learn; the first scorer is the one that the folds are judged by.
        baseline: whether a dummy is scored on the same folds.
        options: of scikit-learn's `cross_validate`.

    Returns:
        What scikit-learn returns for the same arguments.
    """
    from sklearn import model_selection  # noqa: PLC0415 - slow to load, and only these functions need it

    asked = {name: options.pop(f"return_{name}", False) for name in ("train_score", "indices", "estimator")}
    run.start(config={**_config(estimator), "scoring": str(scoring)})
    found = model_selection.cross_validate(
        estimator, X, y, scoring=scoring, **options, **{f"return_{name}": True for name in asked}
    )
    facts = _folds(found, X, y)
    if baseline and y is not None:
        facts["baseline_score"] = _dummy_score(estimator, X, y, scoring, found["indices"])
    run.event("classical_inspected", framework=_FRAMEWORK, facts={"classical": facts})
    first = run.step
    for fold, seconds in enumerate(found["fit_time"]):
        row = _prefixed("test", {name: scores[fold] for name, scores in facts["scores"].items()})
        row |= _prefixed("train", {name: scores[fold] for name, scores in facts["train_scores"].items()})
        run.log({**row, "fit_s": float(seconds)}, first + fold + 1)
    summary = {f"cv_{name}": mean(scores) for name, scores in facts["scores"].items()}
    summary |= {f"cv_{name}_std": spread(scores) for name, scores in facts["scores"].items()}
    summary |= {f"train_{name}": mean(scores) for name, scores in facts["train_scores"].items()}
    run.log_evaluation(summary, run.step or None)
    unasked = tuple(
        name if name != "train_score" else "train_" for name, wanted in asked.items() if not wanted
    )
    return {name: value for name, value in found.items() if not name.startswith(unasked)}


def search(
    run: Run,
    estimator: Any,
    candidates: Iterable[Mapping[str, Any]],
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    scoring: Any = None,
    cv: Any = None,
) -> dict[str, Any]:
    """Try candidates one after the other, each cross-validated on the same folds; every trial is on disk at once.

    A request to stop is obeyed between trials. Trials that an earlier attempt has finished with the same parameters
    are taken from its events and not run again.

    Args:
        run: the run to write to.
        estimator: cloned for every candidate.
        candidates: parameters to set, such as `ParameterGrid(...)` or `ParameterSampler(..., random_state=...)`.
        X: inputs.
        y: targets.
        scoring: one scorer; the greatest mean wins.
        cv: as in scikit-learn; split once. A random split needs a `random_state`, so that a resume has the same folds.

    Returns:
        `best_params`, `best_score`, `best_index` (None while no trial has a finite score), and `trials`: `index`,
        `params`, `scores`, `score`, `train_score`, `seconds` of each.
    """
    from sklearn.base import clone, is_classifier  # noqa: PLC0415
    from sklearn.model_selection import check_cv  # noqa: PLC0415

    planned = [dict(candidate) for candidate in candidates]
    run.start(total_steps=len(planned), config={**_config(estimator), "candidates": len(planned)})
    trials = Trials(run, _FRAMEWORK, len(planned))
    splits = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y))
    for index, params in enumerate(planned):
        if trials.adopt(index, params):
            continue
        if run.should_stop:
            break
        trial = _try(clone(estimator).set_params(**clone(params, safe=False)), X, y, scoring, splits)
        trials.add(index, params, step=index + 1, **trial)
    return trials.finish()


def record_search(run: Run, fitted: Any) -> None:
    """Write the results of a fitted grid, random or halving search: a trial a candidate, then the best."""
    results = fitted.cv_results_
    names = [key.removeprefix("mean_test_") for key in results if key.startswith("mean_test_")]
    name = fitted.refit if fitted.refit in names else names[0]
    splits = [key for key in results if key.startswith("split") and key.endswith(f"_test_{name}")]
    trials = Trials(run, _FRAMEWORK, len(results["params"]))
    first = run.step
    for index, params in enumerate(results["params"]):
        scores = [float(results[split][index]) for split in splits]
        train = results.get(f"mean_train_{name}")
        more = {} if train is None else {"train_score": float(train[index])}
        seconds = float(results["mean_fit_time"][index]) * len(splits)
        trials.add(index, dict(params), step=first + index + 1, scores=scores, seconds=seconds, **more)
    trials.finish()


def restore(estimator: Any, state: Mapping[str, Any]) -> Any:
    """Put the fitted attributes of a checkpoint (`run.resume()`) into an estimator of the same class.

    Raises:
        ValueError: the state is of another class or another version of scikit-learn.
    """
    expected = (type(estimator).__qualname__, sklearn.__version__)
    found = (state["estimator"].get("class"), state.get("version"))
    if found != expected:
        raise ValueError(
            f"the checkpoint holds {found[0]} of scikit-learn {found[1]}, not {expected[0]} of {expected[1]}"
        )
    checkpoint.restore_fitted(estimator, state["estimator"])
    return estimator


def fitted_state(estimator: Any) -> dict[str, Any] | None:
    """The fitted attributes as plain data; None if one of them is an object that only a pickle could keep."""
    bare = copy.copy(estimator)
    for name in _REBUILT:
        vars(bare).pop(name, None)
    try:
        return checkpoint.fitted_state(bare)
    except checkpoint.StateError:
        return None


class _Quietly:
    """Nothing but the stop that the script opted in to leaves this block.

    scikit-learn has no channel for a stop that works, so `StopTraining` is let through.
    """

    def __init__(self, host: Host, where: str) -> None:
        self._host, self._where = host, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception) or isinstance(error, StopTraining):
            return False
        self._host.complain(self._where, error)
        return True


def _config(estimator: Any) -> dict[str, Any]:
    params = {name: value for name, value in estimator.get_params(deep=False).items() if _short(value)}
    return {"framework": _FRAMEWORK, "estimator": type(estimator).__name__, "parameters": params}


def _short(value: Any) -> bool:
    """Not the default that a parameter has to say that it is deprecated, nor a data set."""
    return value != "deprecated" if isinstance(value, str) else not hasattr(value, "dtype") or value.ndim == 0


def _prefixed(prefix: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in scores.items()}


def _scores(scoring: Any, estimator: Any, X: Any, y: Any) -> dict[str, float]:  # noqa: N803
    from sklearn.metrics import check_scoring  # noqa: PLC0415 - slow to load

    names = [scoring] if isinstance(scoring, str) else scoring
    found = check_scoring(estimator, names)(estimator, X, y)
    return {
        name: float(value) for name, value in (found if isinstance(found, dict) else {"score": found}).items()
    }


def _loss(scores: Mapping[str, float]) -> dict[str, float]:
    """The first score that scikit-learn negates, turned back: what detectors look at is called `loss`."""
    name = next((name for name in scores if name.startswith("neg_")), None)
    return {} if name is None else {"loss": -scores[name]}


def _checkpoint(
    run: Run,
    estimator: Any,
    metrics: Mapping[str, float],
    position: Mapping[str, int],
    reason: str = "cadence",
) -> None:
    state = fitted_state(estimator)
    if state is not None:
        whole = {"estimator": state, "version": sklearn.__version__, "position": dict(position)}
        run.checkpoint(whole, metrics, step=position["step"], reason=reason)
    elif position["epoch"] == 1:
        run.note(
            f"{type(estimator).__name__} holds objects that only a pickle could keep: no checkpoints of it"
        )


def _resumed(run: Run, estimator: Any) -> tuple[int, int, int]:
    """Epochs, batches of the next epoch, and steps that earlier attempts have done."""
    state = run.resume()
    if state is None:
        return 0, 0, 0
    restore(estimator, state)
    position = state["position"]
    return int(position["epoch"]), int(position["batch"]), int(position["step"])


def _folds(found: Mapping[str, Any], X: Any, y: Any) -> dict[str, Any]:  # noqa: N803
    import numpy as np  # noqa: PLC0415 - scikit-learn has loaded it
    from sklearn.utils import _safe_indexing  # noqa: PLC0415 - the only way to take rows of any kind of table

    def per_fold(prefix: str) -> dict[str, list[float]]:
        named = {name: value for name, value in found.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): [float(score) for score in value] for name, value in named.items()}

    scores, train_scores = per_fold("test_"), per_fold("train_")
    main = next(iter(scores))
    facts: dict[str, Any] = {
        "metric": main,
        "fold_scores": scores[main],
        "cv_score": mean(scores[main]),
        "train_score": mean(train_scores[main]),
        "scores": scores,
        "train_scores": train_scores,
    }
    distinct: list[int] = []
    classes: list[int] = []
    rows = zip(found["estimator"], found["indices"]["train"], found["indices"]["test"], strict=True)
    for model, train, test in rows:
        if hasattr(model, "predict") and len(test) > 1:
            distinct.append(len(np.unique(np.asarray(model.predict(_safe_indexing(X, test))), axis=0)))
        if y is not None and hasattr(model, "classes_"):
            classes += [len(np.unique(np.asarray(_safe_indexing(y, part)))) for part in (train, test)]
    facts |= {"distinct_predictions": min(distinct)} if distinct else {}
    return facts | ({"fold_classes": classes} if classes else {})


def _dummy_score(estimator: Any, X: Any, y: Any, scoring: Any, indices: Mapping[str, Any]) -> float:  # noqa: N803
    """Mean score of what has learned nothing, on the same folds; its strategies draw no random number."""
    from sklearn import dummy, model_selection  # noqa: PLC0415
    from sklearn.base import is_classifier  # noqa: PLC0415

    nothing = dummy.DummyClassifier(strategy="prior") if is_classifier(estimator) else dummy.DummyRegressor()
    folds = list(zip(indices["train"], indices["test"], strict=True))
    found = model_selection.cross_validate(nothing, X, y, scoring=scoring, cv=folds)
    return mean(
        [float(score) for score in next(value for name, value in found.items() if name.startswith("test_"))]
    )


def _try(estimator: Any, X: Any, y: Any, scoring: Any, splits: list[Any]) -> dict[str, Any]:  # noqa: N803
    from sklearn import model_selection  # noqa: PLC0415

    began = time.monotonic()
    found = model_selection.cross_validate(
        estimator, X, y, scoring=scoring, cv=splits, return_train_score=True, error_score="raise"
    )
    scores = [float(score) for score in found["test_score"]]
    train = mean([float(score) for score in found["train_score"]])
    return {"scores": scores, "train_score": train, "seconds": time.monotonic() - began}
