"""Gate: a pure function from evidence to a verdict, with a typed policy and no I/O, clock or unseeded randomness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from assay.core.base import Noun
from assay.core.evidence import Evidence
from assay.core.verdict import Verdict


class Policy(Noun):
    """Root of the gates' policies. A policy is frozen and digested before the first sample."""


class Gate(Protocol):
    """A gate is made with its policy; `judge` may be called any number of times and always answers the same."""

    name: str
    reads: tuple[str, ...]
    """Roles of the evidence that it needs, such as `baseline.results`."""

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """Judge the evidence. Never raises for bad evidence: that is an ERROR verdict."""
        ...
