"""Restores a checkpoint in a process of its own and says whether it holds: `python -m assay.track._checkpoint.restored`.

Two questions. Is the state that comes out equal to the one that went in: read, encoded again, compared byte by byte
with what was written? And, where the script named a function for it: do the next steps give the losses that the live
run had? The first finds what storage lost; the second what was never saved.

The job is JSON on stdin; the answer is the last line of stdout that starts with `ANSWER`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.track._checkpoint.blobs import SUFFIX, write_blobs
from assay.track._checkpoint.errors import CheckpointDamaged, CheckpointError
from assay.track._checkpoint.finite import not_finite
from assay.track._checkpoint.manifest import STATE, Manifest
from assay.track._checkpoint.reading import read_checkpoint
from assay.track._checkpoint.tree import Encoded, encode

ANSWER = "assay-restore: "
REPLAY_NAME = "__assay_replay__"
"""`__name__` of a script that is imported for its replay function: `if __name__ == "__main__"` does not run."""


class _Hasher:
    """Stands for a file that only its digest is wanted of."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes


def differences(manifest: Manifest, encoded: Encoded) -> tuple[str, ...]:
    """Files that a state that was read would not be written as again; empty if it is equal to the last bit."""
    found = {STATE: hashlib.sha256(encoded.text()).hexdigest()}
    for part, blobs in encoded.blobs.items():
        hasher = _Hasher()
        write_blobs(hasher, blobs)  # type: ignore[arg-type]
        found[part + SUFFIX] = hasher.hash.hexdigest()
    written = {e.name: e.sha256 for e in manifest.files if e.name == STATE or e.name.endswith(SUFFIX)}
    written = {name: digest for name, digest in written.items() if not name.startswith("attached-")}
    return tuple(sorted(name for name in {*found, *written} if found.get(name) != written.get(name)))


def replay_of(function: Callable[..., Any]) -> dict[str, str]:
    """Where a function is, so that another process finds it.

    Raises:
        ValueError: for a function inside a function, or one typed into a console.
    """
    name, module = function.__qualname__, function.__module__
    if "<" in name:
        raise ValueError(f"{name} cannot be found from another process: define it at the top of a module")
    if module != "__main__":
        return {"module": module, "name": name}
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise ValueError(f"{name} was typed in: write it into a file")
    return {"file": str(Path(file).resolve()), "name": name}


def find_replay(place: Mapping[str, str]) -> Callable[..., Any]:
    """The function of `replay_of`.

    Raises:
        CheckpointError: if it is not there.
    """
    try:
        if "file" in place:
            sys.path.insert(0, str(Path(place["file"]).parent))
            found: Any = runpy.run_path(place["file"], run_name=REPLAY_NAME)[place["name"]]
        else:
            found = importlib.import_module(place["module"])
            for part in place["name"].split("."):
                found = getattr(found, part)
    except (ImportError, AttributeError, KeyError, OSError) as error:
        raise CheckpointError(f"the replay function {dict(place)} is not there: {error}") from error
    if not callable(found):
        raise CheckpointError(f"the replay function {dict(place)} cannot be called")
    function: Callable[..., Any] = found
    return function


def same(expected: Sequence[Sequence[float]], got: Sequence[Sequence[float]], tolerance: float) -> bool:
    """Whether the numbers of each step agree; the same NaN on both sides does."""
    if [len(row) for row in expected] != [len(row) for row in got]:
        return False
    pairs = [pair for rows in zip(expected, got, strict=True) for pair in zip(*rows, strict=True)]
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= tolerance * abs(a) for a, b in pairs
    )


def rows_of(values: Any) -> list[list[float]]:
    """What a replay returned, a row a step: numbers, or sequences of numbers."""
    return [[float(n) for n in row] if isinstance(row, list | tuple) else [float(row)] for row in values]


def restore(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job: `folder`; for a replay also `replay`, `expected` (hexadecimal floats, a row a step), `tolerance`.

    Raises:
        CheckpointError: if the replay cannot be run.
    """
    try:
        manifest, state = read_checkpoint(Path(job["folder"]))
    except CheckpointDamaged as error:
        return {"ok": False, "detail": error.what}
    encoded = encode(state, copy=False)
    odd = differences(manifest, encoded)
    if odd:
        return {"ok": False, "detail": f"the restored state differs in {', '.join(odd)}"}
    if wrong := not_finite(encoded):
        return {"ok": False, "detail": wrong}
    expected = [[float.fromhex(text) for text in row] for row in job.get("expected", [])]
    if not job.get("replay") or not expected:
        return {"ok": True, "detail": "state equal", "replayed": 0}
    if "torch" in sys.modules and job.get("threads"):
        sys.modules["torch"].set_num_threads(int(job["threads"]))
    function = find_replay(job["replay"])
    try:
        got = rows_of(function(state, len(expected)))
    except CheckpointError as error:
        return {"ok": False, "detail": f"the state cannot be restored: {error}"}
    shown = f"live {expected}; restored {got}"
    if not same(expected, got, float(job.get("tolerance", 0.0))):
        return {"ok": False, "detail": f"{len(expected)} steps replayed give other losses: {shown}"}
    return {
        "ok": True,
        "detail": f"state equal, {len(expected)} steps replayed: {shown}",
        "replayed": len(expected),
    }


def main() -> int:
    """Read the job, restore, answer; 0 it holds, 1 it does not, 2 it could not be asked."""
    job = json.load(sys.stdin)
    sys.path[:0] = job.get("sys_path", [])
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)
    if hasattr(signal, "alarm"):
        signal.alarm(max(1, int(job.get("timeout_s", 600))))
    try:
        answer = restore(job)
    except CheckpointError as error:
        answer = {"ok": None, "detail": str(error)}
    except Exception as error:  # noqa: BLE001 - the replay is the user's code: whatever it raises is the answer
        answer = {"ok": False, "detail": f"the replay failed: {type(error).__name__}: {error}"}
    print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)
    return {True: 0, False: 1, None: 2}[answer["ok"]]


if __name__ == "__main__":
    sys.exit(main())
