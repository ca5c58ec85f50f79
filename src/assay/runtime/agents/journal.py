"""The journal of runs: a line for each finished run, on disk before the next one begins."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from assay.core.agent import AgentRun
from assay.core.canon import canonical
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.vocabulary import FailureClass
from assay.runtime.files import explaining, sync_dir

SCHEMA = "assay.agent-runs/1"


class RunJournal:
    """Finished runs in a file of JSON lines. A torn last line, as a crash leaves it, is dropped.

    Args:
        path: the file; made if it is not there.
        header: what the runs belong to, plain JSON: digests of suite, runner and texts.

    Raises:
        ComponentFailed: NOT_COMPARABLE, if the file belongs to another plan; or if it cannot be written.
        UnreadableInput: if a line in its middle cannot be read, or a run is there twice.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[tuple[str, str, int], AgentRun] = {}
        """Key → run, in the order in which they ended."""
        self._lock = threading.Lock()
        first = {"schema": SCHEMA, **json.loads(canonical(dict(header)))}
        with explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            self._read(whole, first)
        with explaining(path):
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
            if not whole:
                self._write(first)
                sync_dir(path.parent)

    def add(self, run: AgentRun) -> None:
        """Keep a run; it is on disk when this returns.

        Raises:
            ValueError: if a run of that task, arm and repeat is there already.
            ComponentFailed: if the disk is full.
        """
        with self._lock:
            if run.key in self.done:
                raise ValueError(f"the run {run.key} is there already")
            with explaining(self.path):
                self._write(run.to_json())
            self.done[run.key] = run

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        start = self._file.tell()
        try:
            self._file.write(json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n")
            os.fsync(self._file.fileno())
        except OSError:
            # half a line would join the next one
            with contextlib.suppress(OSError):
                self._file.seek(start)
                self._file.truncate()
            raise

    def _read(self, whole: bytes, header: Mapping[str, Any]) -> None:
        lines = whole.splitlines()
        found = _object(lines[0], f"{self.path}:1")
        if found != header:
            differs = sorted(k for k in {*found, *header} if found.get(k) != header.get(k))
            raise ComponentFailed(
                f"the runs there belong to another plan: {', '.join(differs)} differ",
                failure_class=FailureClass.NOT_COMPARABLE,
                where=str(self.path),
                next="start a new study; runs with other inputs do not count for this one",
            )
        for number, line in enumerate(lines[1:], 2):
            where = f"{self.path}:{number}"
            run = _run(_object(line, where), where)
            if run.key in self.done:
                raise UnreadableInput(f"the run {run.key} is there twice", where=where)
            self.done[run.key] = run


def recorded_runs(path: Path) -> list[AgentRun]:
    """The finished runs of a journal, whatever plan it belongs to; none where there is no file.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    return [_run(line, str(path)) for line in recorded_lines(path)[1:]]


def recorded_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a journal, a torn last one left out; none where there is no file.

    Raises:
        UnreadableInput: if it cannot be read.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path)) from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return [_object(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _run(value: Mapping[str, Any], where: str) -> AgentRun:
    try:
        return AgentRun.from_json(value)
    except ValidationError as error:
        raise UnreadableInput("not a run", where=where) from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"not JSON: {error}", where=where) from error
    if not isinstance(value, dict):
        raise UnreadableInput("not a JSON object", where=where)
    return value
