"""Proposers: small changes of a text, made without a language model. Each one draws from the chance that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assay.core.base import Noun
from assay.evolving.chance import Chance
from assay.evolving.proposers.failures import from_failure
from assay.evolving.proposers.lines import add, delete, move, replace
from assay.evolving.proposers.numbers import change_number
from assay.evolving.proposers.parts import compress, merge, reorder
from assay.evolving.proposers.scene import Proposal, Scene
from assay.evolving.proposers.spec import ProposerSpec

_MADE: Mapping[str, Callable[[Scene, Noun, Chance], Proposal | None]] = {
    "add-line": add,
    "delete-line": delete,
    "replace-line": replace,
    "move-line": move,
    "reorder": reorder,
    "number": change_number,
    "merge": merge,
    "compress": compress,
    "from-failure": from_failure,
}


def propose(spec: ProposerSpec, scene: Scene, chance: Chance) -> Proposal | None:
    """One proposal; None where this kind has nothing for this text.

    Args:
        spec: any kind but `command`, which is asked outside.
        scene: what may be known.
        chance: what is drawn from.
    """
    return _MADE[spec.kind](scene, spec.typed, chance)
