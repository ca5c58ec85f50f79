"""Candidate: a content-addressed change to a baseline. It is known by its digest; the name is for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.canon import digest
from assay.core.study import AdapterRef


class Candidate(Noun):
    """A change: how to build it, and from which parent."""

    name: str
    parent: str
    """Digest of what it changes: the baseline's artifact or another candidate."""
    build: AdapterRef
    """The adapter and options that make the artifact. Part of the identity."""
    serve: AdapterRef | None = None
    """Serving of this candidate where it differs from the study's. Part of the identity."""
    intent: Mapping[str, Any] = Field(default_factory=dict)
    """What the change promises beyond what its build adapter derives from the options; wins over that."""

    @property
    def key(self) -> str:
        """The digest without the name: two names of one change are one candidate."""
        return digest({k: v for k, v in self.to_json().items() if k != "name"})
