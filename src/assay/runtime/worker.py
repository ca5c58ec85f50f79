"""Runs a worker script in a vendor's own interpreter. See `workers/_job.py` for the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.errors import ComponentFailed, ComponentMissing, UnreadableInput
from assay.core.ports import Component, Session
from assay.core.run import Work
from assay.core.vocabulary import FailureClass
from assay.runtime.files import read_json, remove, write_json

WORKERS = Path(__file__).resolve().parent.parent / "workers"
POLL_S = 0.2
PROBE_TIMEOUT_S = 20.0


def interpreter(python: str | None) -> str:
    """The interpreter that runs a vendor: the named one, else the one that runs Assay."""
    return python or sys.executable


def run_worker(
    script: str,
    *,
    python: str | None,
    source: Path,
    out: Path,
    options: Mapping[str, Any],
    threads: int,
    session: Session,
) -> Mapping[str, Any]:
    """Run `workers/SCRIPT.py` to its end and return its result.

    Raises:
        ComponentMissing: if the interpreter or the vendor's package is not there.
        ComponentFailed: with the failure class that the worker gave, or UNKNOWN if it died without a word.
    """
    result_path = session.workdir / f"{script}.result.json"
    job = {
        "source": str(source),
        "out": str(out),
        "result": str(result_path),
        "options": dict(options),
        "seed": session.seed,
        "threads": threads,
    }
    job_path = session.workdir / f"{script}.job.json"
    # What an earlier attempt left there says nothing about this one.
    remove(result_path)
    write_json(job_path, job)
    left = session.remaining_s()
    work = Work(
        label=script,
        command=(interpreter(python), str(WORKERS / f"{script}.py"), str(job_path)),
        cwd=str(session.workdir),
        log=str(session.workdir / f"{script}.log"),
        timeout_s=None if left is None else max(1.0, left),
    )
    handle = session.execute.submit(work)
    try:
        while (run := session.execute.poll(handle, POLL_S)).wall_s is None:
            _show_progress(Path(work.log), session)
    except BaseException:
        session.execute.cancel(handle)
        raise
    if run.timed_out:
        raise ComponentFailed(
            "the wall-time budget ended while it ran",
            failure_class=FailureClass.BUDGET_EXHAUSTED,
            where=script,
            log_tail=run.log_tail,
        )
    try:
        result: Mapping[str, Any] = read_json(result_path)
    except UnreadableInput:
        raise ComponentFailed(
            f"ended with exit code {run.exit_code} and left no result",
            where=script,
            next=f"read {work.log}",
            log_tail=run.log_tail,
        ) from None
    if not result.get("ok"):
        raise _failure(script, result, run.log_tail)
    return result


def _failure(script: str, result: Mapping[str, Any], log_tail: str) -> ComponentFailed | ComponentMissing:
    error = str(result.get("error", "failed without a reason"))
    if "not installed" in error and "pip install" in error:
        what, _, command = error.partition(": ")
        return ComponentMissing(what, where=script, next=f"`{command}`")
    known = {c.value for c in FailureClass}
    word = str(result.get("failure_class"))
    failure_class = FailureClass(word) if word in known else FailureClass.UNKNOWN
    return ComponentFailed(error, failure_class=failure_class, where=script, log_tail=log_tail)


def _show_progress(log: Path, session: Session) -> None:
    """The last progress line of the log, if there is one; a half-written line is left for the next look."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in reversed(lines):
        if not line.startswith('{"progress"'):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        session.note(str(value.get("message", "")), value.get("progress"))
        return


def check_worker(script: str, kind: str, python: str | None) -> Component:
    """What `assay doctor` says about a worker: the vendor's versions, without importing it."""
    command = [interpreter(python), str(WORKERS / f"{script}.py"), "--probe"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        probe = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Component(verb="build", kind=kind, state="broken", detail=f"{command[0]}: {error}"[:300])
    vendor = {k: str(v) for k, v in probe.get("vendor", {}).items()}
    missing = probe.get("missing") or []
    if missing:
        detail = f"{', '.join(missing)} not installed: {command[0]} -m pip install {' '.join(missing)}"
        return Component(verb="build", kind=kind, state="missing", vendor=vendor, detail=detail)
    return Component(verb="build", kind=kind, state="ready", vendor=vendor)


class WorkerOptions(Noun):
    """Options that every worker-backed build kind has."""

    python: SpecPath | None = None
    """Interpreter that has the vendor installed; null = the one that runs Assay."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of the worker."""


class WorkerBuild:
    """The `build` port over a worker script; a kind adds its options and what they promise.

    Args:
        options: of the kind; all but `python` and `threads` go to the worker as they are.
    """

    kind: ClassVar[str]

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options

    def check(self) -> Component:
        """The vendor's version, by its metadata."""
        return check_worker(f"quantize_{self.kind}", self.kind, self._options.python)

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Quantize in a child process; see `core.ports.Build`."""
        session.note(f"building {candidate.name}")
        result = run_worker(
            f"quantize_{self.kind}",
            python=self._options.python,
            source=source,
            out=out,
            options=self._options.model_dump(exclude={"python", "threads"}, exclude_none=True, mode="json"),
            threads=self._options.threads,
            session=session,
        )
        return {key: result[key] for key in ("vendor", "python", "seconds", "notes") if key in result}
