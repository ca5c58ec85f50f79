"""The search of Assay's own engine. All that it learns comes from a `World`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from pydantic import Field

from assay.core.artifact_text import edited
from assay.core.base import Noun
from assay.core.errors import UsageError
from assay.evolving.archive import Archive, Entry, Pick, knee_point, mean, parent
from assay.evolving.chance import Chance
from assay.evolving.limits import Limits
from assay.evolving.proposers import PoolLine, Proposal, ProposerSpec, Scene, propose
from assay.evolving.sections import By
from assay.evolving.world import Answer, Ended, Observed, Purpose, Standing, Wanted, World

PERFECT = (
    "nothing is left to gain: a text passes every selecting task, and every train task that it was tried on"
)
NOTHING_NEW = "the proposers have nothing new to say"
DULL = 6
"""Answers in a row of a program that give nothing to try: it is not asked, and paid, any more."""
TIE = 1e-12
TRIES = 60
"""Proposals in a row that give nothing new: then the proposers have no more to say."""


class Rules(Noun):
    """How a search goes."""

    minibatch: int = Field(default=3, ge=1)
    """Train tasks on which a change is tried first, together with the text that it changes."""
    repeats: int = Field(default=1, ge=1)
    """Runs of each task and text there."""
    select_repeats: int = Field(default=1, ge=1)
    """Runs of each selecting task and kept text."""
    ties: int = Field(default=1, ge=0)
    """Further minibatches while both are equal: a change may not matter to the first few tasks."""
    fresh: bool = True
    """Draw parent and child anew for every try. False = a text's run of a task is done once and used again: right for
    an agent without chance, and half the runs."""
    accept: Literal["better", "not_worse", "better_or_shorter"] = "better"
    """What is kept after a minibatch; `better_or_shorter` keeps, and may pick, what is as good and shorter."""
    parent: Literal["pareto", "best", "epsilon-greedy"] = "pareto"
    """Which text is changed next."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """Of `epsilon-greedy`."""
    patience: int | None = Field(default=None, ge=1)
    """Runs without a better mean on the selecting tasks; then the search ends. None = it goes on to its budget."""
    pick: Literal["smallest", "best"] = "smallest"
    """Which text is picked of those that are nearly as good as the best."""
    knee: float | None = Field(default=None, ge=0)
    """How near that is, as a difference of means; None = 1 / selecting tasks."""
    tolerance: float = Field(default=0.0, ge=0, le=1)
    """Of `minimize`: mean loss over all tasks that still counts as the same behaviour. Gains never make up for it."""
    by: By | None = None
    """Of `minimize`: parts that are left out first, before single lines; None = the coarsest there are."""


@dataclass
class Course:
    """A search under way: its texts, its numbers of draws, and where it stands.

    Args:
        archive: of the baseline.
        train: ids of the tasks that may be learned from.
        select: ids of the tasks that choose; empty = the train tasks do.
        rules: see `Rules`.
        limits: what no text may break.
        world: runs and asks.
        facts: of each train task, what a proposer outside may be told, such as its prompt.
    """

    archive: Archive
    train: tuple[str, ...]
    select: tuple[str, ...]
    rules: Rules
    limits: Limits
    world: World
    proposers: tuple[ProposerSpec, ...] = ()
    pool: tuple[PoolLine, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    meant: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Number of a text → the train tasks that it was made for."""
    _dull: dict[int, int] = field(default_factory=dict)
    _settled: set[int] = field(default_factory=set)
    _draws: dict[tuple[str, str], int] = field(default_factory=dict)
    _seen: dict[Wanted, Observed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        self.select = self.select or self.train

    # -- measuring ----------------------------------------------------------------------------------------

    def measure(
        self, entries: Sequence[Entry], tasks: Sequence[str], repeats: int, purpose: Purpose
    ) -> dict[int, dict[str, list[Observed]]]:
        """Runs of some texts on the same tasks, all of them in one block.

        Returns:
            Number of the text → task → its runs.

        Raises:
            Ended: if they do not fit the budget.
        """
        wanted: dict[tuple[int, str], list[Wanted]] = {}
        for entry in entries:
            for task in tasks:
                wanted[entry.number, task] = [self._wanted(entry, task, k) for k in range(repeats)]
        new = [w for ws in wanted.values() for w in ws if w not in self._seen]
        if new:
            self._seen.update(self.world.measure(new, {e.digest: e.text for e in entries}, purpose))
        found: dict[int, dict[str, list[Observed]]] = {e.number: {} for e in entries}
        for (number, task), ws in wanted.items():
            found[number][task] = [self._seen[w] for w in ws]
            if purpose != "select" and any(w in new for w in ws):
                for seen in found[number][task]:
                    self.archive.entries[number].learn(task, seen)
        return found

    def _wanted(self, entry: Entry, task: str, repeat: int) -> Wanted:
        if not self.rules.fresh:
            return Wanted(entry.digest, task, repeat + 1)
        # every draw is a new one: a run that let a text in does not also choose it
        taken = (entry.digest, task)
        self._draws[taken] = self._draws.get(taken, 0) + 1
        return Wanted(entry.digest, task, self._draws[taken])

    def chosen(self, entry: Entry) -> float | None:
        """Measure a text on the tasks that select; their mean, None where nothing was learned.

        Raises:
            Ended: if the runs do not fit the budget.
        """
        found = self.measure([entry], self.select, self.rules.select_repeats, "select")
        for task, runs in found[entry.number].items():
            for seen in runs:
                entry.chosen_by(task, seen)
        return mean(entry.select_means.values())

    # -- telling ------------------------------------------------------------------------------------------

    def tell(self, doing: str) -> None:
        """Say how it stands."""
        kept = self.archive.kept
        best = max(kept, key=lambda e: (mean(e.select_means.values()) or 0.0, -len(e.text)))
        states = [e.state for e in self.archive.entries]
        self.world.tell(
            Standing(
                baseline=mean(self.archive.baseline.select_means.values()),
                best=mean(best.select_means.values()),
                best_chars=len(best.text),
                kept=sum(e.number in self._settled for e in kept[1:]),
                rejected=states.count("rejected"),
                refused=states.count("refused"),
                doing=doing,
            )
        )

    def settle(self, entry: Entry) -> None:
        """Note what became of a text."""
        self._settled.add(entry.number)
        node = entry.node()
        self.world.settle(
            {
                "node": node.number,
                "parents": list(node.parents),
                "text": node.text,
                "chars": node.chars,
                "proposer": node.proposer,
                "state": node.state,
                "reason": node.reason,
                "why": node.why,
                "select": mean(node.select.values()),
            }
        )

    # -- proposing ----------------------------------------------------------------------------------------

    def scene(self, entry: Entry) -> Scene:
        """What a proposer may know when it changes that text."""
        return Scene(parent=entry, mates=self.archive.kept, pool=self.pool, anchors=self.limits.anchors)

    def proposed(self, entry: Entry, chance: Chance) -> Entry | None:
        """A new text out of an old one: neither known, nor a change that was thrown away, nor against the limits.

        Returns:
            The entry, `kept` for now; None where the proposers had nothing.

        Raises:
            Ended: if no proposer has anything to say any more, or asking does not fit the budget.
        """
        left = [i for i in range(len(self.proposers)) if self._dull.get(i, 0) < DULL]
        if not left:
            raise Ended(NOTHING_NEW)
        for attempt in range(TRIES):
            if not left:
                return None
            drawn = chance.of(attempt)
            place = drawn.pick(left, [self.proposers[i].weight for i in left])
            spec = self.proposers[place]
            outside = spec.kind == "command"
            made = self._asked(place, entry) if outside else propose(spec, self.scene(entry), drawn)
            found = self._admitted(entry, made, spec.kind) if made is not None else None
            if outside:
                self._dull[place] = 0 if found is not None else self._dull.get(place, 0) + 1
            if found is not None or (outside and made is not None):
                return found
            if made is None:
                left.remove(place)
        return None

    def _asked(self, place: int, entry: Entry) -> Proposal | None:
        answer = self.world.ask(place, request(self, entry))
        if answer.stop:
            others = any(s.kind != "command" for s in self.proposers)
            if others:
                return None
            raise Ended(f"the proposing command has nothing left: {answer.stop}")
        return _proposal(entry, answer)

    def _admitted(self, entry: Entry, made: Proposal, kind: str) -> Entry | None:
        """Take a proposal in; None where it is not worth a run. What a program proposed is on record either way."""
        own = kind != "command"
        known = self.archive.known(made.text)
        again = self.archive.rejected_before(entry.text, made.text)
        refused = self.limits.why_refused(self.archive.baseline.text, made.text)
        if own and (known is not None or again or refused):
            return None
        child = self.archive.add(made.text, (entry.number, *made.parents), kind, made.reason)
        self.meant[child.number] = made.tasks
        if known is not None:
            self.settle(child)
            return None
        if refused:
            self.archive.reject(child, refused, "refused")
        elif again:
            self.archive.reject(child, "the same change was thrown away before", "refused")
        if child.state == "kept":
            return child
        self.settle(child)
        return None


def evolve(course: Course, chance: Chance) -> tuple[Pick, str]:
    """Assay's own engine: change a text, try the change on a minibatch, keep it if it is better, choose at the end.

    Args:
        course: the search.
        chance: what is drawn from.

    Returns:
        What is picked, and why the search ended.
    """
    try:
        _opening(course)
        ended = _loop(course, chance)
    except Ended as end:
        ended = end.reason
    rules = course.rules
    pick = knee_point(
        course.archive.kept, rules.knee, rules.pick, shorter=rules.accept == "better_or_shorter"
    )
    return pick, ended


def _opening(course: Course) -> None:
    """The baseline on all tasks: what it fails is where proposals come from."""
    course.tell("the baseline")
    course.measure([course.archive.baseline], course.train, 1, "train")
    course.chosen(course.archive.baseline)
    course.settle(course.archive.baseline)


def _loop(course: Course, chance: Chance) -> str:
    rules, archive, world = course.rules, course.archive, course.world
    best, since, dry = mean(archive.baseline.select_means.values()) or 0.0, world.runs, 0
    for number in range(1, 1_000_000):
        if _perfect(best, archive):
            return PERFECT
        if rules.patience is not None and world.runs - since >= rules.patience:
            return f"{world.runs - since} runs without a better text"
        drawn = chance.of(number)
        entry = parent(archive.kept, rules.parent, rules.epsilon, drawn.of("parent"))
        _require_room(course)
        child = course.proposed(entry, drawn.of("propose"))
        if child is None:
            dry += 1
            if dry >= TRIES:
                return NOTHING_NEW
            continue
        dry = 0
        course.tell(f"{child.proposer}: {child.reason}")
        try:
            value = course.chosen(child) if _tried(course, entry, child, drawn.of("minibatch")) else None
        except Ended:
            unfinished(child)
            raise
        if value is not None and value > best:
            best, since = value, world.runs
        course.settle(child)
        course.tell("")
    return "it went on too long"


def unfinished(child: Entry) -> None:
    """What the end of a search found half tried is not kept; it is not remembered as bad either."""
    child.state, child.why = "rejected", "the search ended while it was tried"


def _perfect(best: float, archive: Archive) -> bool:
    return best >= 1.0 and any(
        (mean(e.select_means.values()) or 0) >= 1.0 and all(s >= 1.0 for s in e.train_means.values())
        for e in archive.kept
    )


def _require_room(course: Course) -> None:
    """A try that is begun can be finished, selection included.

    Raises:
        Ended: if the runs that are left do not allow it.
    """
    rules = course.rules
    batch = min(rules.minibatch, len(course.train))
    need = (2 if rules.fresh else 1) * batch * rules.repeats * (1 + rules.ties)
    need += len(course.select) * rules.select_repeats
    if course.world.runs_left < need:
        raise Ended(
            f"the runs are used up: {course.world.runs} done, {course.world.runs_left} left, "
            f"and another try may need {need}"
        )


def _tried(course: Course, entry: Entry, child: Entry, chance: Chance) -> bool:
    """Both texts on the same few tasks, and on as many more while they are equal; whether the child is kept."""
    rules = course.rules
    order = _in_order(course, entry, child, chance)
    before, after, both = 0.0, 0.0, 0
    for at in range(0, min(len(order), rules.minibatch * (1 + rules.ties)), rules.minibatch):
        tasks = order[at : at + rules.minibatch]
        found = course.measure([entry, child], tasks, rules.repeats, "minibatch")
        for task in tasks:
            runs = (found[e.number][task] for e in (entry, child))
            old, new = (mean(o.score for o in seen if o.score is not None) for seen in runs)
            if old is not None and new is not None:
                before, after, both = before + old, after + new, both + 1
        if abs(after - before) > TIE:
            break
    gained = after > before + TIE
    same = abs(after - before) <= TIE
    shorter = same and len(child.text) < len(entry.text)
    accepts = {"better": gained, "not_worse": gained or same, "better_or_shorter": gained or shorter}
    if both and accepts[rules.accept]:
        return True
    why = (
        f"{after:.3g} against {before:.3g} on {both} train tasks" if both else "nothing was learned about it"
    )
    course.archive.reject(child, why)
    return False


def _in_order(course: Course, entry: Entry, child: Entry, chance: Chance) -> list[str]:
    """Train tasks in a drawn order: first what the change was made for, then failed ones and all others by turns.

    What the parent failed earlier decides only which tasks come first; all are drawn anew.
    """
    drawn = chance.shuffled(course.train)
    known = entry.train_means
    meant = [t for t in drawn if t in course.meant.get(child.number, ())]
    failing = [t for t in drawn if known.get(t, 0.0) < 1.0]
    others = [t for t in drawn if t not in failing]
    turns = [t for pair in zip_longest(failing, others) for t in pair if t is not None]
    return list(dict.fromkeys([*meant[: -(-course.rules.minibatch // 2)], *turns]))


def request(course: Course, entry: Entry) -> dict[str, Any]:
    """What a proposer outside is told: `schema: text-proposal-request/1`. Nothing of selecting or confirming tasks."""
    failures = []
    for task in sorted(entry.last):
        seen = entry.last[task]
        if (seen.score or 0.0) < 1.0:
            failures.append(
                {
                    "task": task,
                    **course.facts.get(task, {}),
                    "score": seen.score,
                    "outcome": seen.outcome,
                    "feedback": seen.feedback,
                    "said": seen.said,
                }
            )
    return {
        "schema": "text-proposal-request/1",
        "parent": {"number": entry.number, "text": entry.text, "train": entry.train_means},
        "failures": failures,
        "passed": sorted(t for t, o in entry.last.items() if (o.score or 0.0) >= 1.0),
        "rejected": [
            {
                "edits": [e.to_json() for e in r.edits],
                "parent": r.parents[0] if r.parents else 0,
                "why": r.why,
            }
            for r in course.archive.last_rejected(20)
        ],
        "limits": {
            "chars": course.limits.room(course.archive.baseline.text),
            "anchors": course.limits.anchors,
        },
        "runs_left": course.world.runs_left,
        "texts": len(course.archive.entries),
    }


def _proposal(entry: Entry, answer: Answer) -> Proposal | None:
    if answer.failed:
        return None
    if answer.text is not None:
        return Proposal(answer.text, answer.reason)
    if not answer.edits:
        return None
    try:
        return Proposal(edited(entry.text, answer.edits), answer.reason)
    except UsageError:
        return None  # edits of lines that are not there: the world has told so already
