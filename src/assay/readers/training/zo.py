"""The older layout `.zo/experiments`, read as it is: registry.json v1, metrics.jsonl, training_status.json and the texts.

It has no events, so nothing in it is proven: all of it is self-reported.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.experiment import (
    Attempt,
    CheckpointRecord,
    Experiment,
    ExperimentState,
    Hypothesis,
    PlanOfExperiment,
    Problem,
)
from assay.core.experiment_state import count_of, measurements, text_of
from assay.core.vocabulary import Provenance
from assay.readers.training.folder import (
    CONFIG_FILE,
    DIAGNOSIS_FILE,
    HYPOTHESIS_FILE,
    NEXT_FILE,
    RESULT_FILE,
)
from assay.readers.training.lines import clean, plain_object, read_bytes, refused, regular, require_folder
from assay.readers.training.markdown import parse_config, parse_hypothesis, parse_next, parse_result
from assay.readers.training.markdown import text as read_text
from assay.readers.training.rows import METRICS_FILE, iter_rows, summarize
from assay.readers.training.status import STATUS_FILE, parse_status

REGISTRY_FILE = "registry.json"
STALE_S = 3600.0
"""Silence of a training that says it runs, from which on it counts as lost; longer where its epochs take long."""
STALE_EPOCHS = 20.0
_NAME = re.compile(r"exp-\d+")
_STATES = {
    "complete": ExperimentState.COMPLETE,
    "failed": ExperimentState.FAILED,
    "aborted": ExperimentState.ABORTED,
}


def read_registry(root: Path) -> tuple[dict[str, Mapping[str, Any]], tuple[Problem, ...]]:
    """Entries of registry.json by id, in their order. Unknown keys, NaN and nulls are taken as they come.

    A missing file has no entries; one that cannot be understood has none and a problem.
    """
    try:
        data = read_bytes(root / REGISTRY_FILE)
    except UnreadableInput as error:
        return {}, (Problem(file=REGISTRY_FILE, text=error.what),)
    if data is None:
        return {}, ()
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return {}, (Problem(file=REGISTRY_FILE, text=f"not JSON: {clean(str(error))[:200]}"),)
    entries = document.get("experiments") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return {}, (Problem(file=REGISTRY_FILE, text="no list 'experiments'"),)
    found: dict[str, Mapping[str, Any]] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            problems.append(Problem(file=REGISTRY_FILE, text=f"experiments[{index}] has no id", grave=False))
        elif name in found:
            problems.append(
                Problem(file=REGISTRY_FILE, text=f"{clean(name)[:80]} stands there twice", grave=False)
            )
        else:
            found[name] = plain_object(entry)
    return found, tuple(problems)


def read_zo(
    folder: Path, entry: Mapping[str, Any] | None = None, *, rows: bool = True, now: float | None = None
) -> Experiment:
    """One experiment of the older layout.

    Args:
        folder: its own folder.
        entry: its entry in registry.json, if there is one.
        rows: read metrics.jsonl too.
        now: unix seconds, to tell a lost training from one that runs.

    Raises:
        UnreadableInput: if there is no such folder, or the operating system refuses.
    """
    require_folder(folder)
    return _Old(folder, entry or {}, time.time() if now is None else now).evidence(rows=rows)


def is_zo(folder: Path) -> bool:
    """Whether a folder looks like an experiment of the older layout.

    Raises:
        UnreadableInput: if the operating system refuses to tell.
    """
    return any(regular(folder / name) for name in (METRICS_FILE, STATUS_FILE, RESULT_FILE, HYPOTHESIS_FILE))


def numbered(root: Path) -> Iterator[Path]:
    """Folders `exp-NNN`, in the order of their numbers; a root that is not there has none.

    Raises:
        UnreadableInput: if the operating system refuses to list them.
    """
    try:
        folders = [p for p in root.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise refused(error, root) from error
    yield from sorted(folders, key=lambda p: (int(p.name[4:20]), p.name))


class _Old:
    def __init__(self, folder: Path, entry: Mapping[str, Any], now: float) -> None:
        self.folder = folder
        self.entry = entry
        self.now = now
        self.problems: list[Problem] = []
        # No other file tells whether it runs: without it there is no state to show.
        status = read_bytes(folder / STATUS_FILE)
        self.status = parse_status(status) if status is not None else None
        if status is not None and self.status is None:
            self._problem(STATUS_FILE, "no JSON object with is_training")
        result = self._bytes(RESULT_FILE)
        self.result = parse_result(result) if result is not None else None
        for text in self.result.problems if self.result is not None else ():
            self._problem(RESULT_FILE, text)

    def evidence(self, *, rows: bool) -> Experiment:
        hypothesis, config = self._bytes(HYPOTHESIS_FILE), self._bytes(CONFIG_FILE)
        ideas, diagnosis = self._bytes(NEXT_FILE), self._bytes(DIAGNOSIS_FILE)
        given = self.entry.get("next_ideas")
        listed = tuple(text_of(i) for i in given) if isinstance(given, list) else ()
        attempts, checkpoints, ended = self._history() if rows else ((), (), False)
        parsed = parse_config(config)[0] if config is not None else {}
        name = text_of(self.entry.get("id")) or self.folder.name
        known: dict[str, Any] = {
            "config": parsed,
            "rows": summarize(self.folder, PlanOfExperiment())[0]
            if rows
            else Experiment.model_fields["rows"].default,
        }
        if rows and not regular(self.folder / METRICS_FILE):
            self._problem(METRICS_FILE, "is missing")
        return Experiment(
            layout="zo",
            subject=text_of(name),
            provenance=Provenance.SELF_REPORTED,
            imported=True,
            id=text_of(name),
            name=text_of(self.entry.get("name")),
            parent=text_of(self.entry.get("parent_id")),
            phase=text_of(self.entry.get("phase")),
            created=text_of(self.entry.get("created")),
            state=self._state(ended=ended),
            attempts=attempts,
            checkpoints=checkpoints,
            status=self.status,
            hypothesis=self._hypothesis(hypothesis),
            result=self.result,
            recorded_result=self._recorded(),
            diagnosis=text_of(read_text(diagnosis)) if diagnosis is not None else "",
            next_ideas=(parse_next(ideas) if ideas is not None else ()) or listed,
            problems=tuple(self.problems),
            **known,
        )

    def _hypothesis(self, data: bytes | None) -> Hypothesis | None:
        if data is not None:
            return parse_hypothesis(data)
        claim = text_of(self.entry.get("hypothesis"))
        rationale = text_of(self.entry.get("rationale"))
        return Hypothesis(digest="", text=claim, rationale=rationale) if claim else None

    def _recorded(self) -> Mapping[str, Any]:
        """The registry's result in the words of a `result` event."""
        result = self.entry.get("result")
        if not isinstance(result, Mapping):
            return {}
        primary = result.get("primary_metric")
        return {
            "primary": primary if isinstance(primary, Mapping) else {},
            "claimed_tier": text_of(result.get("oracle_tier")),
            "metrics": result.get("secondary_metrics") or {},
            "shortfalls": result.get("shortfalls") or [],
        }

    def _state(self, *, ended: bool) -> ExperimentState:
        word = self.entry.get("status")
        if isinstance(word, str) and word in _STATES:
            return _STATES[word]
        if self.status is not None and self.status.is_training:
            return ExperimentState.LOST if self._stale() else ExperimentState.RUNNING
        if self.result is not None and not self.result.problems:
            return ExperimentState.EVALUATED
        if ended or self.status is not None:
            return ExperimentState.TRAINED
        return ExperimentState.PLANNED

    def _stale(self) -> bool:
        """Nothing was written for much longer than an epoch takes."""
        newest = 0.0
        for name in (STATUS_FILE, METRICS_FILE):
            try:
                newest = max(newest, (self.folder / name).stat().st_mtime)
            except OSError:
                continue
        epochs = (self.status.epoch or 0) + 1 if self.status is not None else 1
        wall = self.status.wall_time_s if self.status is not None else None
        return self.now - newest > max(STALE_S, STALE_EPOCHS * (wall or 0.0) / epochs)

    def _history(self) -> tuple[tuple[Attempt, ...], tuple[CheckpointRecord, ...], bool]:
        attempts: dict[int, Attempt] = {}
        checkpoints: dict[str, CheckpointRecord] = {}
        ended = False
        for row in iter_rows(self.folder, "all"):
            if row.kind == "training_start" and row.attempt not in attempts:
                attempts[row.attempt] = Attempt(number=row.attempt, started=row.timestamp)
                ended = False
            elif row.kind == "training_end" and row.attempt in attempts:
                finals = measurements(row.fields.get("metrics"))
                changed = {
                    "training_reason": "completed",
                    "training_ended": row.timestamp,
                    "final_metrics": finals,
                }
                attempts[row.attempt] = attempts[row.attempt].model_copy(update=changed)
                ended = True
            elif row.kind == "checkpoint_saved":
                path = text_of(row.fields.get("checkpoint_path"))
                name = f"{Path(path).name} (epoch {row.epoch})"
                checkpoints[name] = CheckpointRecord(
                    name=name,
                    path=path,
                    attempt=row.attempt,
                    epoch=count_of(row.epoch),
                    metrics=measurements(row.fields.get("metrics")),
                    on_disk=self._saved(path),
                )
        return tuple(attempts.values()), tuple(checkpoints.values()), ended

    def _saved(self, path: str) -> Any:
        try:
            return "unchecked" if path and (self.folder / path).exists() else "missing"
        except (OSError, ValueError):
            return "missing"

    def _bytes(self, name: str) -> bytes | None:
        try:
            return read_bytes(self.folder / name)
        except UnreadableInput as error:
            self._problem(name, error.what)
            return b""

    def _problem(self, file: str, text: str) -> None:
        self.problems.append(Problem(file=file, text=text))


__all__ = ["REGISTRY_FILE", "is_zo", "numbered", "read_registry", "read_zo"]
