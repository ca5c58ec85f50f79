"""Evolution: how a candidate text was found. It says where a text comes from, never that it is good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from assay.core.artifact_text import Edit
from assay.core.base import Noun
from assay.core.evidence import Evidence


class TextNode(Noun):
    """One text of a search."""

    number: int = Field(ge=0)
    """0 is the baseline."""
    parents: tuple[int, ...] = ()
    text: str
    """Digest of the text."""
    chars: int = Field(ge=0)
    proposer: str = ""
    """What made it, such as `delete-line`, `from-failure`, `merge`, `command`."""
    edits: tuple[Edit, ...] = ()
    """What differs from the first parent."""
    reason: str = ""
    state: Literal["baseline", "kept", "rejected", "refused", "repeated"] = "kept"
    """`rejected`: not better where it was tried; `refused`: a static check; `repeated`: known already."""
    why: str = ""
    """Of what was not kept."""
    train: Mapping[str, float] = Field(default_factory=dict)
    """Task → mean score where it was tried while searching."""
    select: Mapping[str, float] = Field(default_factory=dict)
    """Task → mean score on the tasks that choose among the kept ones."""


class Evolution(Evidence):
    """A search for a better text, as it went."""

    kind: Literal["evolution"] = "evolution"
    engine: str
    """`own`, `gepa`, `minimize`, or `given` where a text was handed in."""
    nodes: tuple[TextNode, ...] = ()
    picked: int = Field(default=0, ge=0)
    """The node that is the candidate; 0 = nothing was better than the baseline."""
    pick_rule: str = ""
    ended: str = ""
    """Why the search stopped, in words."""
    runs: int = Field(default=0, ge=0)
    """Agent runs that it took."""
    cost: float | None = None
    """Known cost of runs and proposals together; None = nothing told a cost."""
    cost_assumed: float = 0.0
    """Cost that was assumed for runs that told none."""
    wall_s: float | None = None
    seed: int = 0
