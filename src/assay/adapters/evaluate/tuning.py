"""Evaluate kind `tuning`: the record of a tuning study, read back from what was written, as evidence for its gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.base import Noun
from assay.core.errors import UnreadableInput
from assay.core.evidence import Evidence
from assay.core.ports import Component, Session, Target
from assay.core.tuning_record import Tuning, TuningRecord
from assay.runtime.files import artifact, read_json

RECORD = "tuning.json"


class Options(Noun):
    """`evaluate: {kind: tuning}` has no options."""


class Adapter:
    """Reads the record of the candidate."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="evaluate", kind="tuning", state="ready")

    def protocol(self) -> Mapping[str, Any]:
        """The format that it reads."""
        return {"harness": "tuning", "schema": "tuning/1"}

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """The record.

        Raises:
            UnreadableInput: if it is not there, or no such record.
        """
        path = Path(target.path) / RECORD
        try:
            record = TuningRecord.from_json(read_json(path))
        except ValidationError as error:
            raise UnreadableInput(
                f"no tuning/1: {error.errors()[0]['msg']}", where=str(path), next="`assay resume`"
            ) from error
        return Tuning(subject=target.name, record=record, artifacts=(artifact(path),))
