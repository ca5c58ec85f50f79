"""What every benchmark prints: a table for people, and JSON rows `{name, value, unit, target, ok, peer}`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        value: None = could not be measured here; `peer` then says why.
        target: as text, such as `< 250`; empty where there is none.
        ok: None where there is no target.
        peer: whose figure it is, or what it is compared with.
    """

    name: str
    value: float | None
    unit: str
    target: str = ""
    ok: bool | None = None
    peer: str = ""


def below(name: str, value: float, unit: str, limit: float, peer: str = "") -> Row:
    """A figure that must stay under a limit."""
    return Row(name, value, unit, f"< {limit:g}", value < limit, peer)


def main(doc: str, measure: Callable[[bool], Sequence[Row]]) -> None:
    """Parse `--quick` and `--out`, measure, print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="answer within 45 s")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    width = max(len(r.name) for r in rows)
    for r in rows:
        value = "not measured" if r.value is None else f"{r.value:,.3f}".rstrip("0").rstrip(".")
        mark = {True: "ok", False: "MISSED", None: ""}[r.ok]
        print(f"{r.name:<{width}}  {value:>12} {r.unit:<6} {r.target:<10} {mark:<6} {r.peer}")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")
    sys.exit(1 if any(r.ok is False for r in rows) else 0)
