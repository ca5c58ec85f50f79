"""alerts.jsonl: changes of alerts. The last line of an id counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from assay.core.experiment import Alert, Problem
from assay.core.experiment_state import count_of, text_of
from assay.readers.training.lines import parse_object, read_lines

ALERTS_FILE = "alerts.jsonl"
PROBLEMS_KEPT = 20


def read_alerts(path: Path) -> tuple[tuple[Alert, ...], tuple[Problem, ...]]:
    """Every alert as it stands now, in order of appearance, and the lines that cannot be read.

    Raises:
        UnreadableInput: if the operating system refuses to read the file.
    """
    found: dict[str, Alert] = {}
    problems: list[Problem] = []
    bad = 0
    for line in read_lines(path):
        record = None if line.too_long else parse_object(line.data)
        alert = _alert(record, line.number) if record is not None else None
        if alert is None:
            bad += 1
            if bad <= PROBLEMS_KEPT:
                half = "" if line.sealed else " (half written)"
                text = f"no alert: not a JSON object with id and name{half}"
                problems.append(Problem(file=ALERTS_FILE, line=line.number, text=text))
        else:
            found[alert.id] = alert
    return tuple(found.values()), tuple(problems)


def _alert(record: dict[str, Any], line: int) -> Alert | None:
    get = record.get
    if not isinstance(get("id"), str) or not isinstance(get("name"), str):
        return None
    joined = get("joined")
    return Alert(
        id=text_of(get("id")),
        name=text_of(get("name")),
        number=count_of(get("class")),
        severity=text_of(get("severity")),
        state=text_of(get("state")),
        time=text_of(get("time")),
        attempt=count_of(get("attempt")),
        step=count_of(get("step")),
        epoch=count_of(get("epoch")),
        first_seen_step=count_of(get("first_seen_step")),
        count=count_of(get("count")),
        observed=_value(get("observed")),
        reference=_value(get("reference")),
        threshold=_value(get("threshold")),
        rule=text_of(get("rule")),
        joined=tuple(text_of(j) for j in joined) if isinstance(joined, list) else (),
        action=text_of(get("action")),
        text=text_of(get("text")),
        line=line,
    )


def _value(raw: Any) -> float | str | None:
    if raw is None:
        return None
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            number = float(raw)
        except OverflowError:
            return "inf"
        return number if math.isfinite(number) else str(number)
    return text_of(raw)
