"""Engine `gepa`: the GEPA library decides which text is changed and kept; runs, proposals and budget are ours.

Nothing of GEPA's is written or read: it gets no run folder, so there is no pickle. A killed search is gone through
again with the answers of our journals, which the library does the same way for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core.errors import ComponentMissing
from assay.evolving.archive import Entry, Pick, knee_point, mean
from assay.evolving.chance import Chance
from assay.evolving.course import NOTHING_NEW, Course, unfinished
from assay.evolving.search import PERFECT
from assay.evolving.world import Ended, Observed

TEXT = "text"
"""Name of the one component."""
IDLE = 100
"""Iterations without a run: then nothing new is proposed any more."""
INSTALL = "pip install 'assay[gepa]'"
_PARENTS = {"pareto": "pareto", "best": "current_best", "epsilon-greedy": "epsilon_greedy"}
_ACCEPTS = {"better": "strict_improvement", "not_worse": "improvement_or_equal"}


class _Halt(BaseException):
    """Carries our own ends and errors through the library, which catches every Exception of a proposer."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def vendor() -> Any:
    """The library.

    Raises:
        ComponentMissing: if it is not installed.
    """
    try:
        import gepa  # noqa: PLC0415 - only where it is used
    except ImportError as error:
        raise ComponentMissing(
            "the engine `gepa` needs the package gepa", where="search", next=INSTALL
        ) from error
    return gepa


def evolve_by_gepa(course: Course, chance: Chance, seed: int) -> tuple[Pick, str]:
    """A search that GEPA directs.

    Args:
        course: the search.
        chance: what our proposers draw from.
        seed: of the library.

    Returns:
        What is picked, and why the search ended.

    Raises:
        ComponentMissing: if the library is not installed.
    """
    gepa = vendor()
    rules = course.rules
    bridge = _Bridge(course, chance)
    course.tell("the baseline")
    try:
        gepa.optimize(
            seed_candidate={TEXT: course.archive.baseline.text},
            trainset=[("train", t) for t in course.train],
            valset=[("select", t) for t in course.select],
            adapter=bridge,
            custom_candidate_proposer=bridge.propose,
            candidate_selection_strategy=_PARENTS[rules.parent],
            reflection_minibatch_size=min(rules.minibatch, len(course.train)),
            acceptance_criterion=_ACCEPTS[rules.accept],
            stop_callbacks=bridge.should_stop,
            callbacks=[bridge],
            logger=_Silent(),
            run_dir=None,
            seed=seed,
            raise_on_exception=True,
            track_best_outputs=False,
            cache_evaluation=False,
        )
        ended = bridge.ended
    except _Halt as halt:
        if not isinstance(halt.error, Ended):
            raise halt.error from None
        ended = halt.error.reason
        bridge.close()
    pick = knee_point(course.archive.kept, rules.knee, rules.pick)
    return pick, ended or "GEPA ended it"


class _Silent:
    """A logger that says nothing: what matters is in our own record."""

    def log(self, message: str) -> None:
        """Nothing."""


@dataclass
class _Batch:
    """What GEPA calls an EvaluationBatch."""

    outputs: list[Any]
    scores: list[float]
    trajectories: list[Any] | None
    objective_scores: None = None
    num_metric_calls: int | None = None


def _carried(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose ends and errors reach us whatever the library catches."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            raise _Halt(error) from error

    return call


@dataclass
class _Bridge:
    """GEPA's adapter, proposer, stopper and callbacks in one."""

    course: Course
    chance: Chance
    ended: str = ""
    propose_new_texts: None = None
    """GEPA looks for it: ours is given as a custom proposer."""
    _child: Entry | None = None
    """Proposed, and not settled yet."""
    _asked: int = 0
    _idle: tuple[int, int] = (0, 0)
    _best: float | None = None
    _since: int = 0
    _texts: list[Entry] = field(default_factory=list)

    # -- adapter ------------------------------------------------------------------------------------------

    def evaluate(
        self, batch: list[tuple[str, str]], candidate: dict[str, str], capture_traces: bool = False
    ) -> Any:
        """Runs of one text."""
        return _carried(self._evaluate)(batch, candidate)

    def _evaluate(self, batch: Sequence[tuple[str, str]], candidate: Mapping[str, str]) -> _Batch:
        course, rules = self.course, self.course.rules
        entry = course.archive.known(candidate[TEXT])
        assert entry is not None, "GEPA evaluates a text that nobody proposed"
        selects = batch[0][0] == "select"
        tasks = [task for _, task in batch]
        repeats = rules.select_repeats if selects else rules.repeats
        distinct = list(dict.fromkeys(tasks))
        found = course.measure([entry], distinct, repeats, "select" if selects else "minibatch")[entry.number]
        if selects:
            for task in distinct:
                for seen in found[task]:
                    entry.chosen_by(task, seen)
        means = {t: mean(o.score for o in found[t] if o.score is not None) for t in distinct}
        # the library knows no missing score: what was not learned counts as the text's own mean, never as a failure
        middle = mean(v for v in means.values() if v is not None)
        if middle is None:
            raise Ended("nothing was learned from a whole batch of runs")
        scores = [middle if (value := means[t]) is None else value for t in tasks]
        return _Batch(outputs=tasks, scores=scores, trajectories=[found[t] for t in tasks])

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """GEPA's form of what failed; our proposers read the archive instead."""
        rows: list[dict[str, Any]] = []
        for task, runs in zip(eval_batch.outputs, eval_batch.trajectories, strict=True):
            last: Observed = runs[-1]
            rows.append({"Inputs": {"task": task}, "Generated Outputs": last.said, "Feedback": last.feedback})
        return dict.fromkeys(components_to_update, rows)

    # -- proposer -----------------------------------------------------------------------------------------

    def propose(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Any],
        components_to_update: list[str],
    ) -> dict[str, str]:
        """A new text, or nothing."""
        made: dict[str, str] = _carried(self._propose)(candidate)
        return made

    def _propose(self, candidate: Mapping[str, str]) -> dict[str, str]:
        self._asked += 1
        parent = self.course.archive.known(candidate[TEXT])
        assert parent is not None
        child = self.course.proposed(parent, self.chance.of(self._asked))
        if child is None:
            return {}
        self._child = child
        self.course.tell(f"{child.proposer}: {child.reason}")
        return {TEXT: child.text}

    # -- stopper and callbacks ----------------------------------------------------------------------------

    def should_stop(self, state: Any) -> bool:
        """Between iterations: whether it is over by our rules."""
        return bool(_carried(self._should_stop)(state))

    def _should_stop(self, state: Any) -> bool:
        course, rules = self.course, self.course.rules
        runs, (at, idle) = course.world.runs, self._idle
        self._idle = (runs, idle + 1 if runs == at else 0)
        need = (
            2 * min(rules.minibatch, len(course.train)) * rules.repeats
            + len(course.select) * rules.select_repeats
        )
        perfect = any(
            (mean(e.select_means.values()) or 0.0) >= 1.0 and all(s >= 1.0 for s in e.train_means.values())
            for e in course.archive.kept
            if set(e.train_means) >= set(course.train)
        )
        if self._idle[1] > IDLE:
            self.ended = NOTHING_NEW
        elif perfect:
            self.ended = PERFECT
        elif rules.patience is not None and runs - self._since >= rules.patience:
            self.ended = f"{runs - self._since} runs without a better text"
        elif course.world.runs_left < need:
            left = course.world.runs_left
            self.ended = f"the runs are used up: {runs} done, {left} left, and another try may need {need}"
        return bool(self.ended)

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """A text was kept, and measured on the selecting tasks."""
        _carried(self._kept)(event)

    def _kept(self, event: Mapping[str, Any]) -> None:
        entry = self.course.archive.known(event["candidate"][TEXT])
        assert entry is not None
        self._child = None
        value = mean(entry.select_means.values())
        if value is not None and (self._best is None or value > self._best):
            self._best, self._since = value, self.course.world.runs
        self.course.settle(entry)
        self.course.tell("")

    def on_candidate_rejected(self, event: Mapping[str, Any]) -> None:
        """A text was no better on its minibatch."""
        _carried(self._rejected)(event)

    def _rejected(self, event: Mapping[str, Any]) -> None:
        if self._child is None:
            return
        why = f"{event['new_score']:.3g} against {event['old_score']:.3g} on its minibatch"
        self.course.archive.reject(self._child, why)
        self.course.settle(self._child)
        self._child = None

    def close(self) -> None:
        """What was half tried when it ended is not kept."""
        if self._child is not None:
            unfinished(self._child)
            self._child = None
