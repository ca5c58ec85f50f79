"""A suite as JSONL: one task a line; blank lines and lines that begin with # are skipped.

Fields that other harnesses know: task_id, user_message, fixture_setup, test_command, expected_tools, forbidden_tools.
Assay's own beside them: verifier_files, expected_files, reference, collect, protected, timeout_s, canary, split, tags.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput
from assay.core.suite import VERIFY_TIMEOUT_S, Fixture, Suite, Task, Verifier
from assay.readers.checkpoint.files import parse_json
from assay.readers.texts.source import BOM, decoded, read_source
from assay.readers.training.lines import plain_object

FOREIGN = ("expected_save_content", "skills_src", "expected_action", "target_skill", "stale_token")
"""Fields of other harnesses that are kept and not acted upon."""
_OWN = frozenset(
    {
        "task_id",
        "user_message",
        "fixture_setup",
        "test_command",
        "expected_tools",
        "forbidden_tools",
        "verifier_files",
        "expected_files",
        "reference",
        "collect",
        "protected",
        "timeout_s",
        "canary",
        "split",
        "tags",
    }
)
_TEST_NAMES = ("test_*.py", "*_test.py", "tests.py", "conftest.py", "*.test.js", "*.spec.js", "*.test.ts")
_RUNNERS = frozenset({"pytest", "unittest", "tox", "nox", "jest", "vitest", "mocha", "make", "npm"})


def read_jsonl(path: Path) -> Suite:
    """The tasks of a JSONL file.

    A fixture that the test command names, or that a test runner would find, is put back before judging: in the
    format of the source harness the agent could have rewritten it.

    Raises:
        UnreadableInput: naming file and line, for bad JSON, a missing or unknown field, an unsafe path, or no task.
    """
    data = read_source(path)
    text = decoded(data.removeprefix(BOM), str(path))
    tasks: list[Task] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}:{number}"
        task = _task(line, where)
        if task.task_id in lines:
            raise UnreadableInput(
                f"task_id {task.task_id!r} stands in line {lines[task.task_id]} as well", where=where
            )
        lines[task.task_id] = number
        tasks.append(task)
    if not tasks:
        raise UnreadableInput("no task in the suite", where=str(path), allowed="one JSON object a line")
    return suite_of(path, "jsonl", digest_bytes(data), tasks)


def suite_of(path: Path, form: Literal["jsonl", "folder"], source_digest: str, tasks: list[Task]) -> Suite:
    """A suite, or the reason why its tasks make none.

    Raises:
        UnreadableInput: if two tasks have ids that some systems cannot tell apart.
    """
    try:
        return Suite(
            name=path.resolve().stem,
            path=str(path),
            format=form,
            source_digest=source_digest,
            tasks=tuple(tasks),
        )
    except ValidationError as error:
        raise UnreadableInput(said(error), where=str(path)) from error


def said(error: ValidationError) -> str:
    """What pydantic found, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(x) for x in first["loc"])
    told = first["msg"].removeprefix("Value error, ")
    return f"{place}: {told}" if place else told


def _task(line: str, where: str) -> Task:
    entry = parse_json(line.encode(), where)
    if not isinstance(entry, dict):
        raise UnreadableInput(f"a task is an object, this is {type(entry).__name__}", where=where)
    unknown = sorted(set(entry) - _OWN - set(FOREIGN))
    if unknown:
        raise UnreadableInput(
            f"unknown field {unknown[0]!r}", where=where, allowed=", ".join(sorted({*_OWN, *FOREIGN}))
        )
    for field in ("task_id", "user_message"):
        if not isinstance(entry.get(field), str) or not entry[field].strip():
            raise UnreadableInput(f"the field {field!r} is missing, empty or no text", where=where)
    try:
        return _built(entry, where)
    except ValidationError as error:
        raise UnreadableInput(said(error), where=where) from error


def _built(entry: Mapping[str, Any], where: str) -> Task:
    fixtures = _files(entry, "fixture_setup", where)
    command = _command(entry, where)
    files = _files(entry, "verifier_files", where)
    own = {f.path for f in files}
    verifier = Verifier(
        command=command,
        files=(*files, *(f for f in fixtures if f.path not in own and _decides(f.path, command))),
        timeout_s=entry.get("timeout_s", VERIFY_TIMEOUT_S),
        collect=entry.get("collect", ()),
        equals=_files(entry, "expected_files", where),
        expected_tools=entry.get("expected_tools", ()),
        forbidden_tools=entry.get("forbidden_tools", ()),
    )
    return Task(
        task_id=entry["task_id"],
        prompt=entry["user_message"],
        fixtures=fixtures,
        verifier=verifier,
        reference=_files(entry, "reference", where),
        protected=entry.get("protected", ()),
        canary=entry.get("canary", False),
        split=entry.get("split"),
        tags=entry.get("tags", ()),
        extra=plain_object({k: entry[k] for k in FOREIGN if k in entry}),
    )


def _files(entry: Mapping[str, Any], field: str, where: str) -> tuple[Fixture, ...]:
    value = entry.get(field, {})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UnreadableInput(f"{field} must map relative paths to texts", where=where)
    return tuple(Fixture(path=k, content=v) for k, v in value.items())


def _command(entry: Mapping[str, Any], where: str) -> tuple[str, ...]:
    value = entry.get("test_command")
    if value is None:
        return ()
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    if not isinstance(value, str):
        raise UnreadableInput("test_command must be a text or a list of texts", where=where)
    try:
        found = tuple(shlex.split(value))
    except ValueError as error:
        raise UnreadableInput(f"test_command cannot be split: {error}", where=where) from error
    if not found:
        raise UnreadableInput("test_command is empty", where=where)
    return found


def _decides(path: str, command: tuple[str, ...]) -> bool:
    if any(path == _plain(part) or path.startswith(_plain(part).rstrip("/") + "/") for part in command):
        return True
    runner = any(part.rpartition("/")[2] in _RUNNERS for part in command)
    name = path.rpartition("/")[2]
    return runner and (
        any(fnmatch.fnmatch(name, p) for p in _TEST_NAMES) or path.startswith(("tests/", "test/"))
    )


def _plain(part: str) -> str:
    return part.partition("::")[0].removeprefix("./")
