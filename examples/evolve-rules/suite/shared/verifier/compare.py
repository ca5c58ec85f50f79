"""Decides a training task: exit code 0 exactly if masked.txt is what is expected. It says what each wrong mask is about.

The other tasks have the same rule and say nothing: their file is compared without a process.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KIND = re.compile(r"<([A-Z][A-Z0-9_]*)>")
GROUPS = {"TIME": "(.+)"}
"""A day and a time of day are one; all else ends where it can."""
MOST = 24


def spans(log: str, masked: str) -> set[tuple[int, int, str]]:
    """(start, end, kind) of what was masked in a line; nothing where it is no masked form of the line."""
    pieces = KIND.split(masked)
    pattern = "".join(GROUPS.get(p, "(.+?)") if i % 2 else re.escape(p) for i, p in enumerate(pieces))
    found = re.fullmatch(pattern, log)
    if not found:
        return set()
    return {(*found.span(i), kind) for i, kind in enumerate(pieces[1::2], 1)}


def main() -> int:
    """Print a line for each thing that is masked wrongly."""
    log = (HERE / "log.txt").read_text(encoding="utf-8").rstrip().split("\n")
    expected = (HERE / "expected.txt").read_text(encoding="utf-8").rstrip().split("\n")
    try:
        got = (HERE / "masked.txt").read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        print(f"masked.txt cannot be read: {error}")
        return 1
    if len(got) != len(log):
        print(f"masked.txt has {len(got)} lines; the log has {len(log)}")
        return 1
    wrong = []
    for line, right, is_ in zip(log, expected, got, strict=True):
        due, done = spans(line, right), spans(line, is_)
        # a mask inside of what is due is told by what is due
        astray = [(a, b, k) for a, b, k in done - due if not any(a < d and c < b for c, d, _ in due)]
        wrong += [f"{k} should mask: {line[a:b]}" for a, b, k in sorted(due - done)]
        wrong += [f"{k} should not mask: {line[a:b]}" for a, b, k in sorted(astray)]
        if right.rstrip() != is_.rstrip() and due == done:
            wrong.append(f"other than expected: {line}")
    print(*list(dict.fromkeys(wrong))[:MOST], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
