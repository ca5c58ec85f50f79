"""Rows of lm-eval to paired evidence: time, memory and growth, beside json, pandas and datasets on the same files.

Both sides together hold the rows that are named: 500,000 a side are the 1,000,000 of the target.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from _figures import Row, below, main

from assay.gates._compare.pairs import pair_results
from assay.gates.compare import ComparePolicy
from assay.readers.results import read_results

STAMP = "2026-11-20T10-00-00.000000"
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)
LIMIT_S, LIMIT_MIB = 20.0, 1000.0
QUESTION = (
    "A train leaves the station at noon and travels at a steady speed of 84 km/h towards the coast; it stops twice "
    "on the way, for six minutes each, to let others pass. "
)


def measure(quick: bool) -> list[Row]:
    """All sizes through Assay, the middle one through the peers."""
    rows: list[Row] = []
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in QUICK_SIZES if quick else SIZES:
            place = Path(folder) / str(size)
            bytes_ = write_pair(place, size // 2)
            took = child(place, "assay")
            seconds[size] = took["cpu_s"]
            name = f"{size:,} rows ({bytes_ / 2**20:,.0f} MiB)"
            peer = f"CPU {took['cpu_s']:.1f} s, pairs {took['pairs']:,}"
            if size == SIZES[-1]:
                rows += [
                    below(f"{name}: read and pair", took["wall_s"], "s", LIMIT_S, peer),
                    below(f"{name}: peak memory", took["rss_mib"], "MiB", LIMIT_MIB),
                ]
            else:
                rows.append(Row(f"{name}: read and pair", took["wall_s"], "s", peer=peer))
                rows.append(Row(f"{name}: peak memory", took["rss_mib"], "MiB"))
            rows.append(Row(f"{name}: digest of the evidence", took["digest_s"], "s", peer="core.canon"))
            if size == QUICK_SIZES[-1]:
                rows += peers(place)
        first, last = min(seconds), max(seconds)
        growth = (seconds[last] / last) / (seconds[first] / first)
        rows.append(below(f"CPU time a row at {last:,} against {first:,}", growth, "x", 1.5, "1 = linear"))
    return rows


def write_pair(place: Path, rows: int) -> int:
    """Two complete lm-eval folders of about 1 kB a row; returns their bytes."""
    total = 0
    for side in ("baseline", "candidate"):
        folder = place / side
        folder.mkdir(parents=True)
        good = 0
        with (folder / f"samples_arith_{STAMP}.jsonl").open("w") as file:
            for number in range(rows):
                right = (number * 2654435761 + (side == "candidate" and number % 97 == 0)) % 10 < 7
                good += right
                total += file.write(json.dumps(row(number, right)) + "\n")
        document = {
            "results": {"arith": {"alias": "arith", "exact_match,none": good / rows}},
            "configs": {"arith": {"metric_list": [{"metric": "exact_match"}]}},
            "n-samples": {"arith": {"original": rows, "effective": rows}},
            "higher_is_better": {"arith": {"exact_match": True}},
            "config": {"model": "local-chat-completions", "limit": None},
            "lm_eval_version": "0.4.13",
        }
        (folder / f"results_{STAMP}.json").write_text(json.dumps(document))
    return total


def row(number: int, right: bool) -> dict[str, object]:
    """One sample as lm-eval logs it."""
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    question = f"{QUESTION}How far has it come after {number} minutes?"
    message = json.dumps([{"role": "user", "content": question}])
    answer = str(number if right else number + 1)
    return {
        "doc_id": number,
        "doc": {"id": f"arith-{number}", "question": question, "answer": str(number)},
        "target": str(number),
        "arguments": {"gen_args_0": {"arg_0": [message], "arg_1": {"until": ["\n\n"], "max_gen_toks": 32}}},
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": digest,
        "prompt_hash": digest[::-1],
        "target_hash": digest[16:] + digest[:16],
        "exact_match": float(right),
    }


def child(place: Path, what: str) -> dict[str, float]:
    """Measure in a process of its own, whose peak memory is that of the work."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, str(place)], capture_output=True, check=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def peers(place: Path) -> list[Row]:
    """The same files in the hands of others; none of them checks, pins or pairs anything."""
    rows = []
    for name, package in (("json", "json"), ("pandas", "pandas"), ("datasets", "datasets")):
        if importlib.util.find_spec(package) is None:
            rows.append(
                Row(f"{name}: load both files", None, "s", peer=f"pip install {package} to measure it")
            )
            continue
        took = child(place, name)
        rows.append(Row(f"{name}: load both files", took["wall_s"], "s", peer=f"{took['rss_mib']:,.0f} MiB"))
    return rows


def through_assay(place: Path) -> dict[str, object]:
    """What `assay gate compare` does with two folders before it decides."""
    sides = [read_results(place / side, subject=side) for side in ("baseline", "candidate")]
    tasks, wrong = pair_results(sides[0], sides[1], ComparePolicy())
    if wrong or not tasks:
        raise SystemExit(f"nothing was paired: {wrong}")
    return {"pairs": len(tasks[0].pairs), "_sides": sides}


def through_json(place: Path) -> dict[str, object]:
    """The loop that everybody writes first."""
    return {"rows": sum(len([json.loads(x) for x in f.open()]) for f in sorted(place.rglob("*.jsonl")))}


def through_pandas(place: Path) -> dict[str, object]:
    """`pandas.read_json(lines=True)`."""
    pandas: Any = import_module("pandas")

    return {"rows": sum(len(pandas.read_json(f, lines=True)) for f in sorted(place.rglob("*.jsonl")))}


def through_datasets(place: Path) -> dict[str, object]:
    """`datasets.load_dataset("json")`, as lm-eval's own users load samples."""
    datasets: Any = import_module("datasets")

    cache = str(place / "cache")
    files = [str(f) for f in sorted(place.rglob("*.jsonl"))]
    return {"rows": datasets.load_dataset("json", data_files=files, cache_dir=cache)["train"].num_rows}


WAYS: dict[str, Callable[[Path], dict[str, object]]] = {
    "assay": through_assay,
    "json": through_json,
    "pandas": through_pandas,
    "datasets": through_datasets,
}


def as_child(what: str, place: Path) -> None:
    """Do it, and print what it took as JSON."""
    started, cpu = time.perf_counter(), time.process_time()
    found = WAYS[what](place)
    took: dict[str, object] = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sides = found.pop("_sides", None)
    if isinstance(sides, list):
        started = time.perf_counter()
        for side in sides:
            _ = side.content_digest
        took["digest_s"] = time.perf_counter() - started
    print(json.dumps({**took, **found}))


if __name__ == "__main__":
    if "--child" in sys.argv:
        as_child(sys.argv[2], Path(sys.argv[3]))
    else:
        main(__doc__ or "", measure)
