"""Stored documents, read tolerantly: what is gone or damaged is named in the page and never ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.errors import AssayError
from assay.core.evidence import Evidence
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.verdict import Verdict
from assay.report._view.text import one_line


class Documents:
    """Reads each document once.

    Args:
        store: evidence and verdicts by digest.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._evidence: dict[str, Evidence | None] = {}
        self._verdicts: dict[str, Verdict | None] = {}
        self.problems: dict[str, str] = {}
        """Digest → why that document cannot be shown."""

    def evidence(self, digest: str | None) -> Evidence | None:
        """The evidence of that digest as its own class, or None."""
        if not digest:
            return None
        if digest not in self._evidence:
            document = self._get(digest)
            try:
                self._evidence[digest] = None if document is None else evidence_from_json(document)
            except ValueError as error:
                self._evidence[digest] = None
                self.problems[digest] = one_line(error)
        return self._evidence[digest]

    def verdict(self, digest: str | None) -> Verdict | None:
        """The verdict of that digest, or None."""
        if not digest:
            return None
        if digest not in self._verdicts:
            document = self._get(digest)
            try:
                self._verdicts[digest] = None if document is None else Verdict.from_json(document)
            except ValueError as error:
                self._verdicts[digest] = None
                self.problems[digest] = one_line(error)
        return self._verdicts[digest]

    def _get(self, digest: str) -> Mapping[str, Any] | None:
        try:
            document: object = self._store.get(digest)
        except (AssayError, OSError, ValueError, LookupError) as error:
            self.problems[digest] = one_line(error)
            return None
        if not isinstance(document, Mapping):
            self.problems[digest] = "no JSON object"
            return None
        return document
