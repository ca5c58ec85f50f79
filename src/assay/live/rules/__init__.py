"""Rules: pure functions from a window (or recorded facts) and the thresholds to a finding. One family a file."""

from __future__ import annotations

from assay.live.rules.finding import CLEAR, Finding, Judged

__all__ = ["CLEAR", "Finding", "Judged"]
