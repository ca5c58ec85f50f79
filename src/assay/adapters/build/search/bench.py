"""The bench of a search: it runs agents, asks proposers, keeps to the budget, and does nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay.core.agent import AgentRun
from assay.core.artifact_text import Edit
from assay.core.canon import digest, short
from assay.core.errors import ComponentFailed
from assay.core.ports import Session
from assay.core.suite import Suite
from assay.core.vocabulary import FailureClass
from assay.evolving.proposers import CommandOptions, ProposerSpec
from assay.evolving.world import Answer, Ended, Observed, Purpose, Standing, Wanted
from assay.runtime.agents import AgentRunner, RunJournal, run_all
from assay.runtime.agents.plan import drawn, in_order
from assay.runtime.agents.running import INFRA_IN_A_ROW

WARN_AT = (0.5, 0.8)
"""Shares of the cost cap that are told when they are passed."""
NOTE_S = 0.5
OUT_OF_TIME = "the time of the study is used up"


class Replies(Protocol):
    """What a proposing command answered: `search.command.Reply`."""

    @property
    def cost(self) -> float | None:
        """As it told; None = unknown."""
        ...

    @property
    def failed(self) -> str:
        """Why it cannot be used."""
        ...

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        ...


class Lines(Protocol):
    """The record of the search: `search.record.Record`."""

    def next(self, kind: str) -> Mapping[str, Any] | None:
        """The next line of an earlier attempt."""
        ...

    def write(self, kind: str, value: Mapping[str, Any]) -> None:
        """Add a line, or compare it with the one that is there."""
        ...


@dataclass
class Spending:
    """What was spent, of which cap."""

    max_runs: int
    max_cost: float | None = None
    price_per_run: float | None = None
    """Assumed for a run that tells no cost; None = unknown, which is not 0."""
    runs: int = 0
    told: float = 0.0
    tellers: int = 0
    """Runs and calls that told a cost."""
    assumed: float = 0.0

    @property
    def cost(self) -> float:
        """Told and assumed."""
        return self.told + self.assumed

    def add(self, cost: float | None, price: float | None, what: str) -> None:
        """Count a cost.

        Raises:
            ComponentFailed: USER_CONFIG_ERROR, if it is unknown and a cap must be kept.
        """
        if cost is not None:
            self.told += cost
            self.tellers += 1
        elif price is not None:
            self.assumed += price
        elif self.max_cost is not None:
            raise ComponentFailed(
                f"{what} told no cost, so `max_cost` cannot be kept",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where="search",
                next="give `price_per_run` (or `price` of the proposer): what one is assumed to cost",
            )

    def price(self) -> float:
        """What a further run is expected to cost; 0 where nothing is known yet."""
        return self.cost / self.runs if self.runs else self.price_per_run or 0.0


class Holding(RunJournal):
    """A journal that keeps infra errors only once it is known that the machine is not down.

    Args:
        inner: where runs are kept.
    """

    def __init__(self, inner: RunJournal) -> None:
        self.inner = inner
        self.path = inner.path
        self.done = inner.done
        self.held: list[AgentRun] = []

    def add(self, run: AgentRun) -> None:
        """Keep what something was learned from, and what was held before it."""
        self.held.append(run)
        if run.learned:
            self.keep()

    def keep(self) -> None:
        """Keep what is held."""
        for run in self.held:
            self.inner.add(run)
        self.held = []


@dataclass
class Bench:
    """The world of a search: see `assay.evolving.world.World`.

    Args:
        runner: carries out runs.
        suite: the tasks.
        journal: runs that are done.
        record: answers that were given.
        spending: the budget.
        session: of the step.
        ask_command: calls a proposing program: options, request, folder, seconds left.
    """

    runner: AgentRunner
    suite: Suite
    journal: RunJournal
    record: Lines
    spending: Spending
    session: Session
    proposers: tuple[ProposerSpec, ...]
    ask_command: Callable[[CommandOptions, Mapping[str, Any], Path, float | None], Replies]
    parallel: int = 1
    seed: int = 0
    asked: int = 0
    reused: int = 0
    """Runs that an earlier attempt had done."""
    _failures: dict[int, int] = field(default_factory=dict)
    _warned: set[float] = field(default_factory=set)
    _measured: int = 0
    _noted: float = 0.0
    _line: str = ""
    _streak: int = 0
    """Infra errors after each other, over small batches too."""
    _stopped: str = ""
    """Why runs under way were the last."""

    @property
    def runs(self) -> int:
        """Runs asked for so far."""
        return self.spending.runs

    @property
    def runs_left(self) -> int:
        """Runs that may still be asked for."""
        return self.spending.max_runs - self.spending.runs

    # -- runs ---------------------------------------------------------------------------------------------

    def measure(
        self, wanted: Sequence[Wanted], texts: Mapping[str, str], purpose: Purpose
    ) -> Mapping[Wanted, Observed]:
        """Carry out runs, or take them from the journal. See `World.measure`.

        Raises:
            Ended: if they do not fit the budget of runs, cost or time.
            ComponentFailed: if the agent cannot be run.
        """
        self._measured += 1
        keys = {w: (w.task, arm_of(w.text), w.rep) for w in wanted}
        todo = [w for w in wanted if keys[w] not in self.journal.done]
        self._require_budget(len(wanted), todo)
        self.reused += len(wanted) - len(todo)
        if todo:
            self._carry_out(todo, keys, texts, purpose)
        found = [self.journal.done[keys[w]] for w in wanted if keys[w] in self.journal.done]
        for run in found:
            self.spending.runs += 1
            self.spending.add(run.cost, self.spending.price_per_run, f"the run of task {run.task}")
        self._streak = 0 if any(r.learned for r in found) else self._streak + len(found)
        self._warn()
        if len(found) < len(wanted):
            raise Ended(self._over_cost() or self._stopped or "the runs were stopped")
        return {w: _observed(self.journal.done[keys[w]]) for w in wanted}

    def _carry_out(
        self,
        todo: Sequence[Wanted],
        keys: Mapping[Wanted, tuple[str, str, int]],
        texts: Mapping[str, str],
        purpose: Purpose,
    ) -> None:
        block = self._measured
        draws = in_order([drawn(w.task, keys[w][1], w.rep, block, self.seed) for w in todo], self.seed)
        known = sum(1 for k in keys.values() if k in self.journal.done)
        extra = [self.journal.done[k] for k in keys.values() if k in self.journal.done]
        spent = self.spending.cost + sum(self._cost(r) for r in extra)

        def stop(run: AgentRun) -> str | None:
            nonlocal spent
            spent += self._cost(run)
            cap, left = self.spending.max_cost, self.session.remaining_s()
            if cap is not None and spent >= cap:
                self._stopped = f"the cost cap of {cap:g} is reached: {spent:.4g} is spent"
            elif left is not None and left <= 0:
                self._stopped = OUT_OF_TIME
            return self._stopped or None

        def on_run(_: AgentRun, done: int, of: int) -> None:
            self._note(f"{purpose}: {known + done} of {known + of} runs", self.spending.runs + known + done)

        holding = Holding(self.journal)
        run_all(
            self.runner,
            self.suite,
            {arm_of(name): text for name, text in texts.items()},
            draws,
            holding,
            parallel=self.parallel,
            on_run=on_run,
            stop=stop,
        )
        held, learned = holding.held, any(r.learned for k in keys.values() if (r := self.journal.done.get(k)))
        if held and not learned and self._streak + len(held) >= INFRA_IN_A_ROW:
            raise ComponentFailed(
                f"{self._streak + len(held)} infra errors after each other, the last one: {held[-1].reason}",
                failure_class=FailureClass.INFRA_TRANSIENT,
                where=f"agent, task {held[-1].task}",
                next="mend it, then `assay resume`",
                log_tail=held[-1].said,
            )
        holding.keep()

    def _cost(self, run: AgentRun) -> float:
        return run.cost if run.cost is not None else self.spending.price_per_run or 0.0

    def _require_budget(self, count: int, todo: Sequence[Wanted]) -> None:
        """What an earlier attempt did is not refused: it was allowed then."""
        if count > self.runs_left:
            raise Ended(f"the runs are used up: {self.runs} done, {self.runs_left} left, {count} needed")
        if not todo:
            return
        if over := self._over_cost():
            raise Ended(over)
        cap, price = self.spending.max_cost, self.spending.price()
        if cap is not None and self.spending.cost + count * price > cap:
            raise Ended(
                f"the cost cap of {cap:g}: {self.spending.cost:.4g} is spent, and {count} more runs may cost "
                f"{count * price:.4g}"
            )
        self._require_time()

    def _over_cost(self) -> str:
        cap = self.spending.max_cost
        if cap is None or self.spending.cost < cap:
            return ""
        return f"the cost cap of {cap:g} is reached: {self.spending.cost:.4g} is spent"

    def _require_time(self) -> None:
        left = self.session.remaining_s()
        if left is not None and left <= 0:
            raise Ended(OUT_OF_TIME)

    def _warn(self) -> None:
        cap = self.spending.max_cost
        for share in WARN_AT:
            if cap and share not in self._warned and self.spending.cost >= share * cap:
                self._warned.add(share)
                assumed = f", {self.spending.assumed:.4g} of it assumed" if self.spending.assumed else ""
                self.session.note(
                    f"warning: {share:.0%} of the cost cap is spent: {self.spending.cost:.4g} of {cap:g}{assumed}"
                )

    # -- proposals ----------------------------------------------------------------------------------------

    def ask(self, proposer: int, request: Mapping[str, Any]) -> Answer:
        """Ask a program, or take what it answered before. See `World.ask`.

        Raises:
            Ended: if its cost does not fit the budget.
            ComponentFailed: if it failed several times in a row.
        """
        options = self.proposers[proposer].typed
        assert isinstance(options, CommandOptions)
        self.asked += 1
        asked = {
            "proposer": proposer,
            "request": digest(_exact({k: v for k, v in request.items() if k != "runs_left"})),
        }
        known = self.record.next("answer")
        if known is not None:
            if {k: known.get(k) for k in asked} != asked:
                raise ComponentFailed(
                    "a proposer is asked something else than before the interruption",
                    failure_class=FailureClass.SYSTEMIC,
                    where="search.jsonl",
                    next="start a new study",
                )
            answer = dict(known["answer"])
        else:
            answer = self._fresh(proposer, options, request, asked)
        self.spending.add(answer.get("cost"), options.price, "the proposing command")
        self._warn()
        self._failures[proposer] = self._failures.get(proposer, 0) + 1 if answer["failed"] else 0
        return Answer(
            text=answer["text"],
            edits=_edits(answer["edits"]),
            reason=answer["reason"],
            stop=answer["stop"],
            failed=answer["failed"],
        )

    def _fresh(
        self, proposer: int, options: CommandOptions, request: Mapping[str, Any], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        if over := self._over_cost():
            raise Ended(over)
        self._require_time()
        self._note(f"asking {Path(options.command[0]).name} for a text", self.runs, force=True)
        folder = self.session.workdir / "proposals" / str(self.asked)
        reply = self.ask_command(options, request, folder, self.session.remaining_s())
        if reply.failed:
            self._note(f"the proposing command failed: {reply.failed}", self.runs, force=True)
            if self._failures.get(proposer, 0) + 1 >= options.failures:
                # not kept, so that it is asked again when somebody has mended it
                raise ComponentFailed(
                    f"the proposing command failed {options.failures} times in a row: {reply.failed}",
                    failure_class=FailureClass.INFRA_TRANSIENT,
                    where="propose",
                    next=f"mend it (its log is in {folder}), then `assay resume`",
                )
        made = reply.to_json()
        self.record.write("answer", {**asked, "answer": made})
        return made

    # -- telling ------------------------------------------------------------------------------------------

    def tell(self, standing: Standing) -> None:
        """Tell whoever watches, in one line."""
        self._line = standing.line()
        self._note(standing.doing, self.runs, force=True)

    def settle(self, event: Mapping[str, Any]) -> None:
        """Note what became of a text."""
        self.record.write("text", event)

    def _note(self, what: str, runs: int, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._noted < NOTE_S:
            return
        self._noted = now
        told = f"{runs} of at most {self.spending.max_runs} runs"
        if self.spending.cost:
            told += f", cost {self.spending.cost:.4g}"
        message = "; ".join(x for x in (self._line, told, what) if x)
        self.session.note(message, min(1.0, runs / self.spending.max_runs))


def arm_of(text: str) -> str:
    """The arm of a text, by its digest: the same text is the same arm, whatever number it has."""
    return f"text-{short(text, 16)}"


def _observed(run: AgentRun) -> Observed:
    return Observed(
        score=run.score if run.learned else None,
        outcome=run.outcome.value,
        feedback=run.feedback or run.reason,
        said=run.said,
    )


def _edits(found: Sequence[Mapping[str, Any]]) -> tuple[Edit, ...]:
    return tuple(Edit.model_validate(e) for e in found)


def _exact(value: Any) -> Any:
    """JSON whose floats are text: a digest of any number that scores can take."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(k): _exact(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
