"""The verdict beside the one that the rule of the replaced system comes to, from the same runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.vocabulary import Status
from assay.ledger.evolve_records import EvolveRecord
from assay.report._view.marks import Mark, outcome_mark, status_mark
from assay.report._view.settled import finite, mapping
from assay.report._view.text import one_line, signed

_WORDS: Mapping[str, Mark] = {
    "deploy": Mark("DEPLOY", "good", "check"),
    "reject": Mark("REJECT", "bad", "cross"),
    "aborted": Mark("ABORTED", "odd", "bang"),
}
SOUND = "fresh draws, both texts in turn, intervals"
SEED_CAVEAT = (
    "It looks at one pass over the tasks and compares whole numbers: it deploys a text that was not changed at all "
    "about one time in three."
)


@dataclass(frozen=True)
class Ruling:
    """What one rule says."""

    who: str
    mark: Mark
    text: str
    why: str


def seed_document(record: EvolveRecord) -> Mapping[str, Any]:
    """What the replaced system says of the same runs; empty where the gate did not get that far."""
    verdict = record.deploy
    return mapping(verdict.extra.get("seed")) if verdict is not None else {}


def rulings(record: EvolveRecord) -> tuple[Ruling, ...]:
    """Our rule first; empty before the gate was asked."""
    verdict = record.deploy
    if verdict is None:
        return ()
    mark = Mark("GOES ON", "open", "question") if verdict.open else status_mark(verdict.status)
    if verdict.extra.get("rules") == "seed":  # the spec has the rule before ours decide
        beside = mapping(verdict.extra.get("sound"))
        other = outcome_mark(one_line(beside.get("outcome") or "UNKNOWN", 40))
        words = one_line(beside.get("detail") or "they say no more")
        why = _reason(seed_document(record))
        return (
            Ruling("this study, by the rule before ours", mark, one_line(verdict.detail), why),
            Ruling("the sound rules", other, words, SOUND),
        )
    made = [Ruling("this study", mark, one_line(verdict.detail), SOUND)]
    document = seed_document(record)
    if document:
        word = one_line(document.get("decision") or "cannot say", 40)
        found = _WORDS.get(word.lower(), Mark(word.upper(), "odd", "bang"))
        made.append(Ruling("the rule before it", found, _seed_text(document), _reason(document)))
    return tuple(made)


def rulings_text(record: EvolveRecord) -> str:
    """Whether the two agree, and what to make of it."""
    verdict, document = record.deploy, seed_document(record)
    if verdict is None or not document or verdict.open or document.get("decision") is None:
        return ""
    if verdict.extra.get("rules") == "seed":
        return f"The spec has the rule before ours decide. {SEED_CAVEAT}"
    seed, sound = document.get("decision") == "deploy", verdict.status is Status.PASS
    if seed and not sound:
        return f"The rule before it would deploy this text. {SEED_CAVEAT}"
    if sound and not seed:
        return "The rule before it would not deploy this text. It looks at one pass only, and misses what more runs show."
    return f"Both come to the same answer; the rule before it cannot say how sure it is. {SEED_CAVEAT}"


def _seed_text(document: Mapping[str, Any]) -> str:
    gained, required = finite(document.get("gained")), finite(document.get("required"))
    if gained is not None and required is not None:
        sign = "+" if gained > 0 else ""
        return f"{sign}{signed(gained, 0)} tasks gained in one pass, {signed(required, 0)} needed"
    messages = mapping(document.get("document")).get("messages")
    if isinstance(messages, list | tuple) and messages:
        return one_line(messages[0])
    return one_line(document.get("reason") or "it says no more")


def _reason(document: Mapping[str, Any]) -> str:
    rule = one_line(mapping(document.get("document")).get("decision_rule_used") or "", 60).replace("_", " ")
    reason = one_line(document.get("reason") or "", 60).replace("_", " ")
    return "; ".join(p for p in (f"rule: {rule}" if rule else "", f"reason: {reason}" if reason else "") if p)
