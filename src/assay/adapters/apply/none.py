"""Apply kind `none`: an accepted candidate stays where it was built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.base import Noun
from assay.core.decision import Decision


class Options(Noun):
    """`apply: {kind: none}` has no options."""


class Adapter:
    """Changes nothing."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """Nothing will be changed."""
        return {"changes": []}

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Change nothing."""

    def undo(self, token: Mapping[str, Any]) -> None:
        """Nothing to bring back."""
