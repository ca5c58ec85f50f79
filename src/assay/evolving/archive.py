"""Archive: every text of a search with what it scored, and what was thrown away, so that nothing is tried twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from assay.core.artifact_text import Edit, EditOp, edits_between
from assay.core.canon import digest, digest_bytes
from assay.core.evolution import TextNode
from assay.evolving.chance import Chance
from assay.evolving.world import Observed

State: TypeAlias = Literal["baseline", "kept", "rejected", "refused", "repeated"]


def text_digest(text: str) -> str:
    """`sha256:<hex>` of a text."""
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def mean(scores: Iterable[float]) -> float | None:
    """The mean; None of nothing."""
    found = list(scores)
    return sum(found) / len(found) if found else None


@dataclass
class Entry:
    """One text of a search."""

    number: int
    text: str
    parents: tuple[int, ...] = ()
    proposer: str = ""
    reason: str = ""
    edits: tuple[Edit, ...] = ()
    state: State = "kept"
    why: str = ""
    train: dict[str, list[float]] = field(default_factory=dict)
    """Task → scores of all runs while searching."""
    select: dict[str, list[float]] = field(default_factory=dict)
    """Task → scores of the runs that choose."""
    last: dict[str, Observed] = field(default_factory=dict)
    """Train task → its latest run from which something was learned. Of no other tasks: this is what proposers see."""

    @property
    def digest(self) -> str:
        """Of the text."""
        return text_digest(self.text)

    @property
    def select_means(self) -> dict[str, float]:
        """Task → mean score on the tasks that choose."""
        return {task: sum(s) / len(s) for task, s in self.select.items() if s}

    @property
    def train_means(self) -> dict[str, float]:
        """Task → mean score while searching."""
        return {task: sum(s) / len(s) for task, s in self.train.items() if s}

    def learn(self, task: str, seen: Observed) -> None:
        """Take in a run of a train task; one from which nothing was learned changes nothing."""
        if seen.score is not None:
            self.train.setdefault(task, []).append(seen.score)
            self.last[task] = seen

    def chosen_by(self, task: str, seen: Observed) -> None:
        """Take in a run of a task that selects: its score alone."""
        if seen.score is not None:
            self.select.setdefault(task, []).append(seen.score)

    def node(self) -> TextNode:
        """The record."""
        return TextNode(
            number=self.number,
            parents=self.parents,
            text=self.digest,
            chars=len(self.text),
            proposer=self.proposer,
            edits=self.edits,
            reason=self.reason,
            state=self.state,
            why=self.why,
            train=self.train_means,
            select=self.select_means,
        )


class Archive:
    """All texts of one search.

    Args:
        baseline: the text as it stands; number 0.
    """

    def __init__(self, baseline: str) -> None:
        self.entries: list[Entry] = [Entry(number=0, text=baseline, state="baseline")]
        self._numbers = {text_digest(baseline): 0}
        self._rejected: dict[str, str] = {}

    @property
    def baseline(self) -> Entry:
        """Number 0."""
        return self.entries[0]

    @property
    def kept(self) -> list[Entry]:
        """The baseline and what was kept, in order."""
        return [e for e in self.entries if e.state in {"baseline", "kept"}]

    def known(self, text: str) -> Entry | None:
        """The entry of that very text."""
        number = self._numbers.get(text_digest(text))
        return None if number is None else self.entries[number]

    def add(self, text: str, parents: tuple[int, ...], proposer: str, reason: str = "") -> Entry:
        """A new text; one that is known already is recorded as `repeated`."""
        first = self.entries[parents[0]] if parents else self.baseline
        entry = Entry(
            number=len(self.entries),
            text=text,
            parents=parents,
            proposer=proposer,
            reason=reason,
            edits=edits_between(first.text, text),
        )
        if (before := self.known(text)) is not None:
            entry.state, entry.why = "repeated", f"text {before.number} again"
        else:
            self._numbers[entry.digest] = entry.number
        self.entries.append(entry)
        return entry

    def reject(self, entry: Entry, why: str, state: Literal["rejected", "refused"] = "rejected") -> None:
        """Throw a text away, and remember its change wherever the same lines stand."""
        entry.state, entry.why = state, why
        if entry.parents:
            parent = self.entries[entry.parents[0]]
            self._rejected[change(parent.text, entry.text)] = why

    def rejected_before(self, parent: str, text: str) -> bool:
        """Whether the same change of the same lines was thrown away before, whatever else the text holds."""
        return change(parent, text) in self._rejected

    def last_rejected(self, count: int) -> list[Entry]:
        """The latest that were thrown away after they had been tried, or refused."""
        found = [e for e in self.entries if e.state in {"rejected", "refused"}]
        return found[-count:]

    def nodes(self) -> tuple[TextNode, ...]:
        """The record of all."""
        return tuple(e.node() for e in self.entries)


def change(before: str, after: str) -> str:
    """A digest of what differs: lines taken and put, and the line that they follow, wherever that is."""
    lines = before.split("\n")
    told = []
    for edit in edits_between(before, after):
        above = lines[edit.at - 1] if edit.at else None
        told.append([edit.op.value, above, lines[edit.at : edit.at + edit.count], list(edit.lines)])
        if edit.op is EditOp.MOVE:  # `edits_between` makes none; one that does must tell where to
            told[-1].append(str(edit.to))
    return digest(told)


def frontier(scores: Mapping[int, Mapping[str, float]]) -> dict[int, frozenset[str]]:
    """The texts that nothing dominates, each with the tasks on which none does better.

    A text whose best tasks are all some other's best tasks too adds nothing, and is left out.

    Args:
        scores: number → task → mean score.
    """
    tasks = sorted({t for found in scores.values() for t in found})
    best = {t: max(s[t] for s in scores.values() if t in s) for t in tasks}
    wins = {n: frozenset(t for t in tasks if s.get(t) == best[t]) for n, s in scores.items()}
    left = {n: w for n, w in wins.items() if w}
    weight = {n: sum(s.values()) for n, s in scores.items()}
    for number in sorted(left, key=lambda n: (weight[n], -n)):
        others = frozenset[str]().union(*(w for n, w in left.items() if n != number))
        if len(left) > 1 and left[number] <= others:
            del left[number]
    return left


def parent(
    kept: Sequence[Entry], rule: Literal["pareto", "best", "epsilon-greedy"], epsilon: float, chance: Chance
) -> Entry:
    """The text that is changed next.

    Args:
        kept: the baseline and what was kept; at least one.
        rule: `pareto` draws from the frontier over the selecting tasks, a text with more best tasks more often; `best`
            takes the highest mean; `epsilon-greedy` does too, but any text with the chance `epsilon`.
        epsilon: see there.
        chance: what is drawn from.
    """
    by_number = {e.number: e for e in kept}
    if rule == "epsilon-greedy" and chance.unit() < epsilon:
        return chance.pick(kept)
    if rule == "pareto":
        front = frontier({e.number: e.select_means or e.train_means for e in kept})
        if front:
            numbers = sorted(front)
            return by_number[chance.pick(numbers, [len(front[n]) for n in numbers])]
    return max(kept, key=lambda e: (mean(e.select_means.values()) or 0.0, -len(e.text), -e.number))


@dataclass(frozen=True)
class Pick:
    """The text that a search ends with."""

    number: int
    rule: str
    band: tuple[int, ...] = ()
    """The texts that were near enough to the best."""


def knee_point(
    kept: Sequence[Entry], epsilon: float | None, first: Literal["smallest", "best"], *, shorter: bool = False
) -> Pick:
    """Of the texts that are nearly as good as the best, the smallest; the baseline where none is better than it.

    Only texts that were tried on all selecting tasks of the baseline can be picked, and all of them passed the static
    checks before they were tried.

    Args:
        kept: the baseline first.
        epsilon: how far below the best mean a text may lie; None = what one task weighs, 1 / tasks.
        first: order within the band: `smallest`, or `best`, which takes the smaller of equals.
        shorter: a shorter text that is as good as the baseline may be picked too.
    """
    baseline = kept[0].select_means
    base = mean(baseline.values())
    if base is None:
        return Pick(0, "nothing was learned about the baseline on the selecting tasks")
    scored: dict[int, tuple[float, int]] = {}
    for entry in kept[1:]:
        means = entry.select_means
        value = mean(means[t] for t in baseline) if set(baseline) <= set(means) else None
        if value is None:
            continue
        if value > base or (shorter and value == base and len(entry.text) < len(kept[0].text)):
            scored[entry.number] = (value, len(entry.text))
    if not scored:
        return Pick(0, "no text was better than the baseline on the selecting tasks")
    margin = 1 / len(baseline) if epsilon is None else epsilon
    best = max(value for value, _ in scored.values())
    band = [n for n, (value, _) in scored.items() if value >= best - margin - 1e-12]
    if first == "smallest":
        picked = min(band, key=lambda n: (scored[n][1], -scored[n][0], n))
    else:
        picked = min(band, key=lambda n: (-scored[n][0], scored[n][1], n))
    rule = f"{'smallest' if first == 'smallest' else 'best'} within {margin:.3g} of the best mean {best:.3g}"
    return Pick(picked, f"knee point: {rule}, {len(band)} of {len(kept) - 1} kept texts", tuple(band))
