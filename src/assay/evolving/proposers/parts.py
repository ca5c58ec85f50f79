"""Proposers that work on whole sections: change their order, merge two texts, or leave something out."""

from __future__ import annotations

from assay.core.base import Noun
from assay.evolving.chance import Chance
from assay.evolving.proposers.scene import Proposal, Scene, short, touches
from assay.evolving.proposers.spec import MergeOptions, ReorderOptions
from assay.evolving.sections import frozen, in_code, joined, sections


def reorder(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """Two sections, paragraphs or lines that change places."""
    assert isinstance(options, ReorderOptions)
    parts = list(sections(scene.parent.text, options.by))
    held = frozen(scene.parent.text, scene.anchors)
    free = [i for i, p in enumerate(parts) if not p.blank and not touches(p, held)]
    if len(free) < 2:
        return None
    one, other = sorted(chance.shuffled(free)[:2])
    told = f"{short(parts[one].title)} and {short(parts[other].title)} changed places"
    parts[one], parts[other] = parts[other], parts[one]
    return Proposal(joined(parts), told)


def merge(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """Sections of two parents: by heading where both have it, and what only the other one has at the end."""
    assert isinstance(options, MergeOptions)
    mates = [m for m in scene.mates if m.number != scene.parent.number]
    if not mates:
        return None
    mate = chance.pick(mates)
    own, other = (list(sections(t, options.by)) for t in (scene.parent.text, mate.text))
    held = frozen(scene.parent.text, scene.anchors)
    theirs = {s.title: s for s in other}
    taken = {s.title for s in own}
    made = [
        theirs[s.title] if s.title in theirs and not touches(s, held) and chance.unit() < 0.5 else s
        for s in own
    ]
    mine = {s.text for s in made}
    made += [
        s
        for s in other
        if s.title not in taken and s.text not in mine and not s.blank and chance.unit() < 0.75
    ]
    text = joined(made)
    if text in {scene.parent.text, mate.text}:
        return None
    return Proposal(text, f"sections of {scene.parent.number} and {mate.number}", (mate.number,))


def compress(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """One section less, a line that stands there twice, or blank lines that say nothing."""
    assert isinstance(options, MergeOptions)
    text, held = scene.parent.text, frozen(scene.parent.text, scene.anchors)
    lines, code = scene.lines, in_code(scene.lines)
    ways: list[tuple[str, str]] = []
    again = [
        i
        for i, line in enumerate(lines)
        if line.strip() and line in lines[:i] and i not in held and not code[i]
    ]
    if again:
        at = chance.pick(again)
        ways.append(("\n".join([*lines[:at], *lines[at + 1 :]]), f"{short(lines[at])} stood there twice"))
    blank = [
        i for i in range(1, len(lines)) if not lines[i].strip() and not lines[i - 1].strip() and not code[i]
    ]
    if blank := [i for i in blank if i not in held]:
        ways.append(("\n".join(x for i, x in enumerate(lines) if i not in blank), "fewer blank lines"))
    parts = sections(text, options.by)
    free = [i for i, p in enumerate(parts) if not p.blank and not touches(p, held)]
    if len(free) > 1:
        at = chance.pick(free)
        ways.append((joined(p for i, p in enumerate(parts) if i != at), f"without {short(parts[at].title)}"))
    return Proposal(*chance.pick(ways)) if ways else None
