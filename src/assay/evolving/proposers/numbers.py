"""The proposer that changes a number."""

from __future__ import annotations

import re

from assay.core.base import Noun
from assay.evolving.chance import Chance
from assay.evolving.proposers.scene import Proposal, Scene, short
from assay.evolving.proposers.spec import NumberOptions
from assay.evolving.sections import frozen

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


def change_number(scene: Scene, options: Noun, chance: Chance) -> Proposal | None:
    """A number times one of the factors."""
    assert isinstance(options, NumberOptions)
    lines, held = scene.lines, frozen(scene.parent.text, scene.anchors)
    wanted = re.compile(options.only)
    found = [
        (i, m)
        for i, line in enumerate(lines)
        if i not in held and wanted.search(line)
        for m in _NUMBER.finditer(line)
    ]
    if not found:
        return None
    at, match = chance.pick(found)
    new = _scaled(match[0], chance.pick(options.factors))
    line = lines[at]
    lines[at] = line[: match.start()] + new + line[match.end() :]
    return Proposal("\n".join(lines), f"{match[0]} became {new} in {short(line)}")


def _scaled(number: str, factor: float) -> str:
    if "." in number:
        return f"{float(number) * factor:.6g}"
    value, made = int(number), round(int(number) * factor)
    if made == value:
        made = value + (1 if factor > 1 else -1)
    return str(max(0, made))
