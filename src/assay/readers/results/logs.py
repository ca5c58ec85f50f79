"""Logs beside results: lines that tell of a real failure. "author" is no "auth", and a retry is no failure.

A line counts when it is an error by its level or shape *and* speaks of something that spoils scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.readers.results.harness import clip

MAX_LOGS = 200
TAIL_BYTES = 8 * 2**20
MAX_LINE = 2000
MAX_KINDS = 20
SUFFIXES = (".log", ".out", ".err", ".stderr", ".stdout")

_ERROR = re.compile(
    r"(?<![A-Za-z])(?:ERROR|CRITICAL|FATAL)(?![A-Za-z])|^\s*(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception)\b"
    r"|^Traceback |slurmstepd: error|CANCELLED AT|DUE TO (?:TIME LIMIT|PREEMPTION|NODE FAILURE)"
    r"|oom[-_ ]?kill|Out of memory: Killed|^Killed\s*$|Segmentation fault|CUDA error",
)
_MATTERS = re.compile(
    r"(?<![a-z])judg(?:e|es|ed|ing|e?ment)(?![a-z])|(?<![a-z])grad(?:er|ing) |unauthori[sz]ed|forbidden"
    r"|authenticat|api[ _-]?key|(?<![a-z])auth(?![a-z])|(?<![\d.])(?:401|403|404)(?![\d.])"
    r"|model .{0,80}(?:does not exist|not found)|no such model"
    r"|out of memory|(?<![a-z])oom(?![a-z])|oom[-_ ]?kill|killed|segmentation fault|cuda error|no kernel image"
    r"|server (?:died|crashed|is dead|exited)|EngineDeadError|health[ _-]?check (?:failed|timed out)|unhealthy"
    r"|sandbox .{0,60}(?:fail|unavailable|not)|maximum context length|context length exceeded|context_length"
    r"|preempt|time limit|node fail|no space left",
    re.IGNORECASE,
)
_PASSED = re.compile(r"retry(?:ing)?\b|will retry|attempt \d+ ?(?:/|of) ?\d+|WARNING|\bWARN\b", re.IGNORECASE)
_VARYING = re.compile(r"\d{2,4}[-/:T.]\d{2}[-/:T.\d]*|0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")


def scan(files: Iterable[Path]) -> tuple[list[dict[str, Any]], list[Path]]:
    """Kinds of failures that the logs tell of, `{text, file, count}` in the order in which they came up, and
    the files that tell of them.

    Args:
        files: any files; those that are no logs by their names are left out, of long ones the end is read.
    """
    found: dict[str, dict[str, Any]] = {}
    telling: list[Path] = []
    logs = [f for f in files if f.suffix in SUFFIXES]
    for file in logs[:MAX_LOGS]:
        for line in _tail(file):
            if not _ERROR.search(line) or not _MATTERS.search(line) or _PASSED.search(line):
                continue
            if file not in telling:
                telling.append(file)
            kind = _VARYING.sub("#", line)[:200]
            if kind in found:
                found[kind]["count"] += 1
            elif len(found) < MAX_KINDS:
                found[kind] = {"text": clip(line), "file": clip(file.name), "count": 1}
    return list(found.values()), telling


def _tail(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - TAIL_BYTES))
            data = opened.read(TAIL_BYTES)
    except OSError:
        return []
    return [line[:MAX_LINE].decode("utf-8", "replace") for line in data.splitlines()]
