"""events.jsonl: the record of an experiment. Every line holds the digest of the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from assay.core.experiment import ExperimentEvent, Problem
from assay.core.experiment_state import EVENTS_FILE, count_of, hex_of
from assay.readers.training.lines import Line, parse_object, plain_object, read_lines

SCHEMA = "experiment-event/1"
FIRST = "0" * 64
PROBLEMS_KEPT = 20
_ENVELOPE = frozenset({"schema", "seq", "time", "event", "attempt", "previous"})


class EventLog(NamedTuple):
    """What was read of one file."""

    events: tuple[ExperimentEvent, ...]
    intact: bool
    """Every line follows from the one before; a half line at the end does not count against it."""
    torn: int
    """Line number of a half-written last line; 0 if there is none."""
    head: str
    problems: tuple[Problem, ...]
    heads: Mapping[int, str] = MappingProxyType({})
    """Sequence number → SHA-256 of that event's line."""


def read_events(path: Path) -> EventLog:
    """Read and check the record; any bytes give an answer.

    Raises:
        UnreadableInput: if the operating system refuses to read the file.
    """
    chain = _Chain()
    for line in read_lines(path):
        chain.add(line)
    return chain.done()


class _Chain:
    def __init__(self) -> None:
        self.events: list[ExperimentEvent] = []
        self.problems: list[Problem] = []
        self.previous = FIRST
        self.seq = 0
        self.intact = True
        self.open: list[int] = []
        """Bad lines that no later line has vouched for."""
        self.torn = 0
        self.heads: dict[int, str] = {}

    def add(self, line: Line) -> None:
        record = None if line.too_long else parse_object(line.data)
        event = _event(record, line.number) if record is not None else None
        if record is None or event is None:
            self.torn = 0 if line.sealed else line.number
            self.open.append(line.number)
        else:
            self._follow(record, event)
        self.previous = hashlib.sha256(line.data).hexdigest()
        if event is not None:
            self.heads[event.seq] = self.previous

    def _follow(self, record: dict[str, Any], event: ExperimentEvent) -> None:
        if record.get("previous") != self.previous:
            self._break(
                event.line, "does not follow from the line before: one was changed, removed or inserted"
            )
        elif event.seq != self.seq + 1:
            self._break(event.line, f"sequence number {event.seq} after {self.seq}")
        elif record.get("schema") != SCHEMA:
            self._break(event.line, f"schema {str(record.get('schema'))[:40]!r}, expected {SCHEMA}")
        elif self.open:
            # A writer died within a line; the next one closed it and chained over it.
            for number in self.open:
                self._note(number, "no event; a later line chains over it", grave=False)
            self.open.clear()
        if event.event == "judged":
            self._judged(event)
        self.seq = event.seq
        self.events.append(event)

    def _judged(self, event: ExperimentEvent) -> None:
        """A verdict names the last line that it rests on: that line must still be there."""
        head = hex_of(event.fields.get("events_head"))
        if head and head not in self.heads.values():
            self._break(
                event.line, "rests on a line that is not there: the record before it was changed or cut"
            )

    def _break(self, line: int, text: str) -> None:
        self.intact = False
        self._note(line, text, grave=True)

    def _note(self, line: int, text: str, *, grave: bool) -> None:
        if len(self.problems) < PROBLEMS_KEPT or (grave and not any(p.grave for p in self.problems)):
            self.problems.append(Problem(file=EVENTS_FILE, line=line, text=text, grave=grave))

    def done(self) -> EventLog:
        for number in self.open:
            if number != self.torn:
                self._break(number, "no event")
        return EventLog(
            tuple(self.events), self.intact, self.torn, self.previous, tuple(self.problems), self.heads
        )


def _event(record: dict[str, Any], line: int) -> ExperimentEvent | None:
    seq, kind, time = count_of(record.get("seq")), record.get("event"), record.get("time")
    if seq is None or not isinstance(kind, str) or not isinstance(time, str):
        return None
    fields = plain_object({k: v for k, v in record.items() if k not in _ENVELOPE})
    attempt = count_of(record.get("attempt"))
    known: dict[str, str] = plain_object({"event": kind[:80], "time": time[:80]})
    return ExperimentEvent(seq=seq, attempt=attempt, line=line, fields=fields, **known)
