"""How an experiment is finished: record the result, judge, then one transition or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import UsageError
from assay.core.experiment import FINAL, LIVE, Experiment
from assay.core.experiment_result import primary_of, shortfalls_of, tier_of
from assay.core.experiment_state import hex_of
from assay.core.verdict import Verdict
from assay.gates.training import TrainingGate, TrainingPolicy
from assay.readers.training import read_any, read_state
from assay.runtime.files import explaining
from assay.track.files import append_event, folder_lock

LOCK = ".attempts.lock"
"""Also held while an attempt starts: nothing begins while something ends."""
ENDS = frozenset({"met", "below", "undecided"})
"""States of items with which the evidence is whole: what is below is known to be below."""


def finished(folder: Path, policy: TrainingPolicy, override: str | None, by: str) -> tuple[Verdict, str]:
    """Judge an experiment and end it, if its evidence is whole or a person says so.

    Returns:
        The verdict, and what was recorded: `completed`, `overridden` or `nothing`.

    Raises:
        UsageError: if it has ended or still trains; then nothing was written.
        UnreadableInput, ComponentFailed: if the files cannot be read or written.
    """
    with explaining(folder), folder_lock(folder, LOCK):
        return _finished(folder, policy, override, by)


def aborted(folder: Path, reason: str, by: str) -> None:
    """End an experiment by a person's word.

    Raises:
        UsageError: if it has ended meanwhile.
        UnreadableInput, ComponentFailed: if the files cannot be read or written.
    """
    with explaining(folder), folder_lock(folder, LOCK):
        state = read_state(folder).state
        if state in FINAL:
            raise UsageError(f"{folder.name} is {state}: what has ended is not changed", where=str(folder))
        append_event(folder, "aborted", None, {"reason": reason, "by": by})


def _finished(folder: Path, policy: TrainingPolicy, override: str | None, by: str) -> tuple[Verdict, str]:
    found = read_any(folder, digests=True)
    if found.state in FINAL:
        raise UsageError(
            f"{found.id} is {found.state}: what has ended is not changed",
            where=str(folder),
            next=f"`assay gate training {found.id}`",
        )
    if found.state in LIVE:
        raise UsageError(
            f"{found.id} still trains",
            where=str(folder),
            next=f"wait for it, or `assay experiment abort {found.id} --reason ...`",
        )
    if _record_result(folder, found):
        found = read_any(folder, digests=True)
    verdict = TrainingGate(policy).judge({"experiment": found})
    append_event(folder, "judged", None, _judged(verdict, by))
    states = set(verdict.extra["items"].values())
    if verdict.passed or (states <= ENDS and found.attempts):
        append_event(folder, "completed", None, {"reason": verdict.detail, "by": by})
        return verdict, "completed"
    if override is not None:
        fields = {"reason": override, "unmet": list(verdict.extra["unmet"]), "by": by}
        append_event(folder, "overridden", None, fields)
        return verdict, "overridden"
    return verdict, "nothing"


def _record_result(folder: Path, found: Experiment) -> bool:
    """Record the result if it can be used and is not the one that was recorded last."""
    primary = primary_of(found)
    if (
        primary is None
        or primary.metric.value is None
        or (found.result is not None and found.result.problems)
    ):
        return False
    digest = f"sha256:{found.result.digest}" if found.result is not None else None
    known = found.recorded_result
    value = {"name": primary.metric.name, "value": primary.metric.value}
    if known.get("primary") == value and hex_of(known.get("digest")) == hex_of(digest):
        return False
    tier = tier_of(found)
    secondary = found.result.secondary if found.result is not None else ()
    fields: Mapping[str, Any] = {
        "digest": digest,
        "primary": value,
        "metrics": {m.name: m.value for m in secondary},
        "tier": tier.value if tier is not None else None,
        "source": primary.source,
        "shortfalls": list(shortfalls_of(found)),
    }
    append_event(folder, "result", None, fields)
    return True


def _judged(verdict: Verdict, by: str) -> dict[str, Any]:
    return {
        "verdict": {
            "status": verdict.status.value,
            "word": verdict.extra["word"],
            "detail": verdict.detail,
            "tier": verdict.extra.get("tier"),
            "unmet": list(verdict.extra.get("unmet", ())),
        },
        "events_head": verdict.extra.get("events_head", ""),
        "evidence_digest": verdict.reads.get("experiment", ""),
        "by": by,
    }
