"""Recorded runs of an agent, of our own journal or of any other harness, as evidence.

JSON lines or CSV, a row for each run: `task`, `arm` (baseline, candidate, ...), `rep` (counted where it is not given) and
`outcome` (pass, task_fail, agent_error, agent_timeout, infra_error) or `passed` (true, false) or `score` (0 to 1).
Further fields of `core.agent.AgentRun` are taken, others are left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.agent import AgentOutcome, AgentRun, AgentRuns
from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.suite import Suite
from assay.core.vocabulary import Provenance

LIMIT_BYTES = 256 << 20
_TRUE = {"true", "1", "1.0", "yes", "pass", "passed", "success"}
_FALSE = {"false", "0", "0.0", "no", "fail", "failed", "failure"}
_FIELDS = frozenset(AgentRun.model_fields)
_NUMBERS = {"rep", "block", "place", "attempts", "score", "cost", "input_tokens", "output_tokens", "wall_s"}


def read_agent_runs(path: Path, suite: Suite | None = None) -> AgentRuns:
    """Runs that somebody recorded.

    Args:
        path: `.csv`, else JSON lines; a first line without a task (the header of our journal) is passed over.
        suite: the tasks that there should be; None = those that occur.

    Raises:
        UnreadableInput: naming the line that is no run.
    """
    data = _bytes(path)
    rows = _csv(data, path) if path.suffix.lower() == ".csv" else _json_lines(data, path)
    counted: dict[tuple[str, str], int] = {}
    runs = []
    known = {t.task_id for t in suite.tasks} if suite else None
    for line, row in rows:
        run = _run(row, counted, f"{path}:{line}")
        if known is not None and run.task not in known:
            raise UnreadableInput(
                f"the suite has no task {run.task!r}", where=f"{path}:{line}", allowed=_some(known)
            )
        runs.append(run)
    if not runs:
        raise UnreadableInput("holds no run", where=str(path))
    canaries = tuple(t.task_id for t in suite.canaries) if suite else ()
    arms = dict.fromkeys(_repeats(runs), 0) | _repeats(r for r in runs if r.task not in canaries)
    tasks = tuple(t.task_id for t in suite.tasks) if suite else tuple(dict.fromkeys(r.task for r in runs))
    return AgentRuns(
        subject="candidate",
        provenance=Provenance.SELF_REPORTED,
        suite=suite.digest if suite else "",
        runner="",
        tasks=tasks,
        canaries=canaries,
        repeats=arms,
        # canaries are often run less often than the tasks; one that was never run is missed as a task would be
        canary_repeats={**arms, **_repeats(r for r in runs if r.task in canaries)} if canaries else None,
        runs=tuple(runs),
        artifacts=(Artifact(path=str(path), digest=digest_bytes(data), size_bytes=len(data)),),
    )


def _repeats(runs: Iterable[AgentRun]) -> dict[str, int]:
    """Arm → the highest number of a run."""
    found: dict[str, int] = {}
    for run in runs:
        found[run.arm] = max(run.rep, found.get(run.arm, 0))
    return found


def _some(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror}", where=str(path)) from error
    if len(data) > LIMIT_BYTES:
        raise UnreadableInput(f"larger than {LIMIT_BYTES >> 20} MiB", where=str(path))
    return data


def _json_lines(data: bytes, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UnreadableInput("no JSON line", where=f"{path}:{number}") from error
        if not isinstance(row, dict):
            raise UnreadableInput("a line is an object", where=f"{path}:{number}")
        row = row.get("run", row) if isinstance(row.get("run", row), dict) else row
        if number == 1 and "task" not in row and "task_id" not in row:
            continue
        yield number, row


def _csv(data: bytes, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = data.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for row in reader:
            known = {k: v for k, v in row.items() if k is not None and v not in (None, "")}
            yield reader.line_num, {k: _number(v) if k in _NUMBERS else v for k, v in known.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableInput(f"no CSV: {error}", where=str(path)) from error


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def _run(row: Mapping[str, Any], counted: dict[tuple[str, str], int], where: str) -> AgentRun:
    values = {k: v for k, v in row.items() if k in _FIELDS}
    values.setdefault("task", row.get("task_id"))
    values["task"] = values["task"] if not isinstance(values["task"], int) else str(values["task"])
    if "rep" not in values:
        key = (str(values.get("task")), str(values.get("arm")))
        counted[key] = counted.get(key, 0) + 1
        values["rep"] = counted[key]
    values.update(_ending(row, values, where))
    try:
        return AgentRun.model_validate_json(json.dumps(values), strict=True)
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(map(str, first["loc"]))
        raise UnreadableInput(
            f"no run: {place}: {first['msg']}",
            where=where,
            allowed="task, arm, rep, outcome; see `assay gate deploy -h`",
        ) from error


def _ending(row: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Outcome and score, from whichever the row tells."""
    outcome, score = row.get("outcome"), values.get("score")
    if outcome is None:
        outcome = _told(row.get("passed"), score, where)
    if outcome == AgentOutcome.INFRA_ERROR:
        return {"outcome": outcome, "score": None}
    if score is None:
        score = 1.0 if outcome == AgentOutcome.PASS else 0.0
    return {"outcome": outcome, "score": score}


def _told(passed: Any, score: Any, where: str) -> str:
    if passed is not None:
        word = str(passed).strip().lower()
        if word in _TRUE | _FALSE:
            return (AgentOutcome.PASS if word in _TRUE else AgentOutcome.TASK_FAIL).value
        raise UnreadableInput(f"passed is {word[:40]!r}", where=where, allowed="true, false")
    if isinstance(score, int | float) and not isinstance(score, bool):
        return (AgentOutcome.PASS if score == 1 else AgentOutcome.TASK_FAIL).value
    allowed = ", ".join(o.value for o in AgentOutcome)
    raise UnreadableInput("neither outcome, passed nor score", where=where, allowed=allowed)
