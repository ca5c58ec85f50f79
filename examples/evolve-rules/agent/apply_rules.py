"""Masks log lines by a file of rules: what varies is replaced by what it is, so that lines of one event become equal.

    python -I -S apply_rules.py --rules rules.txt --log log.txt --out masked.txt --result result.json

A rule is a line `NAME = regular expression`; what it matches becomes `<NAME>`, or only its first group where it has one.
The last rule works first, and none sees what one behind it has masked: put what is general above what is special. Lines
that are empty or begin with `#` are comments; a line that is no rule is told and left out. Each rule has a time limit.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

RULE = re.compile(r"(?P<name>[A-Z][A-Z0-9_]{0,30})\s*=\s*(?P<pattern>\S.*)")
FIRST_MARK = 0xF0000
"""Masks are single characters of a private plane while rules work, so that no pattern takes one for text."""
RULE_LIMIT_S = 0.25
"""CPU time of one rule for the whole log."""
MOST_RULES = 200


class TooSlow(Exception):
    """A rule ran into its time limit."""


def too_slow(*_: object) -> None:
    """Handler of the timer's signal."""
    raise TooSlow


def read_rules(text: str) -> tuple[list[tuple[str, re.Pattern[str]]], list[str]]:
    """(name, pattern) of each rule, and what was wrong with the lines that are none."""
    rules, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = RULE.fullmatch(line.strip())
        try:
            if not found:
                problems.append(f"line {number} is no rule")
            elif len(rules) == MOST_RULES:
                problems.append(f"line {number}: more than {MOST_RULES} rules")
            else:
                rules.append((found["name"], re.compile(found["pattern"])))
        except (re.error, OverflowError, RecursionError) as error:
            problems.append(f"line {number}: {error}")
    return rules, problems


def apply(pattern: re.Pattern[str], mark: str, lines: Sequence[str]) -> list[str]:
    """The lines with the mark in place of each match, or of its first group."""
    group = 1 if pattern.groups else 0

    def masked(found: re.Match[str]) -> str:
        start, end = found.span(group)
        if start == end:
            return found[0]  # nothing, or a group that took no part
        return found.string[found.start() : start] + mark + found.string[end : found.end()]

    return [pattern.sub(masked, line) for line in lines]


def mask(text: str, rules: Sequence[tuple[str, re.Pattern[str]]]) -> tuple[str, list[str]]:
    """The masked log, and what was wrong with rules."""
    lines, problems = text.split("\n"), []
    names = list(dict.fromkeys(name for name, _ in rules))
    marks = {name: chr(FIRST_MARK + i) for i, name in enumerate(names)}
    for name, pattern in reversed(rules):
        signal.setitimer(signal.ITIMER_PROF, RULE_LIMIT_S)
        try:
            lines = apply(pattern, marks[name], lines)
        except TooSlow:
            problems.append(f"{name} = {pattern.pattern[:60]} ran into {RULE_LIMIT_S} s and was left out")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return "\n".join(lines).translate({ord(m): f"<{n}>" for n, m in marks.items()}), problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the log was written; 2 for files that cannot be read or written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", type=Path)
    parser.add_argument("--log", type=Path, default=Path("log.txt"))
    parser.add_argument("--out", type=Path, default=Path("masked.txt"))
    parser.add_argument("--result", type=Path)
    parser.add_argument("--version", action="store_true", help="print what tells this program from another")
    chosen = parser.parse_args(arguments)
    if chosen.version:
        print(f"apply_rules {zlib.crc32(Path(__file__).read_bytes()):08x}, Python {sys.version.split()[0]}")
        return 0
    if not chosen.rules:
        parser.error("--rules is needed")
    signal.signal(signal.SIGPROF, too_slow)
    told = {"status": "ok", "cost_usd": None, "tokens": None, "tool_calls": [{"name": "mask"}]}
    try:
        rules, problems = read_rules(chosen.rules.read_text(encoding="utf-8"))
        text, slow = mask(chosen.log.read_text(encoding="utf-8"), rules)
        chosen.out.write_text(text, encoding="utf-8")
        told["final_text"] = "; ".join([f"{len(rules)} rules", *problems, *slow])
    except (OSError, UnicodeDecodeError) as error:
        told = {**told, "status": "agent_error", "final_text": f"{type(error).__name__}: {error}"}
    if chosen.result:
        chosen.result.write_text(json.dumps(told), encoding="utf-8")
    print(told["final_text"])
    return 0 if told["status"] == "ok" else 2


if __name__ == "__main__":
    sys.exit(main())
