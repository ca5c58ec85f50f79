"""Build kind `text`: a text that somebody wrote, laid out as a search lays out what it found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from assay.core.artifact_text import TextArtifact, TextKind, edits_between
from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.canon import digest_bytes
from assay.core.evolution import Evolution, TextNode
from assay.core.ports import Component, Session
from assay.readers.texts import read_candidate, read_text
from assay.runtime.evolved import write_evolved


class Options(Noun):
    """Options of `build: {kind: text}`."""

    path: SpecPath | None = None
    """The text in the baseline's form (a skill's folder, a manifest, a file with the region), or a file with the text
    alone."""
    text: str | None = None
    """The text itself, instead of a path."""
    text_kind: TextKind | None = None
    """What the baseline is; null = told by its path."""
    name: str = ""
    """Of the tool or region."""

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if (self.path is None) == (self.text is None):
            raise ValueError("name either `path` or `text`")
        return self


class Adapter:
    """Takes a text as it is."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """It needs nothing beside Assay."""
        return Component(verb="build", kind="text", state="ready")

    def intent(self) -> Mapping[str, Any]:
        """It promises nothing: the gates say what it is worth."""
        return {}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Put the text into a copy of the baseline.

        Raises:
            UnreadableInput: if either cannot be read.
            UsageError: if the text cannot be written.
            ComponentFailed: if the disk is full.
        """
        baseline = read_text(source, self.options.text_kind, self.options.name)
        text = self._text(baseline)
        old, new = (t.encode("utf-8", "surrogatepass") for t in (baseline.text, text))
        nodes = (
            TextNode(number=0, text=digest_bytes(old), chars=len(baseline.text), state="baseline"),
            TextNode(
                number=1,
                parents=(0,),
                text=digest_bytes(new),
                chars=len(text),
                proposer="given",
                edits=edits_between(baseline.text, text),
            ),
        )
        evolution = Evolution(
            subject="candidate",
            engine="given",
            nodes=nodes,
            picked=1,
            pick_rule="handed in",
            ended="nothing was searched for",
            facts={"from": self.options.path or "the spec"},
        )
        write_evolved(
            out, baseline, text, evolution, {digest_bytes(old): baseline.text, digest_bytes(new): text}
        )
        return {"engine": "given", "chars": len(text), "text": digest_bytes(new)}

    def _text(self, baseline: TextArtifact) -> str:
        if self.options.text is not None:
            return self.options.text
        return read_candidate(Path(str(self.options.path)), baseline)
