"""The minimiser: the shortest text that does what the baseline does. All that it learns comes from a `World`."""

from __future__ import annotations

from collections.abc import Mapping

from assay.evolving.archive import Entry, Pick, mean
from assay.evolving.course import Course, unfinished
from assay.evolving.minimize import ddmin
from assay.evolving.rules import TIE
from assay.evolving.sections import By, Section, frozen, in_code, sections
from assay.evolving.world import Ended


def minimized(course: Course) -> tuple[Pick, str]:
    """The shortest text that does what the baseline does on every task, by delta debugging: sections, then lines.

    Args:
        course: the search; train and selecting tasks both count.

    Returns:
        What is picked, and why it ended.
    """
    archive, rules = course.archive, course.rules
    tasks = tuple(dict.fromkeys((*course.train, *course.select)))
    left = archive.baseline
    ended = "no part can be left out any more"
    try:
        course.tell("the baseline")
        course.measure([left], tasks, rules.repeats, "minimize")
        course.settle(left)
        base = left.train_means
        if not base:
            return Pick(0, "nothing was learned about the baseline"), "the baseline could not be run"
        for by in _ladder(archive.baseline.text, rules.by):
            left = _shortened(course, left, by, base)
    except Ended as end:
        ended = end.reason
        shortest = [e for e in archive.kept if e.proposer == "minimize"]
        left = min(shortest, key=lambda e: (len(e.text), e.number), default=archive.baseline)
    loss = f"mean loss of at most {rules.tolerance:g}" if rules.tolerance else "no loss"
    return Pick(left.number, f"shortest text with {loss} on {len(tasks)} tasks"), ended


def _ladder(text: str, by: By | None) -> tuple[By, ...]:
    if by is not None:
        return (by,) if by == "lines" else (by, "lines")
    coarse: tuple[By, ...] = ("headings", "paragraphs")
    return (*(b for b in coarse if len(sections(text, b)) > 1), "lines")


def _shortened(course: Course, start: Entry, by: By, base: Mapping[str, float]) -> Entry:
    held = frozen(start.text, course.limits.anchors)
    parts = sections(start.text, by)
    free = [
        p for p in parts if not p.blank and not any(i in held for i in range(p.first, p.first + len(p.lines)))
    ]
    loose = {p.first for p in free}
    current = start

    def equivalent(chosen: tuple[Section, ...]) -> bool:
        nonlocal current
        places = {p.first for p in chosen}
        text = _tidy("\n".join(p.text for p in parts if p.first not in loose or p.first in places))
        known = course.archive.known(text)
        if known is not None:
            same = known.state in {"kept", "baseline"}
        else:
            same = _same(course, start, text, base, f"{len(free) - len(chosen)} of {len(free)} {by} left out")
        if same:
            current = course.archive.known(text) or current
        return same

    ddmin(free, equivalent)
    return current


def _tidy(text: str) -> str:
    """No two blank lines in a row, code left alone: what stood between them is gone."""
    lines = text.split("\n")
    code = in_code(lines)
    return "\n".join(x for i, x in enumerate(lines) if i == 0 or x.strip() or lines[i - 1].strip() or code[i])


def _same(course: Course, start: Entry, text: str, base: Mapping[str, float], reason: str) -> bool:
    """Whether a text loses nothing: given up at the first chunk of tasks that shows it."""
    child = course.archive.add(text, (start.number,), "minimize", reason)
    if refused := course.limits.why_refused(course.archive.baseline.text, text):
        course.archive.reject(child, refused, "refused")
        course.settle(child)
        return False
    rules, tasks = course.rules, list(base)
    loss, size = 0.0, max(rules.minibatch, 1)
    for at in range(0, len(tasks), size):
        chunk = tasks[at : at + size]
        course.tell(reason)
        try:
            found = course.measure([child], chunk, rules.repeats, "minimize")[child.number]
        except Ended:
            unfinished(child)
            raise
        for task in chunk:
            value = mean(o.score for o in found[task] if o.score is not None)
            loss += max(0.0, base[task] - value) if value is not None else base[task]
        if loss > rules.tolerance * len(tasks) + TIE:
            course.archive.reject(
                child, f"loses {loss:.3g} in the first {at + len(chunk)} of {len(tasks)} tasks"
            )
            break
    course.settle(child)
    return child.state == "kept"
