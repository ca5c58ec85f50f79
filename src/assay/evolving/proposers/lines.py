"""Proposers that add, delete, replace or move a line."""

from __future__ import annotations

import re

from assay.core.base import Noun
from assay.evolving.chance import Chance
from assay.evolving.proposers.scene import Proposal, Scene, gaps_of, inserted, place, short
from assay.evolving.proposers.spec import LineOptions
from assay.evolving.sections import frozen


def add(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """A line of the pool that is not there yet."""
    assert isinstance(options, LineOptions)
    lines = scene.lines
    free = [p for p in scene.pool if p.text not in scene.parent.text and place(scene, p.under)]
    if not free:
        return None
    line = chance.pick(free)
    section = place(scene, line.under)
    assert section is not None
    places = gaps_of(scene, section)
    if not places:
        return None
    at = places[-1] if options.at == "end" else chance.pick(places)
    return Proposal(inserted(lines, at, line.text), f"added {short(line.text)}")


def delete(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """One line less."""
    places = _free_lines(scene, options)
    if len(places) < 2:
        return None
    at = chance.pick(places)
    lines = scene.lines
    return Proposal("\n".join([*lines[:at], *lines[at + 1 :]]), f"deleted {short(lines[at])}")


def replace(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """A line of the pool in the place of one of its own type."""
    types = {line: p.type for p in scene.pool for line in p.text.split("\n")}
    lines = scene.lines
    pairs = [
        (at, p)
        for at in _free_lines(scene, options)
        for p in scene.pool
        if p.text not in scene.parent.text and (not p.type or types.get(lines[at]) == p.type)
    ]
    if not pairs:
        return None
    at, new = chance.pick(pairs)
    told = f"replaced {short(lines[at])} by {short(new.text)}"
    return Proposal("\n".join([*lines[:at], new.text, *lines[at + 1 :]]), told)


def move(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """A line somewhere else."""
    places = _free_lines(scene, options)
    if len(places) < 2:
        return None
    at = chance.pick(places)
    lines = scene.lines
    line = lines.pop(at)
    held = frozen("\n".join(lines), scene.anchors)
    gaps = [g for g in range(len(lines) + 1) if g != at and not (g in held and g - 1 in held)]
    if not gaps:
        return None
    to = chance.pick(gaps)
    return Proposal("\n".join([*lines[:to], line, *lines[to:]]), f"moved {short(line)}")


def _free_lines(scene: Scene, options: Noun) -> list[int]:
    """Lines that may be deleted, replaced or moved."""
    assert isinstance(options, LineOptions)
    wanted = re.compile(options.only)
    held = frozen(scene.parent.text, scene.anchors)
    return [i for i, x in enumerate(scene.lines) if x.strip() and i not in held and wanted.search(x)]
