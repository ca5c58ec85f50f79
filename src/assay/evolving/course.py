"""A search under way: it measures texts, tells how it stands, and takes proposals in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.evolving.archive import Archive, Entry, mean
from assay.evolving.chance import Chance
from assay.evolving.limits import Limits
from assay.evolving.proposers import propose
from assay.evolving.proposers.scene import Proposal, Scene
from assay.evolving.proposers.spec import PoolLine, ProposerSpec
from assay.evolving.request import proposal_of, request
from assay.evolving.rules import Rules
from assay.evolving.world import Ended, Observed, Purpose, Standing, Wanted, World

NOTHING_NEW = "the proposers have nothing new to say"
DULL = 6
"""Answers in a row of a program that give nothing to try: it is not asked, and paid, any more."""
TRIES = 60
"""Proposals in a row that give nothing new: then the proposers have no more to say."""


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
        answer = self.world.ask(
            place, request(entry, self.archive, self.limits, self.facts, self.world.runs_left)
        )
        if answer.stop:
            others = any(s.kind != "command" for s in self.proposers)
            if others:
                return None
            raise Ended(f"the proposing command has nothing left: {answer.stop}")
        return proposal_of(entry, answer)

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


def unfinished(child: Entry) -> None:
    """What the end of a search found half tried is not kept; it is not remembered as bad either."""
    child.state, child.why = "rejected", "the search ended while it was tried"
