"""The search of Assay's own engine. All that it learns comes from a `World`."""

from __future__ import annotations

from itertools import zip_longest

from assay.evolving.archive import Archive, Entry, Pick, knee_point, mean, parent
from assay.evolving.chance import Chance
from assay.evolving.course import NOTHING_NEW, TRIES, Course, unfinished
from assay.evolving.rules import TIE
from assay.evolving.world import Ended

PERFECT = (
    "nothing is left to gain: a text passes every selecting task, and every train task that it was tried on"
)


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
