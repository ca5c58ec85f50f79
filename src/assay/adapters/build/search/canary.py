"""Canaries at the end of a search: a text that breaks one is refused here, before a confirmation is spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.core.agent import AgentOutcome
from assay.evolving.archive import Entry, Pick, knee_point
from assay.evolving.course import Course
from assay.evolving.world import Ended, Wanted, World

TRIES = 3
"""Most runs of a canary with one text: an agent that fails it by chance has not missed the text."""


def proven(course: Course, pick: Pick, canaries: Sequence[str]) -> Pick:
    """The text that is picked, once no canary is broken by it; else the next best one, and so on.

    Args:
        course: the search, which has ended.
        pick: what it would end with.
        canaries: ids of the tasks that need the text.
    """
    rules, refused, told = course.rules, 0, ""
    while pick.number:
        entry = course.archive.entries[pick.number]
        try:
            broken = _broken(course.world, entry, canaries)
        except Ended as end:
            told = f"not tried on all canaries: {end.reason}"
            break
        if not broken:
            break
        course.archive.reject(entry, f"it never passes the canary {broken}, in {TRIES} runs")
        course.settle(entry)
        refused += 1
        shorter = rules.accept == "better_or_shorter"
        pick = knee_point(course.archive.kept, rules.knee, rules.pick, shorter=shorter)
    if refused:
        told = "; ".join(x for x in (f"better ones that broke a canary: {refused}", told) if x)
    return replace(pick, rule=f"{pick.rule}; {told}") if told else pick


def _broken(world: World, entry: Entry, canaries: Sequence[str]) -> str:
    """The first canary that never passes with a text; empty where there is none."""
    for task in canaries:
        learned = False
        for attempt in range(1, TRIES + 1):
            wanted = Wanted(entry.digest, task, attempt)
            seen = world.measure([wanted], {entry.digest: entry.text}, "canary")[wanted]
            if seen.outcome == AgentOutcome.PASS:
                break
            learned = learned or seen.score is not None
        else:
            if learned:
                return task
    return ""
