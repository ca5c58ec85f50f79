"""Folders of training experiments → evidence. Any bytes give an answer; what cannot be read is named with its line."""

from __future__ import annotations

from assay.readers.training.event_log import read_events
from assay.readers.training.folder import is_experiment, read_experiment, read_state
from assay.readers.training.markdown import parse_hypothesis, parse_next, parse_result
from assay.readers.training.outside import Machine
from assay.readers.training.registry import (
    active_of,
    folder_of,
    read_any,
    read_experiments,
    resolve_active,
)
from assay.readers.training.rows import Row, iter_rows
from assay.readers.training.zo import is_zo, read_registry, read_zo

__all__ = [
    "Machine",
    "Row",
    "active_of",
    "folder_of",
    "is_experiment",
    "is_zo",
    "iter_rows",
    "parse_hypothesis",
    "parse_next",
    "parse_result",
    "read_any",
    "read_events",
    "read_experiment",
    "read_experiments",
    "read_registry",
    "read_state",
    "read_zo",
    "resolve_active",
]
