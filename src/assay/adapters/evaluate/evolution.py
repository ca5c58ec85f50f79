"""Evaluate kind `evolution`: how a candidate text was found, and the text itself as it lies there now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.artifact_text import growth
from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.evidence import Evidence
from assay.core.ports import Component, Session, Target
from assay.core.vocabulary import FailureClass
from assay.readers.evolved import RECORD, read_evolved
from assay.readers.suites import read_suite
from assay.readers.texts import read_text
from assay.runtime.files import artifact


class Options(Noun):
    """Options of `evaluate: {kind: evolution}`."""

    suite: SpecPath | None = None
    """The tasks: then the gate refuses a text that holds their expected values. null = that is not looked at."""


class Adapter:
    """Reads the built text back from its bytes."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="evaluate", kind="evolution", state="ready")

    def protocol(self) -> Mapping[str, Any]:
        """The format that it reads."""
        return {"harness": "evolution", "schema": "evolved/1"}

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """The record of the search; `facts` hold `baseline` and `candidate` as text artifacts, for the gate `text`.

        Raises:
            UnreadableInput: if what was built cannot be read, or the suite.
            ComponentFailed: if the text that lies there is not the one that was picked.
        """
        found = read_evolved(Path(target.path))
        if not found.matches:
            raise ComponentFailed(
                f"the text in {found.artifact.path} is not the one that the record says was picked",
                failure_class=FailureClass.UNKNOWN,
                where=target.name,
                next="somebody changed it after it was built: `assay resume` builds it again",
            )
        kind, name = found.artifact.kind, found.artifact.name
        try:
            baseline = read_text(Path(target.source), kind, name)
        except UnreadableInput as error:
            raise UnreadableInput(
                f"the baseline: {error.what}", where=error.where, next=error.next
            ) from error
        facts = {
            **found.evolution.facts,
            "baseline": baseline.to_json(),
            "candidate": found.artifact.to_json(),
            "growth_frac": growth(baseline.text, found.artifact.text),
        }
        if self.options.suite is not None:
            facts["suite"] = read_suite(Path(self.options.suite)).to_json()
        folder = Path(target.path)
        return found.evolution.model_copy(
            update={
                "subject": target.name,
                "facts": facts,
                "artifacts": (artifact(folder / RECORD), artifact(Path(found.artifact.path))),
            }
        )
