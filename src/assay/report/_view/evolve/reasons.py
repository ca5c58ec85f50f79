"""The sentence of a Decision about a text, and what would settle an open one."""

from __future__ import annotations

from assay.core.decision import Decision
from assay.core.vocabulary import Status
from assay.ledger.evolve_records import EvolveRecord
from assay.report._view.text import plural


def said(decision: Decision) -> str:
    """The sentence of a Decision without the name of its gate, which stands below."""
    name, colon, rest = decision.sentence.partition(": ")
    return rest if colon and name in {g.gate for g in decision.gates} else decision.sentence


def needed_text(record: EvolveRecord) -> str:
    """What would settle an open question; empty where nothing is open."""
    verdict = record.deploy
    if verdict is None or verdict.status is not Status.INCONCLUSIVE:
        return ""
    if verdict.needed is None:
        return "It is not known how many more runs would settle it."
    runs = record.runs
    here = sum(r.task not in runs.canaries for r in runs.runs) if runs else 0
    if verdict.needed > here:
        return f"About {verdict.needed - here:,} more agent runs would settle it ({verdict.needed:,} in all)."
    return f"{plural(verdict.needed, 'agent run')} in all would settle it."
