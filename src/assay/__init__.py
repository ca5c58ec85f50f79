"""Assay runs a change to a model for real, measures it against its baseline, and keeps it only when the evidence proves it good."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
