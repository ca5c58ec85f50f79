"""Start-up of the command line, beside the import of lm-eval and mlflow."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _figures import Row, below, main

from assay.core.events import EventType
from assay.ledger.home import Home

REPEATS, QUICK_REPEATS = 11, 5
PEERS = {"lm_eval": "import lm_eval.evaluator", "mlflow": "import mlflow"}


def timed(command: list[str], repeats: int, cwd: str) -> float:
    """Median wall time of a whole process in ms; one run before them warms the byte code."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken[1:])


def measure(quick: bool) -> list[Row]:
    """Assay's two commands that must start at once, and what peers need for their import alone."""
    repeats = QUICK_REPEATS if quick else REPEATS
    assay = [sys.executable, "-m", "assay"]
    with tempfile.TemporaryDirectory() as folder:
        ledger_of_a_study(Path(folder))
        rows = [
            below("assay --help", timed([*assay, "--help"], repeats, folder), "ms", 250),
            below("assay ls", timed([*assay, "ls"], repeats, folder), "ms", 250),
        ]
        for name, code in PEERS.items():
            if importlib.util.find_spec(name) is None:
                rows.append(Row(f"import {name}", None, "ms", peer=f"pip install {name} to measure it"))
                continue
            value = timed([sys.executable, "-c", code], 2 if quick else 5, folder)
            rows.append(Row(f"import {name}", value, "ms", peer=name))
    return rows


def ledger_of_a_study(folder: Path) -> None:
    """Make `assay ls` read something: a ledger with finished studies."""
    os.environ.pop("ASSAY_HOME", None)
    ledger = Home(folder / ".assay", create=True).ledger
    for number in range(20):
        name = f"s-{number}"
        study = {"id": name, "job": "release", "source": {"path": "/models/source"}}
        ledger.append(EventType.STUDY_OPENED, name, {"study": study})
        ledger.append(EventType.STUDY_CLOSED, name, {"outcome": "ACCEPT", "why": "a candidate was accepted"})


if __name__ == "__main__":
    main(__doc__ or "", measure)
