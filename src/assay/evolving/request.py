"""What a proposer outside is asked, and what its answer proposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.artifact_text import edited
from assay.core.errors import UsageError
from assay.evolving.archive import Archive, Entry
from assay.evolving.limits import Limits
from assay.evolving.proposers.scene import Proposal
from assay.evolving.world import Answer


def request(
    entry: Entry, archive: Archive, limits: Limits, facts: Mapping[str, Mapping[str, Any]], runs_left: int
) -> dict[str, Any]:
    """What a proposer outside is told: `schema: text-proposal-request/1`. Nothing of selecting or confirming tasks.

    Args:
        entry: the text that is to be changed.
        archive: all texts.
        limits: what no text may break.
        facts: of each train task, what may be told, such as its prompt.
        runs_left: of the budget.
    """
    failures = []
    for task in sorted(entry.last):
        seen = entry.last[task]
        if (seen.score or 0.0) < 1.0:
            failures.append(
                {
                    "task": task,
                    **facts.get(task, {}),
                    "score": seen.score,
                    "outcome": seen.outcome,
                    "feedback": seen.feedback,
                    "said": seen.said,
                }
            )
    return {
        "schema": "text-proposal-request/1",
        "parent": {"number": entry.number, "text": entry.text, "train": entry.train_means},
        "failures": failures,
        "passed": sorted(t for t, o in entry.last.items() if (o.score or 0.0) >= 1.0),
        "rejected": [
            {
                "edits": [e.to_json() for e in r.edits],
                "parent": r.parents[0] if r.parents else 0,
                "why": r.why,
            }
            for r in archive.last_rejected(20)
        ],
        "limits": {
            "chars": limits.room(archive.baseline.text),
            "anchors": limits.anchors,
        },
        "runs_left": runs_left,
        "texts": len(archive.entries),
    }


def proposal_of(entry: Entry, answer: Answer) -> Proposal | None:
    """The text that an answer stands for; None where it gives none."""
    if answer.failed:
        return None
    if answer.text is not None:
        return Proposal(answer.text, answer.reason)
    if not answer.edits:
        return None
    try:
        return Proposal(edited(entry.text, answer.edits), answer.reason)
    except UsageError:
        return None  # edits of lines that are not there: the world has told so already
