"""Propose kind `patches`: a fixed list of ideas, each a change of the best configuration so far."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.ports import Component
from assay.core.proposal import Idea, Template, baseline, candidate, pasts


class Options(Noun):
    """Options of `propose: {kind: patches}`."""

    patches: tuple[Idea, ...] = Field(default=())
    """In the order in which they are tried. Each changes what was best when its turn came."""
    template: Template | None = None
    """What all candidates share; the job fills it in."""


class Adapter:
    """Proposes the configuration as it stands, then each idea once."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="propose", kind="patches", state="ready")

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The first idea that no Decision stands for, applied to the best so far."""
        template = self.options.template
        if template is None:
            raise ValueError("a proposer of patches needs its template")
        known = pasts(history)
        first = baseline(template, known)
        if first is not None:
            return first
        tried = {p.candidate.intent.get("idea") for p in known if not p.void}
        left = (idea for idea in self.options.patches if idea.content_digest not in tried)
        idea = next(left, None)
        return None if idea is None else candidate(template, known, idea)
