"""The folder of one experiment → evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.canon import PREFIX
from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.experiment import LIVE, Experiment, Problem
from assay.core.experiment_state import EVENTS_FILE, Fold, count_of, fold, hex_of, text_of
from assay.core.vocabulary import Provenance
from assay.readers.training.alerts import ALERTS_FILE, read_alerts
from assay.readers.training.checkpoints import checked, pointers
from assay.readers.training.event_log import EventLog, read_events
from assay.readers.training.lines import parse_object, read_bytes, refused, regular, require_folder
from assay.readers.training.markdown import (
    parse_config,
    parse_hypothesis,
    parse_next,
    parse_result,
    split_front_matter,
)
from assay.readers.training.outside import Machine
from assay.readers.training.rows import METRICS_FILE, summarize
from assay.readers.training.status import STATUS_FILE, parse_status

HYPOTHESIS_FILE, RESULT_FILE = "hypothesis.md", "result.md"
DIAGNOSIS_FILE, NEXT_FILE, CONFIG_FILE = "diagnosis.md", "next.md", "config.yaml"
RECORD = (EVENTS_FILE, METRICS_FILE, ALERTS_FILE, STATUS_FILE, HYPOTHESIS_FILE, CONFIG_FILE, RESULT_FILE)
"""Files that a verdict rests on."""
_TELL_SIZES = {"training_ended": "training", "watched": "the watch"}


def read_state(folder: Path, machine: Machine | None = None, *, texts: bool = True) -> Experiment:
    """What the events and the short texts say, without rows, alerts or checkpoint files: quick, for lists.

    Args:
        folder: the experiment's own.
        machine: who asks whether processes live; this machine by default.
        texts: read the Markdown files too.

    Raises:
        UnreadableInput: if it is no folder of an experiment, or the operating system refuses.
    """
    return _Reading(folder, machine, texts=texts).evidence()


def read_experiment(folder: Path, *, digests: bool = False, machine: Machine | None = None) -> Experiment:
    """Everything that a folder of 0011 holds.

    Args:
        folder: the experiment's own.
        digests: hash the files that a verdict rests on and those of every checkpoint.
        machine: who asks whether processes live; this machine by default.

    Raises:
        UnreadableInput: if it is no folder of an experiment, or the operating system refuses.
    """
    reading = _Reading(folder, machine, whole=True)
    reading.read_rest(digests=digests)
    return reading.evidence()


def is_experiment(folder: Path) -> bool:
    """Whether a folder has the record of 0011.

    Raises:
        UnreadableInput: if the operating system refuses to tell.
    """
    return regular(folder / EVENTS_FILE)


class _Reading:
    def __init__(
        self, folder: Path, machine: Machine | None, *, texts: bool = True, whole: bool = False
    ) -> None:
        require_folder(folder)
        self.folder = folder
        self.problems: list[Problem] = []
        # Before the events: what a snapshot saw is then in them, also while somebody writes.
        self.snapshot = self._bytes(STATUS_FILE) if whole else None
        self.log: EventLog = read_events(folder / EVENTS_FILE)
        self.problems += self.log.problems
        state: Fold = fold(self.log.events)
        state.conclude_lost((machine or Machine.here()).gone(state.attempts.values()))
        self.state = state
        self.fields: dict[str, Any] = {}
        self._chain()
        if texts:
            self._texts()

    def _chain(self) -> None:
        self.problems += self.state.problems
        intact = self.log.intact and bool(self.log.events)
        if self.log.torn and self.state.state not in LIVE:
            intact = False
            self._problem(EVENTS_FILE, "half-written line, and nobody writes", line=self.log.torn)
        if not regular(self.folder / EVENTS_FILE):
            self._problem(EVENTS_FILE, "is missing")
        elif self.state.created is None:
            self._problem(EVENTS_FILE, "no 'created' event", line=1)
        self.fields |= {"chain_intact": intact, "head": self.log.head if self.log.events else ""}

    def _texts(self) -> None:
        hypothesis, result = self._bytes(HYPOTHESIS_FILE), self._bytes(RESULT_FILE)
        if hypothesis is not None:
            self.fields["hypothesis"] = parse_hypothesis(hypothesis)
        if result is not None:
            self.fields["result"] = parse_result(result)
            for text in self.fields["result"].problems:
                self._problem(RESULT_FILE, text)
        diagnosis, ideas = self._bytes(DIAGNOSIS_FILE), self._bytes(NEXT_FILE)
        body = split_front_matter(diagnosis)[1].strip() if diagnosis is not None else ""
        self.fields["diagnosis"] = text_of(body)
        self.fields["next_ideas"] = parse_next(ideas) if ideas is not None else ()

    def read_rest(self, *, digests: bool) -> None:
        """Rows, alerts, snapshot, configuration and checkpoint files."""
        self._config()
        self._status()
        rows, count, problems = summarize(self.folder, self.state.plan)
        self.problems += problems
        if count.torn and self.state.state not in LIVE:
            self._problem(METRICS_FILE, "half-written line", line=count.torn, grave=False)
        if not regular(self.folder / METRICS_FILE):
            self._problem(METRICS_FILE, "is missing")
        alerts, wrong = read_alerts(self.folder / ALERTS_FILE)
        self.problems += wrong
        self._require_grown()
        self.fields |= {
            "rows": rows,
            "alerts": alerts,
            "checkpoints": checked(
                self.folder, list(self.state.checkpoints.values()), self._rotated(), digests=digests
            ),
            "facts": self._facts(),
        }
        if digests:
            self.fields["artifacts"] = tuple(
                _artifact(self.folder / name) for name in RECORD if regular(self.folder / name)
            )

    def _rotated(self) -> frozenset[str]:
        """Checkpoints that the tracker said it takes away, after they were committed."""
        commits = {r.name: r.committed_seq for r in self.state.checkpoints.values()}
        said = (e for e in self.log.events if e.event == "checkpoint_rotated")
        named = ((text_of(e.fields.get("name")), e.seq) for e in said)
        return frozenset(name for name, seq in named if seq > commits.get(name, seq))

    def _facts(self) -> Mapping[str, Any]:
        return {"pointers": pointers(self.folder), "watched": self._watched()}

    def _watched(self) -> str:
        """How far a checker looked at the newest attempt: `to the end`, `began`, or not at all."""
        newest = max(self.state.attempts, default=None)
        said = [
            e.fields.get("state") for e in self.log.events if e.event == "watched" and e.attempt == newest
        ]
        return "" if not said else "to the end" if said[-1] == "ended" else "began"

    def _config(self) -> None:
        data = self._bytes(CONFIG_FILE)
        if data is None:
            return
        config, wrong = parse_config(data)
        if wrong:
            self._problem(CONFIG_FILE, wrong, grave=False)
        self.fields |= {"config": config, "config_digest": hashlib.sha256(data).hexdigest()}

    def _status(self) -> None:
        data = self.snapshot
        if data is None:
            return
        self.fields["status"] = parse_status(data)
        self._require_seen(data)
        if self.fields["status"] is None:
            self._problem(STATUS_FILE, "no JSON object with is_training")

    def _require_seen(self, snapshot: bytes) -> None:
        """The snapshot names the newest event that its writer appended: it must still be there."""
        line = parse_object(snapshot) or {}
        seq, head = count_of(line.get("events_seq")), hex_of(line.get("events_head"))
        if seq is None or not head or self.log.heads.get(seq) == head:
            return
        what = "was changed" if seq in self.log.heads else "is gone"
        self._problem(EVENTS_FILE, f"event {seq}, which {STATUS_FILE} saw, {what}", line=seq)
        self.fields["chain_intact"] = False

    def _require_grown(self) -> None:
        """The ends of a training and of its watch name how long the files were that only grow: no line may be gone."""
        ends = [(e, e.fields.get("sizes")) for e in self.log.events if e.event in _TELL_SIZES]
        for name in (METRICS_FILE, ALERTS_FILE):
            told = [
                (count_of(sizes.get(name)) or 0, _TELL_SIZES[e.event])
                for e, sizes in ends
                if isinstance(sizes, Mapping)
            ]
            path = self.folder / name
            now = path.stat().st_size if regular(path) else 0
            before, when = max(told, default=(0, ""))
            if now < before:
                self._problem(name, f"has {now} bytes, and had {before} when {when} ended")

    def evidence(self) -> Experiment:
        """All of it as one noun."""
        state, created = self.state, self.state.created
        about = created.fields if created is not None else {}
        imported = about.get("provenance") == Provenance.SELF_REPORTED.value
        name = text_of(about.get("experiment")) or self.folder.name
        frozen = text_of(about.get("config_digest")).removeprefix(PREFIX)
        known: dict[str, Any] = {
            "subject": text_of(name),
            "provenance": Provenance.SELF_REPORTED if imported else Provenance.MEASURED,
            "imported": imported,
            "id": text_of(name),
            "name": text_of(about.get("name")),
            "parent": text_of(about.get("parent")),
            "phase": text_of(about.get("phase")),
            "created": created.time if created is not None else "",
            "state": state.state,
            "ended_by": state.ended_by,
            "plan": state.plan,
            "attempts": tuple(state.attempts.values()),
            "evaluations": tuple(state.evaluations),
            "checkpoints": tuple(state.checkpoints.values()),
            "recorded_result": state.result,
            "notes": tuple(state.notes),
            "unmet": state.unmet,
            "frozen_digest": frozen,
            "events": self.log.events,
            "problems": tuple(self.problems),
        }
        return Experiment(**{**known, **self.fields})

    def _bytes(self, name: str) -> bytes | None:
        try:
            return read_bytes(self.folder / name)
        except UnreadableInput as error:
            self._problem(name, error.what)
            return b""

    def _problem(self, file: str, text: str, *, line: int = 0, grave: bool = True) -> None:
        self.problems.append(Problem(file=file, line=line, text=text, grave=grave))


def _artifact(path: Path) -> Artifact:
    try:
        with path.open("rb") as file:
            digest = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
            return Artifact(path=path.name, digest=digest, size_bytes=file.tell())
    except OSError as error:
        raise refused(error, path) from error
