"""The rule of the system we replace, kept to the letter so that both verdicts can be seen side by side.

A band of the baseline's scores, one pass over the tasks, whole numbers of passes, and a percentile bootstrap of the
judge's scores. It deploys an unchanged text about one time in three (`benchmarks/deploy_gate.py`). Its bootstrap drew
from a generator that is not documented; ours is numpy's, seeded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import Field

from assay.core.base import Noun
from assay.gates._deploy.policy import CEILING_RATIO, PRESETS, Growth, Preset, growth_of

SCHEMA_VERSION = 5
DECISION_FILE = "gate_decision.json"
LEDGER_FILE = "saturation_ledger.jsonl"

NO_HEADROOM_JUDGE, WEAK_JUDGE, NO_HEADROOM_TASKS, FAILURE_TASKS = 0.99, 0.95, 0.95, 0.15
TASK_SLOPE, TASK_FREE = 1.0, 0.20


class Band(StrEnum):
    """What a look at the baseline says about a search that would start from it."""

    HEALTHY = "healthy"
    WEAK_SIGNAL = "weak_signal"
    NO_HEADROOM = "no_headroom"
    UNIFORM_FAILURE = "uniform_failure"
    NOT_ENOUGH_DATA = "not_enough_data"
    """Only of the sound rules."""


class SeedReason(StrEnum):
    """Why the source refused or gave up."""

    STATIC = "static_constraint_failure"
    CL_FAILED = "cl_eval_failed"
    CL_INCOMPLETE = "cl_eval_incomplete"
    GATE = "growth_quality_gate"
    """Also where the tasks refused it."""
    BENCHMARK = "benchmark_failed"
    COST = "cost_ceiling_exceeded"


class SeedInputs(Noun):
    """All that the source's gate looked at."""

    baseline_chars: int = Field(ge=0)
    """Of the whole file."""
    evolved_chars: int = Field(ge=0)
    baseline_per_example: tuple[float, ...] = ()
    """The judge's score of each holdout example; empty = there is no judge."""
    evolved_per_example: tuple[float, ...] = ()
    band: Band | None = None
    """None = the preflight was skipped: tasks never decide then, unless `closed_loop` is `always`."""
    closed_loop: Literal["weak_signal", "always"] = "weak_signal"
    baseline_tasks: Mapping[str, bool | None] = Field(default_factory=dict)
    """Task → passed; None = abstained. Empty = no tasks were run."""
    evolved_tasks: Mapping[str, bool | None] = Field(default_factory=dict)
    force_run_error: str = ""
    """The run of the evolved text's tasks raised this."""
    static_failures: tuple[str, ...] = ()
    growth: Growth = Growth.DEFAULT
    preset: tuple[float, float, int] | None = None
    """Free growth, slope, ceiling in characters, where they are not the preset's."""
    inferiority_tolerance: float = 0.05
    synthetic_tolerance: float = 0.05
    bootstrap_resamples: int = 2_000
    bootstrap_confidence: float = 0.90
    seed: int = 42
    benchmark_exit: int | None = None
    """Exit code of the benchmark hook; None = there is none."""
    cost: float | None = None
    """What language models cost so far."""
    cost_ceiling: float | None = None
    evolved_cl_eval_cost_usd: float | None = None
    validator_agent_model: str = ""
    judge_mean: float | None = None
    """Of the preflight; None = of `baseline_per_example`."""
    more: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of the document that do not depend on the decision, such as `knee_point`, `dataset`, `run_inputs`."""


class Ruling(NamedTuple):
    """What a gate of the source says."""

    ok: bool
    rule: str
    required: float
    messages: tuple[str, ...]
    failed: tuple[str, ...]


def seed_band(judge: float, tasks: float | None) -> Band:
    """The band of a baseline, by the source's thresholds.

    Args:
        judge: the judge's mean on the holdout.
        tasks: pass rate on the suite; None = no suite.

    Raises:
        ValueError: if a mean is no number from 0 to 1.
    """
    for value in (judge, tasks):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"a mean must lie between 0 and 1, not {value!r}")
    if tasks is not None and tasks <= FAILURE_TASKS:
        return Band.UNIFORM_FAILURE
    if tasks is None:
        return Band.NO_HEADROOM if judge >= NO_HEADROOM_JUDGE else Band.HEALTHY
    if judge >= WEAK_JUDGE:
        return Band.NO_HEADROOM if tasks >= NO_HEADROOM_TASKS else Band.WEAK_SIGNAL
    return Band.HEALTHY


def seed_required_tasks(growth: float) -> int:
    """Tasks that must be gained at a growth of the text: at least one, and one more for each 100 % above 20 %."""
    return max(1, math.ceil(max(0.0, TASK_SLOPE * (growth - TASK_FREE))))


def percentile_bootstrap(
    differences: Sequence[float], resamples: int, confidence: float, seed: int
) -> dict[str, float | int]:
    """Mean and percentile bounds, as the source coded it; anti-conservative for few examples.

    Raises:
        ValueError: if there are no differences.
    """
    from assay.stats import agent_suites  # noqa: PLC0415 - scipy, only for a study that judges texts

    if not differences:
        raise ValueError("a bootstrap needs at least one difference")
    found = agent_suites.percentile_bootstrap(differences, confidence, resamples, seed)
    return {
        "mean": math.fsum(differences) / len(differences),
        "lower_bound": found.lower,
        "upper_bound": found.upper,
        "n_examples": len(differences),
        "n_resamples": resamples,
        "confidence": confidence,
    }


def seed_decision(given: SeedInputs) -> dict[str, Any]:
    """The document `gate_decision.json`, schema 5, that the source would have written.

    Args:
        given: all that its gate looked at.

    Raises:
        ValueError: if there is neither a judge's score nor a task to decide by.
    """
    growth, preset = growth_of(given.baseline_chars, given.evolved_chars), _preset(given)
    by_tasks = _tasks_decide(given)
    ceiling = max(preset.ceiling_chars, int(CEILING_RATIO * given.baseline_chars))
    document = {**_head(given, growth, preset, ceiling), **given.more}
    if given.cost is not None and given.cost_ceiling is not None and given.cost > given.cost_ceiling:
        told = {"ceiling": given.cost_ceiling, "cost_at_abort": given.cost}
        return {**document, **told, "decision": "aborted", "reason": SeedReason.COST.value}
    if given.static_failures:
        failed = {"failed_constraints": list(given.static_failures), "decision_signal": "synthetic"}
        return {**document, **failed, "decision": "reject", "reason": SeedReason.STATIC.value}
    document["decision_signal"] = "closed_loop" if by_tasks else "synthetic"
    judge = _judge(given)
    document |= judge
    if by_tasks:
        document |= _task_fields(given, growth)
        if given.force_run_error:
            failed = {"cl_eval_exception": given.force_run_error, "messages": [given.force_run_error]}
            return {**document, **failed, "decision": "aborted", "reason": SeedReason.CL_FAILED.value}
        if document["evolved_closed_loop_errored_tasks"]:
            return {**document, "decision": "aborted", "reason": SeedReason.CL_INCOMPLETE.value}
        ruling = _by_tasks(given, document, growth, ceiling)
    else:
        ruling = _by_judge(given, judge, growth, preset, ceiling)
    document |= {
        "decision_rule_used": ruling.rule,
        "required_improvement": ruling.required,
        "messages": list(ruling.messages),
        "failed_constraints": list(ruling.failed),
    }
    if not ruling.ok:
        return {**document, "decision": "reject", "reason": SeedReason.GATE.value}
    if given.benchmark_exit not in (None, 0):
        return {**document, "decision": "reject", "reason": SeedReason.BENCHMARK.value}
    return {**document, "decision": "deploy", "reason": "ok"}


def _preset(given: SeedInputs) -> Preset:
    return PRESETS[given.growth] if given.preset is None else Preset(*given.preset)


def _tasks_decide(given: SeedInputs) -> bool:
    """Tasks decide only in the band weak_signal, and only where tasks were run."""
    has_tasks = bool(given.baseline_tasks) or bool(given.force_run_error)
    if not has_tasks and not given.baseline_per_example and not given.static_failures:
        raise ValueError("there is neither a judge's score nor a task to decide by")
    return has_tasks and (given.closed_loop == "always" or given.band is Band.WEAK_SIGNAL)


def _head(given: SeedInputs, growth: float, preset: Preset, ceiling: int) -> dict[str, Any]:
    reason = {"reason_synthetic": "preflight_skipped"} if given.band is None else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "decision": None,
        "reason": None,
        "decision_rule_used": None,
        "decision_signal": "synthetic",
        "growth_pct": growth,
        "required_improvement": None,
        "baseline_chars": given.baseline_chars,
        "evolved_chars": given.evolved_chars,
        "absolute_char_ceiling": preset.ceiling_chars,
        "effective_absolute_char_ceiling": ceiling,
        "growth_free_threshold": preset.free,
        "growth_quality_slope": preset.slope,
        "gate_mode": given.growth.value,
        "inferiority_tolerance": given.inferiority_tolerance,
        "baseline_per_example": list(given.baseline_per_example),
        "evolved_per_example": list(given.evolved_per_example),
        "avg_baseline": _mean(given.baseline_per_example),
        "avg_evolved": _mean(given.evolved_per_example),
        "bootstrap": {},
        "win_loss": {},
        "failed_constraints": [],
        "messages": [],
        "knee_point": {"applied": False, "reason": "no_detailed_results"},
        "dataset": {},
        "run_inputs": {},
        "benchmark": None if given.benchmark_exit is None else {"exit_code": given.benchmark_exit},
        **reason,
    }


def _judge(given: SeedInputs) -> dict[str, Any]:
    """What the judge's scores give; empty where there are none on one side."""
    before, after = given.baseline_per_example, given.evolved_per_example
    if not before or not after:
        return {}
    if len(before) != len(after):
        raise ValueError("the judge scored different numbers of examples on the two sides")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    found = percentile_bootstrap(
        differences, given.bootstrap_resamples, given.bootstrap_confidence, given.seed
    )
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return {
        "bootstrap": found,
        "win_loss": {
            "n_wins": wins,
            "n_losses": losses,
            "n_ties": len(differences) - wins - losses,
            "worst_regression": min(0.0, *differences),
            "worst_improvement": max(0.0, *differences),
        },
    }


def _task_fields(given: SeedInputs, growth: float) -> dict[str, Any]:
    errored = sorted(t for t, passed in given.evolved_tasks.items() if passed is None)
    gained = sum(p is True for p in given.evolved_tasks.values())
    gained -= sum(p is True for p in given.baseline_tasks.values())
    before, after = _mean(given.baseline_per_example), _mean(given.evolved_per_example)
    sane = None if before is None or after is None else after - before >= -given.synthetic_tolerance
    scored = [p for p in given.baseline_tasks.values() if p is not None]
    judge = given.judge_mean if given.judge_mean is not None else before
    return {
        "baseline_closed_loop_per_example": _cells(given.baseline_tasks),
        "evolved_closed_loop_per_example": _cells(given.evolved_tasks),
        "evolved_closed_loop_errored_tasks": errored,
        "cl_tasks_gained": gained,
        "cl_required_gain": seed_required_tasks(growth),
        "synthetic_sanity_check": {
            "tolerance": given.synthetic_tolerance,
            "baseline_mean": before,
            "evolved_mean": after,
            "passed": sane,
        },
        "evolved_cl_eval_cost_usd": given.evolved_cl_eval_cost_usd,
        "band_trigger_score": {
            "holdout": judge,
            "closed_loop": sum(scored) / len(given.baseline_tasks) if given.baseline_tasks else None,
        },
        "validator_agent_model": given.validator_agent_model,
    }


def _by_tasks(given: SeedInputs, document: Mapping[str, Any], growth: float, ceiling: int) -> Ruling:
    gained, required = int(document["cl_tasks_gained"]), seed_required_tasks(growth)
    sane = document["synthetic_sanity_check"]["passed"]
    messages, failed = [f"{gained:+d} tasks, {required:+d} needed at a growth of {growth:+.0%}"], []
    if gained < required:
        failed.append("closed_loop_gain")
    if sane is False:
        failed.append("synthetic_sanity")
        messages.append(f"the judge's mean fell by more than {given.synthetic_tolerance:g}")
    if given.evolved_chars > ceiling:
        failed.append("absolute_char_ceiling")
        messages.append(f"{given.evolved_chars:,} characters, {ceiling:,} are allowed")
    return Ruling(not failed, "closed_loop_primary", float(required), tuple(messages), tuple(failed))


def _by_judge(
    given: SeedInputs, judge: Mapping[str, Any], growth: float, preset: Preset, ceiling: int
) -> Ruling:
    if not judge:
        raise ValueError("the judge scored no example with both texts")
    found = judge["bootstrap"]
    mean, lower = float(found["mean"]), float(found["lower_bound"])
    required = max(0.0, preset.slope * (growth - preset.free))
    if required > 0:
        rule, ok = "dual_check", mean >= required and lower > 0
        text = f"mean {mean:+.3f}, {required:+.3f} needed; lower bound {lower:+.3f}, above 0 needed"
    elif given.growth is Growth.NON_INFERIORITY:
        rule, ok = "non_inferiority", lower >= -given.inferiority_tolerance
        text = f"lower bound {lower:+.3f}, {-given.inferiority_tolerance:+.3f} needed"
    else:
        rule, ok = "no_regression_only", mean >= 0
        text = f"mean {mean:+.3f}, no loss allowed"
    failed = [] if ok else ["growth_quality"]
    messages = [text]
    if given.evolved_chars > ceiling:
        failed.append("absolute_char_ceiling")
        messages.append(f"{given.evolved_chars:,} characters, {ceiling:,} are allowed")
    return Ruling(not failed, rule, required, tuple(messages), tuple(failed))


def _cells(tasks: Mapping[str, bool | None]) -> list[dict[str, Any]]:
    return [{"task_id": task, "passed": passed} for task, passed in tasks.items()]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
