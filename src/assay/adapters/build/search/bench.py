"""The bench of a search: it runs agents, asks proposers, keeps to the budget, and does nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from assay.core.agent import AgentRun
from assay.core.artifact_text import Edit
from assay.core.canon import digest, short
from assay.core.errors import ComponentFailed
from assay.core.ports import Session
from assay.core.suite import Suite
from assay.core.vocabulary import FailureClass
from assay.evolving.proposers.spec import CommandOptions, ProposerSpec
from assay.evolving.world import Answer, Ended, Observed, Purpose, Standing, Wanted
from assay.runtime.agents import AgentRunner, RunJournal, run_all
from assay.runtime.agents.plan import drawn, in_order
from assay.runtime.agents.purse import WARN_AT, Purse, Spent
from assay.runtime.agents.running import INFRA_IN_A_ROW

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
    """What a search may spend: runs, money of its own, and of the study's money what confirmation does not need."""

    max_runs: int
    max_cost: float | None = None
    """Of the search alone."""
    purse: Purse = field(default_factory=Purse)
    """Of the study."""
    confirming: int = 0
    """Runs that must still be paid for when the search has ended."""
    runs: int = 0
    _warned: set[float] = field(default_factory=set)

    @property
    def mine(self) -> Spent:
        """What the search has spent."""
        return self.purse.mine

    @property
    def kept(self) -> float:
        """What is kept for confirmation: at the price, or at what runs were found to cost, if that is more."""
        return self.confirming * max(self.purse.price or 0.0, self.purse.per_run)

    def run(self, run: AgentRun) -> None:
        """Count a run.

        Raises:
            ComponentFailed: USER_CONFIG_ERROR, if its cost is unknown and a cap must be kept.
        """
        self.runs += 1
        self._require(self.mine.run(run, self.purse.price), f"the run of task {run.task}")

    def after(self, runs: Iterable[AgentRun]) -> Spending:
        """How it would stand with these runs too; those without a known cost count nothing here."""
        made = replace(self, purse=replace(self.purse, mine=replace(self.mine)))
        for run in runs:
            made.mine.run(run, made.purse.price)
        return made

    def call(self, cost: float | None, price: float | None) -> None:
        """Count a proposal.

        Raises:
            ComponentFailed: as `run`.
        """
        self._require(self.mine.call(cost, price), "the proposing command")

    def _require(self, known: bool, what: str) -> None:
        if not known and (self.max_cost is not None or self.purse.cap is not None):
            raise ComponentFailed(
                f"{what} told no cost, so that no cap can be kept",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where="search",
                next="give `price_per_run` (or `price` of the proposer): what one is assumed to cost",
            )

    def price(self) -> float:
        """What a further run is expected to cost, proposals included; the price where nothing is known yet."""
        return self.mine.cost / self.runs if self.runs else self.purse.per_run

    def over(self, more: float = 0.0) -> str:
        """Why so much more cannot be spent, or, without more, nothing at all; empty where it can."""
        spent, then = self.mine.cost, f", and {more:.4g} more may be" if more else ""
        if self.max_cost is not None and _beyond(spent + more, self.max_cost, more):
            return f"the cost cap of {self.max_cost:g}: {spent:.4g} is spent{then}"
        purse = self.purse
        if purse.cap is not None and _beyond(purse.cost + self.kept + more, purse.cap, more):
            return (
                f"the money of the study: of {purse.cap:g} is {purse.cost:.4g} spent and {self.kept:.4g} kept for "
                f"confirmation{then}"
            )
        return ""

    def warn(self, tell: Callable[[str], None]) -> None:
        """Tell each share of a cap once it is passed."""
        self.purse.warn(tell)
        for share in WARN_AT:
            if self.max_cost and share not in self._warned and self.mine.cost >= share * self.max_cost:
                self._warned.add(share)
                assumed = f", {self.mine.assumed:.4g} of it assumed" if self.mine.assumed else ""
                told = f"{self.mine.cost:.4g} of {self.max_cost:g}{assumed}"
                tell(f"warning: {share:.0%} of the search's cost cap is spent: {told}")


def _beyond(spent: float, cap: float, more: float) -> bool:
    """Whether a cap is passed, or, where nothing is planned, reached."""
    return spent > cap * (1 + 1e-9) if more else spent >= cap


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
    held: int = 0
    """Runs that are kept for the canaries at the end."""
    asked: int = 0
    reused: int = 0
    """Runs that an earlier attempt had done."""
    _failures: dict[int, int] = field(default_factory=dict)
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
        return max(0, self.spending.max_runs - self.spending.runs - self.held)

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
            self.spending.run(run)
        self._streak = 0 if any(r.learned for r in found) else self._streak + len(found)
        self.spending.warn(self.session.note)
        if len(found) < len(wanted):
            raise Ended(self.spending.over() or self._stopped or "the runs were stopped")
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
        meanwhile = [self.journal.done[k] for k in keys.values() if k in self.journal.done]

        def stop(run: AgentRun) -> str | None:
            meanwhile.append(run)
            left = self.session.remaining_s()
            if over := self.spending.after(meanwhile).over():
                self._stopped = over
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

    def _require_budget(self, count: int, todo: Sequence[Wanted]) -> None:
        """What an earlier attempt did is not refused: it was allowed then."""
        if count > self.runs_left:
            held = f" and {self.held} kept for canaries" if self.held else ""
            raise Ended(
                f"the runs are used up: {self.runs} done, {self.runs_left} left{held}, {count} needed"
            )
        if not todo:
            return
        if over := self.spending.over() or self.spending.over(count * self.spending.price()):
            raise Ended(over)
        self._require_time()

    def _require_time(self) -> None:
        left = self.session.remaining_s()
        if left is not None and left <= 0:
            raise Ended(OUT_OF_TIME)

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
        self.spending.call(answer.get("cost"), options.price)
        self.spending.warn(self.session.note)
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
        if over := self.spending.over(options.price or 0.0):
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
        charged = options.price if made["cost"] is None else made["cost"]
        self.record.write("answer", {**asked, "answer": made, "charged": charged})
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
        if self.spending.mine.cost:
            told += f", cost {self.spending.mine.cost:.4g}"
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
