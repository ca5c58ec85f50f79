"""A suite as a folder: what the agent gets and what decides lie apart, a folder each.

- `SUITE/suite.yaml`: `schema: assay.suite/1`, and defaults of the tasks
- `SUITE/shared/workspace/`, `SUITE/shared/verifier/`: files of every task
- `SUITE/tasks/TASK/task.yaml`: the prompt, and what differs from the defaults
- `SUITE/tasks/TASK/workspace/`: what the agent gets
- `SUITE/tasks/TASK/verifier/`: deciding tests, put in place when the agent has ended
- `SUITE/tasks/TASK/reference/`: a known solution; the agent never sees it
- `SUITE/tasks/TASK/expected/`: files that the agent must have made; compared without starting a process
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from assay.core.artifact_text import tree_digest
from assay.core.base import Noun
from assay.core.errors import UnreadableInput
from assay.core.suite import VERIFY_TIMEOUT_S, Fixture, Suite, Task, Verifier
from assay.readers.suites.jsonl import said, suite_of
from assay.readers.texts.source import decoded, files_below, mapping_of, read_source, record

SCHEMA = "assay.suite/1"
SUITE_FILE = "suite.yaml"
TASK_FILE = "task.yaml"
LIMIT_BYTES = 256 << 20
"""Largest suite; it is held in memory."""
_PARTS = ("workspace", "verifier", "reference", "expected")


class _Verify(Noun):
    """The part `verify` of a task or of the defaults."""

    command: tuple[str, ...] = ()
    timeout_s: float = VERIFY_TIMEOUT_S
    collect: tuple[str, ...] = ()
    expected_tools: tuple[str, ...] = ()
    forbidden_tools: tuple[str, ...] = ()


class _TaskFile(Noun):
    """task.yaml; what is not there comes from the defaults."""

    prompt: str = Field(min_length=1)
    verify: _Verify = _Verify()
    protected: tuple[str, ...] = ()
    canary: bool = False
    split: Literal["train", "select", "confirm"] | None = None
    tags: tuple[str, ...] = ()


def is_junk(name: str) -> bool:
    """What programs and systems leave in a folder: no part of a suite."""
    parts = name.split("/")
    return "__pycache__" in parts or parts[-1].endswith(".pyc") or parts[-1] in {".DS_Store", "Thumbs.db"}


def read_folder(path: Path) -> Suite:
    """The tasks of a folder, sorted by their names.

    Raises:
        UnreadableInput: naming the file, for bad YAML, an unknown key, a link, an unsafe path, a file that belongs to
            no part, or no task.
    """
    names = {n: p for n, p in files_below(path, links=False).items() if not is_junk(n)}
    data = _all_bytes(names, path)
    defaults = _defaults(data, path)
    by_task = _sorted_out(names, path)
    tasks = [
        _task(path, task_id, data, names, defaults)
        for task_id in sorted(t for t in by_task if f"tasks/{t}/{TASK_FILE}" in names)
    ]
    bare = sorted(t for t in by_task if f"tasks/{t}/{TASK_FILE}" not in names)
    if bare:
        raise UnreadableInput(f"no {TASK_FILE}", where=str(path / "tasks" / bare[0]))
    if not tasks:
        raise UnreadableInput("no task in the suite", where=str(path), allowed=f"tasks/NAME/{TASK_FILE}")
    return suite_of(path, "folder", tree_digest([record(n, b) for n, b in data.items()]), tasks)


def _all_bytes(names: Mapping[str, Path], path: Path) -> dict[str, bytes]:
    data: dict[str, bytes] = {}
    total = 0
    for name, file in names.items():
        data[name] = read_source(file)
        total += len(data[name])
        if total > LIMIT_BYTES:
            raise UnreadableInput(f"larger than {LIMIT_BYTES >> 20} MiB", where=str(path))
    return data


def _defaults(data: Mapping[str, bytes], path: Path) -> Mapping[str, Any]:
    if SUITE_FILE not in data:
        raise UnreadableInput(
            f"no {SUITE_FILE}", where=str(path), allowed="a suite's folder or a .jsonl file"
        )
    where = str(path / SUITE_FILE)
    value, problem = mapping_of(decoded(data[SUITE_FILE], where))
    if problem:
        raise UnreadableInput(problem, where=where)
    if value.get("schema") != SCHEMA:
        raise UnreadableInput(f"schema is {value.get('schema')!r}", where=where, allowed=SCHEMA)
    if unknown := sorted(set(value) - {"schema", "defaults", "about"}):
        raise UnreadableInput(f"unknown key {unknown[0]!r}", where=where, allowed="schema, about, defaults")
    defaults = value.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise UnreadableInput("defaults must be a mapping", where=where)
    return defaults


def _sorted_out(names: Mapping[str, Path], path: Path) -> set[str]:
    """Ids of the task folders. A file that belongs nowhere may be a test that somebody thinks is run."""
    tasks = set()
    for name in names:
        parts = name.split("/")
        if parts[0] == "tasks" and len(parts) > 2 and (parts[2] in {TASK_FILE, *_PARTS}):
            tasks.add(parts[1])
        elif not (
            name in {SUITE_FILE, "README.md"}
            or (parts[0] == "shared" and len(parts) > 2 and parts[1] in _PARTS[:2])
        ):
            raise UnreadableInput(
                "a file that belongs to no part of the suite",
                where=str(path / name),
                allowed=f"{SUITE_FILE}, README.md, shared/workspace|verifier/, tasks/NAME/{TASK_FILE}|"
                + "|".join(_PARTS),
            )
    return tasks


def _task(
    path: Path,
    task_id: str,
    data: Mapping[str, bytes],
    names: Mapping[str, Path],
    defaults: Mapping[str, Any],
) -> Task:
    where = str(path / "tasks" / task_id / TASK_FILE)
    own, problem = mapping_of(decoded(data[f"tasks/{task_id}/{TASK_FILE}"], where))
    if problem:
        raise UnreadableInput(problem, where=where)
    verify = {**_mapping(defaults, "verify", where), **_mapping(own, "verify", where)}
    try:
        said_ = _TaskFile.model_validate({**defaults, **own, "verify": verify})
        files = {part: _part(task_id, part, data, names) for part in _PARTS}
        return Task(
            task_id=task_id,
            prompt=said_.prompt,
            fixtures=files["workspace"],
            verifier=Verifier(files=files["verifier"], equals=files["expected"], **said_.verify.model_dump()),
            reference=files["reference"],
            protected=said_.protected,
            canary=said_.canary,
            split=said_.split,
            tags=said_.tags,
        )
    except ValidationError as error:
        raise UnreadableInput(said(error), where=where) from error


def _mapping(value: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise UnreadableInput(f"{key} must be a mapping", where=where)
    return found


def _part(
    task_id: str, part: str, data: Mapping[str, bytes], names: Mapping[str, Path]
) -> tuple[Fixture, ...]:
    """The shared files of a part, with the task's own over them."""
    found: dict[str, Fixture] = {}
    for start in (f"shared/{part}/", f"tasks/{task_id}/{part}/"):
        for name in names:
            if name.startswith(start):
                inner = name.removeprefix(start)
                runs = bool(names[name].stat().st_mode & 0o100)
                found[inner] = Fixture.of(inner, data[name], executable=runs)
    return tuple(found[k] for k in sorted(found))
