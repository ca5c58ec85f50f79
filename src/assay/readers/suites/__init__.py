"""Suites of tasks, in the JSONL format of other harnesses or in Assay's folder format."""

from __future__ import annotations

from pathlib import Path

from assay.core.suite import Suite
from assay.readers.suites.folder import read_folder
from assay.readers.suites.jsonl import read_jsonl

__all__ = ["read_folder", "read_jsonl", "read_suite"]


def read_suite(path: Path) -> Suite:
    """A suite: a folder with a suite.yaml, or a JSONL file.

    Raises:
        UnreadableInput: if it is neither, or anything in it is wrong; the message names file and line.
    """
    return read_folder(path) if path.is_dir() else read_jsonl(path)
