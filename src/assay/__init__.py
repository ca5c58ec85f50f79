"""Assay runs a change to a model for real, measures it against its baseline, and keeps it only when the evidence
proves it good. Anyone can derive the verdict again.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_HOME = {
    "AssayError": "assay.core.errors",
    "Candidate": "assay.core.candidate",
    "Checkpoint": "assay.core.checkpoint",
    "Decision": "assay.core.decision",
    "Evidence": "assay.core.evidence",
    "FailureClass": "assay.core.vocabulary",
    "Gate": "assay.core.gate",
    "Measurement": "assay.core.evidence",
    "Outcome": "assay.core.vocabulary",
    "Results": "assay.core.results",
    "Run": "assay.core.run",
    "State": "assay.core.vocabulary",
    "Status": "assay.core.vocabulary",
    "Study": "assay.core.study",
    "Trial": "assay.core.trial",
    "Verdict": "assay.core.verdict",
    "experiment": "assay.track",
    "fold": "assay.core.decision",
}

__all__ = [
    "AssayError",
    "Candidate",
    "Checkpoint",
    "Decision",
    "Evidence",
    "FailureClass",
    "Gate",
    "Measurement",
    "Outcome",
    "Results",
    "Run",
    "State",
    "Status",
    "Study",
    "Trial",
    "Verdict",
    "experiment",
    "fold",
]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first used, so that the command line starts at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
