"""scikit-learn 1.9: its callback protocol, and our loops around estimators without it."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import linear_model, model_selection, pipeline, preprocessing
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.neural_network import MLPClassifier

from assay.live.rules.classical import judge_classical
from assay.live.thresholds import Thresholds
from assay.track import StopTraining, experiment
from assay.track.frameworks import sklearn as host
from assay.track.frameworks.sklearn import AssayCallback

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 5))
Y = (X[:, 0] + 0.3 * RNG.normal(size=200) > 0).astype(int)
HELD = (X[:60], Y[:60])


def logistic() -> Any:
    """Takes callbacks."""
    return linear_model.LogisticRegression()


def sgd() -> Any:
    """Fits by batches."""
    return linear_model.SGDClassifier(loss="log_loss", random_state=0)


def batches(epoch: int):
    """Four batches in an order of their own for every epoch."""
    order = np.random.default_rng(epoch).permutation(200)
    for start in range(0, 200, 50):
        yield X[order[start : start + 50]], Y[order[start : start + 50]]


def test_every_iteration_of_a_fit_is_recorded(opened, record) -> None:
    """Rows with the falling loss, evaluations every third iteration and at the end, the terminal event."""
    callback = None
    with opened() as run:
        callback = AssayCallback(run, scoring="neg_log_loss", validation=HELD, evaluate_every=3)
        model = logistic().set_callbacks(callback).fit(X, Y)
    found = record()
    found.assert_healthy()
    iterations = int(model.n_iter_[0])
    assert len(found.losses) == iterations >= 4
    assert found.losses == sorted(found.losses, reverse=True)
    assert [row["step"] for row in found.evaluations][:2] == [3, 6]
    assert found.evaluations[-1]["step"] == iterations
    assert found.one("training_started")["config"]["estimator"] == "LogisticRegression"
    assert found.one("training_ended")["reason"] == "completed"


def test_a_failure_in_a_fit_is_recorded_and_goes_on_unchanged(opened, record) -> None:
    """The protocol has no hook for exceptions; `teardown` sees it pass."""
    with pytest.raises(ValueError, match="at least 2 classes"):
        logistic().set_callbacks(AssayCallback()).fit(X, Y * 0)
    ended = record().one("training_ended")
    assert (ended["reason"], ended["exception"]["type"]) == ("exception", "ValueError")


def test_an_exception_that_is_handled_outside_is_not_the_fits(opened, record) -> None:
    """A fit in an `except` block of the user succeeds and is recorded as such."""
    try:
        {}["first try"]
    except KeyError:
        logistic().set_callbacks(AssayCallback()).fit(X, Y)
    assert record().one("training_ended")["reason"] == "completed"


def test_a_pipeline_and_a_search_take_the_callback(opened, record) -> None:
    """Parts of a pipeline, fits of a search, its trials and its best; the result is the one without us."""
    grid = {"C": [0.1, 1.0, 10.0]}
    alone = model_selection.GridSearchCV(logistic(), grid, cv=3).fit(X, Y)
    with opened() as run:
        pipeline.make_pipeline(preprocessing.StandardScaler(), logistic()).set_callbacks(
            AssayCallback(run)
        ).fit(X, Y)
        steps = run.step
        search = (
            model_selection.GridSearchCV(logistic(), grid, cv=3).set_callbacks(AssayCallback(run)).fit(X, Y)
        )
    found = record()
    assert steps == 2
    trials = found.named("search_trial")
    assert [trial["params"] for trial in trials] == [{"C": "0.1"}, {"C": "1.0"}, {"C": "10.0"}]
    assert trials[-1]["best_score"] == pytest.approx(search.best_score_) == alone.best_score_
    assert len(found.numbers_of_steps()) == 2 + 3 * 3 + 1 + 3  # parts, fits, refit, trials
    assert found.evaluations[-1]["metrics"]["cv_score"] == pytest.approx(search.best_score_)


def test_a_search_in_worker_processes_is_recorded_from_its_results(opened, record) -> None:
    """The copies of the callback in the workers do nothing; the trials are there all the same."""
    with opened() as run:
        search = model_selection.GridSearchCV(logistic(), {"C": [0.1, 1.0]}, cv=2, n_jobs=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's resource tracker and its forks
            search.set_callbacks(AssayCallback(run)).fit(X, Y)
    assert len(record().named("search_trial")) == 2
    assert record().one("training_ended")["reason"] == "completed"


def test_a_stop_is_returned_and_an_opted_in_exception_passes(opened, record) -> None:
    """No estimator of 1.9 heeds the returned True; `stop="raise"` ends the fit, and the run takes it for a stop."""
    with opened() as run:
        run.request_stop("test", "now")
        model = logistic().set_callbacks(AssayCallback(run)).fit(X, Y)
        assert model.n_iter_[0] > 1
    with opened(stop="raise") as run:
        run.request_stop("test", "now")
        callback = AssayCallback(run, scoring="neg_log_loss")
        with pytest.raises(StopTraining):
            logistic().set_callbacks(callback).fit(X, Y)


def test_partial_fit_records_batches_epochs_and_checkpoints(opened, record) -> None:
    """Eight batches, two epochs, two checkpoints; the model is the one of a plain loop."""
    plain = sgd()
    for epoch in range(2):
        for inputs, labels in batches(epoch):
            plain.partial_fit(inputs, labels, classes=[0, 1])
    with opened() as run:
        model = host.partial_fit(
            run,
            sgd(),
            batches,
            epochs=2,
            classes=[0, 1],
            scoring=["neg_log_loss", "accuracy"],
            validation=HELD,
        )
    found = record()
    found.assert_healthy()
    assert found.numbers_of_steps() == list(range(1, 9))
    assert len(found.losses) == 8
    assert [row["epoch"] for row in found.evaluations] == [0, 1]
    assert len(found.named("checkpoint_committed")) == 2
    assert np.array_equal(model.coef_, plain.coef_)


@pytest.mark.parametrize("stop_at", [3, 4, 6])
def test_partial_fit_stops_and_resumes_to_the_same_model(opened, record, stop_after, stop_at) -> None:
    """Stopped inside or at the end of an epoch and resumed: step numbers go on, coefficients are equal bit for bit."""
    whole = host.partial_fit(opened(), sgd(), batches, epochs=3, classes=[0, 1])
    with opened() as run:
        stop_after(run, stop_at)
        host.partial_fit(run, sgd(), batches, epochs=3, classes=[0, 1])
    assert record(2).numbers_of_steps() == list(range(1, stop_at + 1))
    assert record(2).one("training_ended")["reason"] == "stopped"
    with opened(resume="exp-002") as run:
        model = host.partial_fit(run, sgd(), batches, epochs=3, classes=[0, 1])
    assert record(2).numbers_of_steps(attempt=2) == list(range(stop_at + 1, 13))
    assert np.array_equal(model.coef_, whole.coef_)
    assert model.t_ == whole.t_


def test_an_estimator_that_only_a_pickle_could_keep_is_told_once(opened, record) -> None:
    """No checkpoint, a note with the reason, and the fit goes on."""
    with opened() as run:
        host.partial_fit(run, MLPClassifier((3,), random_state=0), batches, epochs=2, classes=[0, 1])
    assert "only a pickle" in record().one("note")["text"]
    assert record().named("checkpoint_committed") == []


def test_a_checkpoint_of_another_class_is_refused(opened) -> None:
    """The message names both."""
    with opened() as run:
        host.partial_fit(run, sgd(), batches, epochs=1, classes=[0, 1])
    with (
        opened(resume="exp-001") as run,
        pytest.raises(ValueError, match=r"SGDClassifier .* not Perceptron"),
    ):
        host.partial_fit(run, linear_model.Perceptron(), batches, epochs=2, classes=[0, 1])


def test_warm_start_grows_an_estimator(opened, record, stop_after) -> None:
    """A row and an evaluation a value; a stop leaves the later values out."""
    with opened() as run:
        stop_after(run, 2)
        grower = GradientBoostingClassifier(random_state=0)
        model = host.warm_start(
            run, grower, X, Y, parameter="n_estimators", values=[5, 10, 15], validation=HELD
        )
    found = record()
    assert model.n_estimators_ == 10
    assert [row["metrics"]["n_estimators"] for row in found.steps] == [5, 10]
    assert [row["step"] for row in found.evaluations] == [1, 2]


def test_cross_validation_gives_the_facts_that_folds_are_judged_by(opened, record) -> None:
    """Scores, baseline, classes and distinct predictions are in the event; the result is scikit-learn's own."""
    forest = RandomForestClassifier(5, random_state=0)
    alone = model_selection.cross_validate(forest, X, Y, cv=3)
    with opened() as run:
        found = host.cross_validate(run, forest, X, Y, cv=3)
    assert found.keys() == alone.keys()
    assert np.array_equal(found["test_score"], alone["test_score"])
    facts = record().one("classical_inspected")["facts"]["classical"]
    assert facts["fold_scores"] == pytest.approx(list(alone["test_score"]))
    assert facts["baseline_score"] == pytest.approx(max(Y.mean(), 1 - Y.mean()), abs=0.02)
    assert facts["train_score"] > facts["cv_score"]
    assert facts["distinct_predictions"] == 2
    assert facts["fold_classes"] == [2] * 6
    assert [row["metrics"]["test_score"] for row in record().steps] == facts["fold_scores"]
    assert record().evaluations[-1]["metrics"]["cv_score"] == pytest.approx(alone["test_score"].mean())


def test_the_rule_about_classical_models_reads_these_facts(opened, record) -> None:
    """A model that says one thing, and folds without one class, are found by the rule of fault class 27."""
    ordered = np.sort(Y)
    with opened() as run:
        host.cross_validate(run, DummyClassifier(), X, ordered, cv=model_selection.KFold(4))
    found = judge_classical(record().one("classical_inspected")["facts"]["classical"], Thresholds())
    assert {"constant", "single class"} <= {finding.key for finding in found}


def test_a_search_stops_between_trials_and_resumes_without_doing_them_again(opened, record) -> None:
    """Two trials, a stop, a second attempt: the third and fourth are run, and the best of all four is found."""
    grid = list(model_selection.ParameterGrid({"C": [0.01, 0.1, 1.0, 10.0]}))
    alone = model_selection.GridSearchCV(logistic(), {"C": [0.01, 0.1, 1.0, 10.0]}, cv=3).fit(X, Y)
    with opened() as run:
        log = run.log
        run.log = lambda row, step=None, **more: (
            log(row, step, **more),
            step == 2 and run.request_stop("test", "2"),
        )
        first = host.search(run, logistic(), grid, X, Y, cv=3)
    assert len(first["trials"]) == 2
    with opened(resume="exp-001") as run:
        found = host.search(run, logistic(), grid, X, Y, cv=3)
    assert record().numbers_of_steps(attempt=2) == [3, 4]
    assert [trial["index"] for trial in found["trials"]] == [0, 1, 2, 3]
    assert found["best_params"] == alone.best_params_
    assert found["best_score"] == pytest.approx(alone.best_score_)
    facts = record().named("classical_inspected")[-1]["facts"]["classical"]
    assert facts["search_scores"] == pytest.approx(list(alone.cv_results_["mean_test_score"]))


def test_a_candidate_that_fails_is_recorded_as_the_end(opened, record) -> None:
    """The exception of a trial leaves unchanged; trials before it are kept."""
    grid = [{"C": 1.0}, {"C": -1.0}]
    with pytest.raises(ValueError, match="'C' parameter"), opened() as run:
        host.search(run, logistic(), grid, X, Y, cv=3)
    assert record().one("training_ended")["reason"] == "exception"
    assert len(record().named("search_trial")) == 1


def test_nothing_is_written_and_nothing_differs_when_switched_off(monkeypatch, root) -> None:
    """Coefficients are equal with the callback and without, and no folder is made."""
    alone = logistic().fit(X, Y).coef_
    monkeypatch.setenv("ASSAY_TRACK", "off")
    assert np.array_equal(logistic().set_callbacks(AssayCallback(scoring="accuracy")).fit(X, Y).coef_, alone)
    host.partial_fit(experiment(), sgd(), batches, epochs=1, classes=[0, 1])
    assert not root.exists()


def test_no_random_number_is_drawn(opened) -> None:
    """The global generator of numpy is where it was after everything."""
    np.random.seed(3)  # noqa: NPY002 - scikit-learn draws from it by default
    with opened() as run:
        host.cross_validate(run, logistic(), X, Y, cv=3)
        host.search(run, logistic(), [{"C": 1.0}], X, Y, cv=3)
        logistic().set_callbacks(AssayCallback(run, scoring="neg_log_loss")).fit(X, Y)
    drawn = np.random.rand()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    assert drawn == np.random.rand()  # noqa: NPY002


def test_a_model_with_a_callback_can_be_saved(opened) -> None:
    """A pickled estimator comes back with a callback that does nothing."""
    with opened() as run:
        model = pickle.loads(
            pickle.dumps(logistic().set_callbacks(AssayCallback(run, validation=HELD)).fit(X, Y))
        )
    model.fit(X, Y)
