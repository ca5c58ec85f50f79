"""Evaluate kind `checkpoint`: what a checkpoint is, by its bytes. Needs no endpoint and no vendor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.base import Noun
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.evidence import Evidence
from assay.core.ports import Component, Session, Target
from assay.core.vocabulary import FailureClass
from assay.readers.checkpoint import read_checkpoint


class Options(Noun):
    """Options of `evaluate: {kind: checkpoint}`."""

    fidelity: bool = True
    """Compare a sample of a candidate's stored weights with its source."""


class Adapter:
    """Reads headers, declarations and metadata; samples quantized weights of a candidate."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always ready: it is Assay's own reader."""
        return Component(verb="evaluate", kind="checkpoint", state="ready")

    def protocol(self) -> Mapping[str, Any]:
        """Nothing of it depends on the machine."""
        return {"fidelity": self.options.fidelity}

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Read the target back from disk.

        Raises:
            ComponentFailed: if it cannot be read or is of a format that cannot be judged. A broken source is
                a USER_CONFIG_ERROR, a broken candidate UNKNOWN: neither is ever a pass.
        """
        is_source = not target.source
        session.note(f"reading the headers of {target.path}")
        source = target.source if self.options.fidelity and not is_source else None
        try:
            checkpoint = read_checkpoint(
                Path(target.path), "source" if is_source else "candidate", source=source or None
            )
        except UnreadableInput as error:
            failure = FailureClass.USER_CONFIG_ERROR if is_source else FailureClass.UNKNOWN
            raise ComponentFailed(
                error.what if not error.allowed else f"{error.what} (allowed: {error.allowed})",
                failure_class=failure,
                where=error.where,
                next=error.next,
            ) from error
        facts = {**checkpoint.facts, "name": target.name}
        if target.intent:
            promise = {k: v for k, v in target.intent.items() if v is not None}
            facts["intent"] = {**promise, "engine": target.engine} if target.engine else promise
        return checkpoint.model_copy(update={"facts": facts})
