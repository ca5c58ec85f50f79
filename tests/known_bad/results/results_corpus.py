"""The corpus of results: its cases, and the table of what is supported, made from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from assay.core.results import OPTIONAL_COLUMNS
from assay.readers.results import read_results

BAD = Path(__file__).resolve().parent
GOOD = BAD.parents[1] / "known_good" / "results"
FACTS = ("rows", "repeats", "prompt", "output", *OPTIONAL_COLUMNS)


def cases(folder: Path) -> list[dict[str, Any]]:
    """The table of a folder."""
    found: list[dict[str, Any]] = YAML(typ="safe", pure=True).load((folder / "cases.yaml").read_bytes())
    return found


def folders(place: Path) -> list[str]:
    """The names of all case folders in a place."""
    return sorted(p.name for p in place.iterdir() if p.is_dir() and p.name != "__pycache__")


def support() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Harness, case, and fact → `real` or `synthetic`, as read from the good cases now."""
    for case in cases(GOOD):
        results = read_results(GOOD / case["case"], subject="x", expected=case.get("expect"))
        held = [t.samples for t in results.tasks if len(t.samples)]
        seen = {
            "rows": bool(held),
            "repeats": any(any(s.repeat) for s in held),
            "prompt": any(len(set(s.prompt)) > 1 for s in held),
            "output": any(len(set(s.output)) > 1 for s in held),
            **{column: any(any(getattr(s, column)) for s in held) for column in OPTIONAL_COLUMNS},
        }
        yield results.harness, case["case"], {fact: case["made_by"] for fact, yes in seen.items() if yes}


def table() -> str:
    """Harness and fact: tested on a real file, on a synthetic one, or not there, as Markdown."""
    found: dict[str, dict[str, str]] = {}
    for harness, _, facts in support():
        known = found.setdefault(harness, {})
        for fact, made_by in facts.items():
            if known.get(fact) != "real":
                known[fact] = made_by
    lines = ["| harness | " + " | ".join(FACTS) + " |", "|---" * (len(FACTS) + 1) + "|"]
    for harness, facts in found.items():
        lines.append(f"| {harness} | " + " | ".join(facts.get(f, "-") for f in FACTS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
