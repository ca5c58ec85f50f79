"""Build kind `identity`: the artifact is a copy of a checkpoint that exists already, or of the source itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.errors import UnreadableInput
from assay.core.ports import Component, Session
from assay.runtime.files import copy_tree


class Options(Noun):
    """Options of `build: {kind: identity}`."""

    path: SpecPath | None = None
    """Checkpoint folder or file to judge as it is; null = the source itself (an A/A study)."""
    recipe: str | None = None
    """What it claims to be, such as `W4A16` or `fp8`; null = judged against its own declaration."""


class Adapter:
    """Judges what somebody else has built."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="build", kind="identity", state="ready")

    def intent(self) -> Mapping[str, Any]:
        """The recipe it claims, or its own declaration; nothing for a copy of the source."""
        if self.options.recipe:
            return {"recipe": self.options.recipe}
        return {"recipe": "from-declaration"} if self.options.path else {"recipe": "none"}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Copy the checkpoint.

        Raises:
            UnreadableInput: if it is not there.
        """
        origin = Path(self.options.path) if self.options.path else source
        if not origin.exists():
            raise UnreadableInput(
                "no such checkpoint", where=str(origin), next=f"check recipe {candidate.name!r}"
            )
        session.note(f"copying {origin.name}")
        copy_tree(origin, out)
        return {"copied_from": str(origin)}
