"""Trials of a search, each on disk when it is done, so that a resumed search does not run them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.track import files

if TYPE_CHECKING:
    from assay.track import Run

_KEPT = ("scores", "train_score", "seconds")
FACTS_EVERY = 10
"""Trials between two looks at the whole search."""


class Trials:
    """The trials of one search; the greatest finite mean score is the best, the first of equals.

    Args:
        run: the run to write to.
        framework: name and version of the host.
        planned: how many trials there will be.
    """

    def __init__(self, run: Run, framework: str, planned: int) -> None:
        self._run = run
        self._framework = framework
        self._planned = planned
        self._trials: list[dict[str, Any]] = []
        self._before = {} if run.disabled else _finished(run)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial so far."""
        finite = [trial for trial in self._trials if abs(trial["score"]) < float("inf")]
        return max(finite, key=lambda trial: float(trial["score"]), default=None)

    def adopt(self, index: int, params: Mapping[str, Any]) -> bool:
        """Take a trial over from an earlier attempt; False if there is none with these parameters."""
        kept = self._before.get(_identity(params))
        if kept is None:
            return False
        self._trials.append({"index": index, "params": dict(params), "score": mean(kept["scores"]), **kept})
        return True

    def add(
        self, index: int, params: Mapping[str, Any], *, step: int, scores: list[float], **more: Any
    ) -> None:
        """Record a trial: an event that is on disk when this returns, and a row."""
        trial = {"index": index, "params": dict(params), "scores": scores, "score": mean(scores), **more}
        self._trials.append(trial)
        best = self.best
        leader = {} if best is None else {"best_index": best["index"], "best_score": best["score"]}
        told = {**trial, "params": _told(params), "planned": self._planned, **leader}
        self._run.event("search_trial", framework=self._framework, **told)
        row = {
            "score": trial["score"],
            "score_std": spread(scores),
            **{k: v for k, v in more.items() if k in _KEPT},
        }
        self._run.log({**row, **({"best_score": best["score"]} if best is not None else {})}, step)
        if len(self._trials) % FACTS_EVERY == 0:
            self._facts()

    def finish(self) -> dict[str, Any]:
        """The whole search as an event, its best as an evaluation; returns both and the trials."""
        if len(self._trials) % FACTS_EVERY:
            self._facts()
        best = self.best
        if best is None:
            return {"best_params": None, "best_score": None, "best_index": None, "trials": self._trials}
        metrics = {"cv_score": best["score"], "cv_score_std": spread(best["scores"])}
        self._run.log_evaluation(metrics, self._run.step or None)
        named = {"best_params": best["params"], "best_score": best["score"], "best_index": best["index"]}
        return {**named, "trials": self._trials}

    def _facts(self) -> None:
        scores = [trial["score"] for trial in self._trials]
        facts: dict[str, Any] = {
            "search_scores": scores,
            "search_budget": self._planned,
            "search_direction": "max",
        }
        best = self.best
        if best is not None and best.get("train_score") is not None:
            facts |= {"train_score": best["train_score"], "fold_scores": best["scores"]}
        self._run.event("classical_inspected", framework=self._framework, facts={"classical": facts})


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of none."""
    return sum(values) / len(values) if values else float("nan")


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; NaN of fewer than two."""
    if len(values) < 2:
        return float("nan")
    centre = mean(values)
    return float((sum((value - centre) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def _finished(run: Run) -> dict[str, dict[str, Any]]:
    """Trials in the events of this experiment that have scores, by their parameters."""
    found: dict[str, dict[str, Any]] = {}
    for event in files.read_events(run.folder):
        scores = event.get("scores")
        if event.get("event") != "search_trial" or not isinstance(event.get("params"), dict):
            continue
        if isinstance(scores, list) and scores and all(isinstance(score, int | float) for score in scores):
            kept = {name: event[name] for name in _KEPT if name in event}
            found[_identity(event["params"])] = kept
    return found


def _told(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as texts that are the same in every process; objects by their `repr`."""
    return {str(name): value if isinstance(value, str) else repr(value) for name, value in params.items()}


def _identity(params: Mapping[str, Any]) -> str:
    return repr(sorted(_told(params).items()))
