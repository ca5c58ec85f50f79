"""Pairs that a release needs when it stops as soon as it knows, beside the fixed plan; real servers, real lm-eval.

The demo's model under six recipes is judged twice: all 2,100 items of the six skills at once, and in up to ten looks.
`--quick` takes one recipe on llama.cpp and 60 items a task.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _figures import Row, main
from ruamel.yaml import YAML

from assay.cli.demo_train import assets
from assay.core.history import StudyHistory, replay
from assay.core.verdict import Verdict
from assay.ledger.home import Home

LLAMA = {"kind": "llama_cpp", "context_tokens": 4096, "slots": 16, "threads": 1}
RECIPES: tuple[Mapping[str, Any], ...] = (
    {"name": "gguf-q4_0", "build": {"kind": "gguf", "type": "Q4_0"}, "serve": LLAMA},
    {"name": "gguf-q8_0", "build": {"kind": "gguf", "type": "Q8_0"}, "serve": LLAMA},
    {"name": "w2-g32", "build": {"kind": "compressed_tensors", "num_bits": 2, "group_size": 32}},
    {"name": "w3-g32", "build": {"kind": "compressed_tensors", "num_bits": 3, "group_size": 32}},
    {"name": "w3-g128", "build": {"kind": "compressed_tensors", "num_bits": 3, "group_size": 128}},
    {"name": "w4-g128", "build": {"kind": "compressed_tensors", "num_bits": 4, "group_size": 128}},
)
QUICK_ITEMS = 60


def measure(quick: bool) -> list[Row]:
    """Run both studies and hold their verdicts against each other."""
    with tempfile.TemporaryDirectory() as name:
        once, at_once_s = study(Path(name) / "once", quick, None)
        looks, looks_s = study(Path(name) / "looks", quick, {"rule": "group", "looks": 10, "first": 100})
    rows: list[Row] = []
    agree = used = planned = 0
    for recipe, (word, pairs) in once.items():
        other, fewer = looks[recipe]
        agree += word == other
        used, planned = used + fewer, planned + pairs
        told = f"{word} at once, {other} in looks"
        rows.append(Row(f"{recipe}: pairs at once", pairs, "pairs", peer="fixed plan"))
        rows.append(Row(f"{recipe}: pairs in looks", fewer, "pairs", peer=told))
    rows += [
        Row(
            "same verdict", 100 * agree / len(once), "%", ">= 80", 100 * agree / len(once) >= 80, "fixed plan"
        ),
        Row(
            "pairs used of the fixed plan",
            100 * used / planned,
            "%",
            "<= 80",
            used / planned <= 0.8,
            "fixed plan",
        ),
        Row("wall time at once", at_once_s, "s", peer="fixed plan"),
        Row("wall time in looks", looks_s, "s", peer="servers and lm-eval stay up"),
    ]
    return rows


def study(
    folder: Path, quick: bool, sequential: Mapping[str, Any] | None
) -> tuple[dict[str, tuple[str, int]], float]:
    """One study of all recipes; recipe → its word and the pairs that it took, and the wall time."""
    folder.mkdir()
    for part in ("model", "tasks"):
        shutil.copytree(assets() / part, folder / part)
    yaml = YAML()
    tree = yaml.load((assets() / "release.yaml").read_text())
    tree["recipes"] = [dict(r) for r in (RECIPES[:1] if quick else RECIPES)]
    tree["stop"], tree["apply"] = "never", {"kind": "none"}
    tree["budget"] = {"wall_time_s": 3600}
    if quick:
        reduce(folder, tree)
    if sequential is not None:
        tree["sequential"] = dict(sequential)
    with (folder / "release.yaml").open("w") as file:
        yaml.dump(tree, file)
    started = time.monotonic()
    command = [sys.executable, "-m", "assay", "run", "release.yaml", "--anyway", "--no-report"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if not (folder / ".assay" / "ledger.db").exists():
        sys.exit(f"the study did not start: {done.stderr[-500:]}")
    home = Home(folder / ".assay")
    (history,) = replay(home.ledger.read()).values()
    return dict(outcomes(home, history)), time.monotonic() - started


def reduce(folder: Path, tree: Any) -> None:
    """Fewer items of each task, so that an answer comes within 45 s."""
    for file in (folder / "tasks" / "data").glob("*.jsonl"):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:QUICK_ITEMS]))
    tree["expected_samples"] = dict.fromkeys(tree["expected_samples"], QUICK_ITEMS)
    tree["compare"] |= {"margin": 0.05, "guard": None}


def outcomes(home: Home, history: StudyHistory) -> list[tuple[str, tuple[str, int]]]:
    """Per recipe the word of its Decision and the pairs of its last look."""
    found = []
    for trial in history.trials.values():
        if trial.decision is None or "compare" not in trial.gates:
            sys.exit(f"{trial.candidate.name} was not compared: {trial.decision and trial.decision.sentence}")
        verdict = Verdict.from_json(home.store.get(trial.gates["compare"].verdict))
        found.append((trial.candidate.name, (trial.decision.outcome.value, verdict.estimates[0].n or 0)))
    return found


if __name__ == "__main__":
    main(__doc__ or "", measure)
