"""What the source's rule says on the same runs: the first repeat of each task is its one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.core.agent import BASELINE, CANDIDATE, AgentOutcome, AgentRuns
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._deploy.policy import DeployPolicy
from assay.gates._deploy.runs import judged_tasks
from assay.gates._deploy.seed import Band, SeedInputs, SeedReason, seed_band, seed_decision

JUDGE_SCORES = "judge_scores"
"""Fact of the evidence: `{baseline: [...], candidate: [...]}`, the judge's scores of the holdout, if there is a judge."""
FILE_CHARS = "file_chars"
"""Fact of the evidence: arm → characters of the whole file, a skill's frontmatter included."""
BAND = "band"
"""Fact of the evidence: what the preflight said."""
_FAILED = (AgentOutcome.PASS, AgentOutcome.TASK_FAIL)


def one_pass(evidence: AgentRuns, arm: str) -> dict[str, bool | None]:
    """Task → passed in its first repeat; None = the source would have called it abstained."""
    out: dict[str, bool | None] = {}
    for task in judged_tasks(evidence):
        runs = evidence.of(arm, task)
        first = min(runs, key=lambda r: (r.rep, r.content_digest), default=None)
        out[task] = None if first is None or first.outcome not in _FAILED else first.passed
    return out


def judge_scores(evidence: AgentRuns, side: str) -> tuple[float, ...]:
    """The judge's scores of one side; empty where nobody judged."""
    found = evidence.facts.get(JUDGE_SCORES)
    values = found.get(side, ()) if isinstance(found, Mapping) else ()
    good = isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in values
    )
    return tuple(float(v) for v in values) if good else ()


def task_mean(passes: Mapping[str, bool | None]) -> float | None:
    """Pass rate as the source's preflight took it: what abstained counts as 0."""
    return sum(p is True for p in passes.values()) / len(passes) if passes else None


def seed_view(evidence: AgentRuns, policy: DeployPolicy) -> dict[str, Any]:
    """The source's whole document, with our word for it. Never raises."""
    before, after = one_pass(evidence, BASELINE), one_pass(evidence, CANDIDATE)
    judged = judge_scores(evidence, BASELINE)
    chars = _chars(evidence)
    try:
        document = seed_decision(
            SeedInputs(
                baseline_chars=chars[BASELINE],
                evolved_chars=chars[CANDIDATE],
                baseline_per_example=judged,
                evolved_per_example=judge_scores(evidence, CANDIDATE),
                band=_band(evidence, judged, before),
                # without a judge there is nothing else to decide by
                closed_loop=policy.closed_loop if judged else "always",
                baseline_tasks=before,
                evolved_tasks=after,
                growth=policy.growth,
                preset=tuple(policy.preset),
                inferiority_tolerance=policy.inferiority_tolerance,
                synthetic_tolerance=policy.synthetic_tolerance,
                bootstrap_resamples=policy.bootstrap_resamples,
                bootstrap_confidence=policy.bootstrap_confidence,
                seed=policy.seed,
                evolved_cl_eval_cost_usd=_pass_cost(evidence),
                validator_agent_model=str(evidence.facts.get("model", ""))[:200],
            )
        )
    except ValueError as error:
        return {
            "decision": None,
            "reason": str(error)[:200],
            "outcome": Outcome.ANOMALOUS.value,
            "document": {},
        }
    status, outcome, _ = seed_words(document)
    return {
        "decision": document["decision"],
        "reason": document["reason"],
        "status": status.value,
        "outcome": outcome.value,
        "gained": document.get("cl_tasks_gained"),
        "required": document.get("cl_required_gain"),
        "signal": document["decision_signal"],
        "document": document,
    }


def seed_words(document: Mapping[str, Any]) -> tuple[Status, Outcome, FailureClass | None]:
    """Our words for a decision of the source."""
    decision, reason = document["decision"], document["reason"]
    if decision == "deploy":
        return Status.PASS, Outcome.ACCEPT, None
    if decision == "aborted":
        if reason == SeedReason.COST.value:
            return Status.ERROR, Outcome.ANOMALOUS, FailureClass.BUDGET_EXHAUSTED
        return Status.ERROR, Outcome.ANOMALOUS, FailureClass.SAMPLE_ACCOUNTING_FAILED
    if reason in (SeedReason.STATIC.value, SeedReason.BENCHMARK.value):
        return Status.FAIL, Outcome.INFEASIBLE, FailureClass.POINT_INFEASIBLE
    gained = document.get("cl_tasks_gained")
    mean = document.get("bootstrap", {}).get("mean") if gained is None else gained
    return Status.FAIL, Outcome.REGRESSION if mean is not None and mean < 0 else Outcome.NO_GAIN, None


def seed_sentence(view: Mapping[str, Any]) -> str:
    """The source's verdict in one sentence."""
    if view["decision"] is None:
        return f"the source's rule cannot say: {view['reason']}"
    if view["signal"] == "closed_loop" and view["gained"] is not None:
        text = f"one pass, {view['gained']:+d} tasks, {view['required']:+d} needed"
    else:
        mean = view["document"].get("bootstrap", {}).get("mean")
        text = "no judge's score" if mean is None else f"judge's mean {mean:+.3f}"
    why = "" if view["reason"] == "ok" else f" ({view['reason']})"
    return f"{view['decision']}{why}: {text}"


def _pass_cost(evidence: AgentRuns) -> float | None:
    """What the one pass of the candidate cost; unknown where an attempt of it told no cost."""
    passes = [evidence.of(CANDIDATE, task) for task in judged_tasks(evidence)]
    first = [min(runs, key=lambda r: (r.rep, r.content_digest)) for runs in passes if runs]
    known = [r.cost for r in first if r.cost is not None and r.assumed(None) is not None]
    return math.fsum(known) if known and len(known) == len(first) else None


def _chars(evidence: AgentRuns) -> dict[str, int]:
    """Length of each whole file, as the source took it; of the text alone where no more is known."""
    told = evidence.facts.get(FILE_CHARS)
    known = told if isinstance(told, Mapping) else {}
    whole = {a: n for a, n in known.items() if isinstance(n, int) and not isinstance(n, bool) and n >= 0}
    found = whole if {BASELINE, CANDIDATE} <= set(whole) else evidence.text_chars
    return {arm: int(found.get(arm, 0)) for arm in (BASELINE, CANDIDATE)}


def _band(evidence: AgentRuns, judged: tuple[float, ...], before: Mapping[str, bool | None]) -> Band | None:
    told = evidence.facts.get(BAND)
    if isinstance(told, str) and told in set(Band):
        return Band(told)
    if not judged:
        return None
    return seed_band(sum(judged) / len(judged), task_mean(before))
