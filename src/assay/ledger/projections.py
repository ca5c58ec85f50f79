"""Projections: what is shown of a ledger. Nothing here is stored; everything can be derived again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assay.core.decision import Decision, fold_study
from assay.core.errors import LedgerBroken
from assay.core.events import Event, EventType, link_digest
from assay.core.history import StudyHistory, replay
from assay.core.trial import Trial


def histories(events: Iterable[Event]) -> dict[str, StudyHistory]:
    """The histories of all studies.

    Raises:
        LedgerBroken: if the events are not those of studies, as after one was removed.
    """
    try:
        return replay(events)
    except (KeyError, ValueError, TypeError) as error:
        what = f"the events do not replay: {type(error).__name__} {error}"
        raise LedgerBroken(what, next="`assay verify STUDY` names the first broken link") from error


def overview(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a study from raw event rows, newest last. Reads plain JSON, so that `assay ls` starts fast.

    Raises:
        LedgerBroken: if an event does not hold what its type says.
    """
    studies: dict[str, dict[str, Any]] = {}
    for row in rows:
        try:
            if row["type"] == EventType.STUDY_OPENED.value:
                studies[row["study"]] = _opened(row)
            elif row["study"] in studies:  # a study without its opening: `assay verify` says so
                _counted(studies[row["study"]], row)
        except (KeyError, TypeError) as error:
            raise damaged(row) from error
    return list(studies.values())


def damaged(row: Mapping[str, Any]) -> LedgerBroken:
    """The error for an event that does not hold what its type says."""
    what = f"event {row['seq']} is damaged: it does not hold what a {row['type']} holds"
    return LedgerBroken(what, next="`assay verify STUDY`")


def _counted(line: dict[str, Any], row: Mapping[str, Any]) -> None:
    data, kind = row["data"], row["type"]
    line["updated"] = row["at"]
    if kind == EventType.TRIAL_STARTED.value:
        line["trials"] += 1
        line["state"] = "running"
    elif kind == EventType.DECISION_RECORDED.value and not data["decision"]["interrupted"]:
        line["decided"] += 1
        line["outcomes"].append(data["decision"]["outcome"])
    elif kind == EventType.STUDY_INTERRUPTED.value:
        line["state"] = "interrupted"
    elif kind == EventType.STUDY_RESUMED.value:
        line["state"], line["outcome"] = "running", None
    elif kind == EventType.STUDY_CLOSED.value:
        line["state"], line["outcome"] = "closed", data["outcome"]


def _opened(row: Mapping[str, Any]) -> dict[str, Any]:
    study = row["data"]["study"]
    return {
        "id": study["id"],
        "job": study["job"],
        "source": study["source"]["path"],
        "opened": row["at"],
        "updated": row["at"],
        "state": "running",
        "trials": 0,
        "decided": 0,
        "outcomes": [],
        "outcome": None,
    }


def study_summary(history: StudyHistory) -> dict[str, Any]:
    """A study for scripts: `schema: study/1`."""
    study = history.study
    closed = history.closed
    state = "closed" if closed else "interrupted" if history.interrupted else "running"
    outcome = closed["outcome"] if closed else None
    if outcome is None and history.decisions:
        outcome = fold_study([d.outcome for d in history.decisions]).value
    return {
        "schema": "study/1",
        "id": study.id,
        "job": study.job,
        "question": study.question,
        "source": study.source.to_json(),
        "state": state,
        "outcome": outcome,
        "why": closed["why"] if closed else None,
        **({"advance": closed["advance"]} if closed and "advance" in closed else {}),
        "trials": [trial_summary(t) for t in history.trials.values()],
        "accepted": [d.candidate for d in history.decisions if d.keeps],
        "applied": {trial: dict(token) for trial, token in history.applied.items()},
        "events": len(history.events),
        "head": link_digest(history.events[-1]) if history.events else None,
    }


def trial_summary(trial: Trial) -> dict[str, Any]:
    """A trial for scripts."""
    decision = trial.decision
    artifact = next((r.artifact for r in trial.steps.values() if r.artifact), None)
    return {
        "id": trial.id,
        "candidate": trial.candidate.name,
        "candidate_key": trial.candidate.key,
        "outcome": decision.outcome.value if decision else None,
        "interrupted": decision.interrupted if decision else False,
        "sentence": decision.sentence if decision else "",
        "failure_class": decision.failure_class.value if decision and decision.failure_class else None,
        "artifact": artifact.to_json() if artifact else None,
        "gates": [line.to_json() for line in _lines(trial, decision)],
        "steps": {name: {"wall_s": r.wall_s, "evidence": r.evidence} for name, r in trial.steps.items()},
        "retries": dict(trial.retries),
    }


def _lines(trial: Trial, decision: Decision | None) -> list[Any]:
    return list(decision.gates) if decision else list(trial.gates.values())
