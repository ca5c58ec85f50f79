"""Overhead of the engine: wall time of the demo study minus the time inside adapters.

`--quick` runs the shortest rung of the ladder alone (GGUF on llama.cpp); otherwise the whole demo is run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from _figures import Row, below, main
from ruamel.yaml import YAML

from assay.cli.demo_train import assets
from assay.core.events import EventType
from assay.core.history import StudyHistory, replay
from assay.ledger.home import Home


def measure(quick: bool) -> list[Row]:
    """Run the study in a folder of its own and read the ledger."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "assay", "demo", "--dir", str(folder / "demo")]
        if quick:
            spec = quick_spec(folder)
            command = [sys.executable, "-m", "assay", "run", str(spec)]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        ledger = next(folder.rglob("ledger.db"), None)
        if ledger is None:
            sys.exit(f"the study did not start: {done.stderr[-500:]}")
        home = Home(ledger.parent)
        (history,) = replay(home.ledger.read()).values()
        return figures(history)


def quick_spec(folder: Path) -> Path:
    """The example with only its GGUF rung."""
    for part in ("model", "tasks"):
        shutil.copytree(assets() / part, folder / part)
    yaml = YAML()
    tree = yaml.load((assets() / "release.yaml").read_text())
    tree["recipes"] = [r for r in tree["recipes"] if r["build"]["kind"] == "gguf"]
    with (folder / "release.yaml").open("w") as file:
        yaml.dump(tree, file)
    return folder / "release.yaml"


def figures(history: StudyHistory) -> list[Row]:
    """Wall time from the first to the last event, time inside adapters, and what is left for the engine."""
    first, last = (datetime.fromisoformat(e.at) for e in (history.events[0], history.events[-1]))
    wall = (last - first).total_seconds()
    steps = [e.data["wall_s"] for e in history.events if e.type is EventType.STEP_FINISHED]
    inside = sum(steps)
    return [
        Row("study", wall, "s"),
        Row("inside adapters", inside, "s"),
        Row("events", len(history.events), ""),
        Row("engine per event", 1000 * (wall - inside) / len(history.events), "ms"),
        below("engine overhead", 100 * (wall - inside) / wall, "%", 2.0),
    ]


if __name__ == "__main__":
    main(__doc__ or "", measure)
