"""`assay plan` of a train study: what would be trained, what ends it, and which gain could be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from assay.core.evidence import Artifact
from assay.core.ports import Component
from assay.flows.train import TrainSpec, improvement_policy, plan
from assay.gates.improvement import RECIPE_SEEDS
from assay.report.console import result_console
from assay.stats.paired_t import provable_gain


def describe(spec: TrainSpec, source: Artifact, components: list[tuple[str, Component]]) -> dict[str, Any]:
    """The plan as JSON: `schema: plan-train/1`."""
    study = plan(spec, source, f"{spec.name}-(next)")
    policy = improvement_policy(spec)
    seeds = len(spec.seeds)
    alpha = policy.alpha / policy.comparisons
    recipe = seeds >= RECIPE_SEEDS
    return {
        "schema": "plan-train/1",
        "question": study.question,
        "source": source.to_json(),
        "metric": spec.metric.to_json(),
        "seeds": list(spec.seeds),
        "propose": spec.propose.kind,
        "steps": [
            {
                "name": s.name,
                "verb": s.verb.value,
                "subject": s.subject,
                "seed": s.seed,
                "until": s.until,
                "gates": [g.name for g in s.gates],
            }
            for s in study.steps
        ],
        "components": [{"where": where, **c.to_json()} for where, c in components],
        "trainings": {
            "baseline": seeds,
            "candidate_at_least": 1,
            "candidate_at_most": seeds,
            "study_at_most": None if spec.budget.trials is None else seeds * spec.budget.trials,
        },
        "deciding": {
            "claim": "recipe" if recipe else "checkpoint",
            "min_gain": policy.min_gain,
            "alpha": policy.alpha,
            "comparisons": policy.comparisons,
            "alpha_each": alpha,
            "provable_gain_sds": provable_gain(seeds, alpha, policy.power) if recipe else None,
            "power": policy.power,
        },
        "stop": spec.stop.to_json(),
        "advance_tier": spec.advance_tier,
        "budget": spec.budget.to_json(),
        "changes": _changes(spec),
    }


def _changes(spec: TrainSpec) -> list[str]:
    made = [
        ".assay/ (here, or the nearest above): ledger, evidence, experiments with their checkpoints, logs"
    ]
    target = spec.apply.options.get("path")
    if target:
        when = "at the end, if the best may advance" if spec.apply_on_accept else "by `assay apply`"
        made.append(f"{target} is created {when}")
    return made


def print_plan(told: Mapping[str, Any], console: Console | None = None) -> None:
    """The plan for people."""
    console = console or result_console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    metric, counts, budget = told["metric"], told["trainings"], told["budget"]
    say(told["question"], "bold")
    say(f"\nEach candidate ({told['propose']}), from the best one before it:")
    for step in told["steps"]:
        does = "train" if step["verb"] == "build" else "read" if step["subject"] == "candidate" else "look"
        seed = f" seed {step['seed']}" if step["seed"] is not None else ""
        gates = f" → {', '.join(step['gates'])}" if step["gates"] else ""
        skipped = f"  (not after {step['until']} has decided)" if step["until"] else ""
        say(f"  {step['name']:<16} {does}{seed}{gates}{skipped}")
    most = "" if counts["study_at_most"] is None else f", {counts['study_at_most']} in the whole study"
    say(
        f"\nTrainings: the baseline {counts['baseline']}, a candidate {counts['candidate_at_least']} to "
        f"{counts['candidate_at_most']}{most} at most"
    )
    _say_deciding(say, told["deciding"], metric["name"], len(told["seeds"]))
    tiers = ", ".join(f"{t} {metric[t]:g}" for t in ("floor", "goal", "stretch") if metric[t] is not None)
    way = "higher" if metric["direction"] == "max" else "lower"
    say(
        f"Tiers of {metric['name']} ({way} is better): {tiers or 'none'}; may advance from {told['advance_tier']} on"
    )
    if not tiers:
        say("  nobody said what is good enough: the study will end with NEEDS_HUMAN", "yellow")
    stop = told["stop"]
    rules = [
        f"tier {stop['tier']}" if stop["tier"] else "",
        f"{stop['plateau_trials']} in a row without progress" if stop["plateau_trials"] else "",
        f"{stop['dead_end_trials']} repeated proposals" if stop["dead_end_trials"] else "",
        stop["file"] or "a file STOP in the study's folder",
    ]
    say("Ends at: " + "; ".join(r for r in rules if r))
    used = {k: v for k, v in budget.items() if v is not None}
    say("Budget: " + (", ".join(f"{k} {v:g}" for k, v in used.items()) or "none"))
    say("Changes: " + "; ".join(told["changes"]))
    for c in told["components"]:
        if c["state"] != "ready":
            say(f"{c['state']}: {c['verb']} {c['kind']} ({c['where']}): {c['detail']}", "yellow")


def _say_deciding(say: Any, deciding: Mapping[str, Any], metric: str, seeds: int) -> None:
    if deciding["claim"] == "checkpoint":
        say(
            f"Deciding: {seeds} seed{'s' if seeds != 1 else ''}: the claim is about the checkpoint only; "
            f"{RECIPE_SEEDS} are needed for one about the recipe",
            "yellow",
        )
        return
    say(
        f"Deciding: a gain of {metric} above {deciding['min_gain']:g} by t on {seeds} paired seeds; false keeps at most "
        f"{deciding['alpha']:.1%} over {deciding['comparisons']} comparisons ({deciding['alpha_each']:.2%} each)"
    )
    say(
        f"  shown with {deciding['power']:.0%}: a gain of {deciding['provable_gain_sds']:.1f} standard deviations of a "
        "paired difference"
    )
