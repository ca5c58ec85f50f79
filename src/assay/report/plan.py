"""`assay plan`: what a study would do, what it needs, and what it can prove. Nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.core.evidence import Artifact
from assay.core.ports import Component
from assay.core.sizes import size
from assay.core.study import Step, Study
from assay.flows.release import ReleaseSpec, plan
from assay.gates._compare.looks import planned_items
from assay.gates.compare import ComparePolicy
from assay.report.console import result_console
from assay.stats import certifiable_margin, guard_margin, pairs_needed, power


def describe(spec: ReleaseSpec, source: Artifact, components: list[tuple[str, Component]]) -> dict[str, Any]:
    """The plan as JSON: `schema: plan/1`."""
    study = plan(spec, source, f"{spec.name}-(next)")
    policy = ComparePolicy.model_validate(dict(_compare_policy(study)))
    return {
        "schema": "plan/1",
        "question": study.question,
        "source": source.to_json(),
        "ladder": [r.to_json() for r in spec.recipes],
        "stop": spec.stop,
        "steps": [_step(s) for s in study.steps],
        "components": [{"where": where, **c.to_json()} for where, c in components],
        "deciding": _deciding(policy, spec.expected_samples),
        "disk_bytes": source.size_bytes * (1 + len(spec.recipes)),
        "budget": spec.budget.to_json(),
        "changes": _changes(spec),
    }


def _compare_policy(study: Study) -> Mapping[str, Any]:
    return next(ref.policy for ref in study.gates if ref.gate == "compare")


def _step(step: Step) -> dict[str, Any]:
    adapter = step.adapter.kind if step.adapter else "of the recipe" if step.subject == "candidate" else ""
    return {
        "name": step.name,
        "verb": step.verb.value,
        "subject": step.subject,
        "adapter": adapter,
        "serve": step.serve.kind if step.serve else None,
        "shared": step.shared,
        "gates": [g.name for g in step.gates],
    }


def _deciding(policy: ComparePolicy, samples: Mapping[str, int]) -> dict[str, Any]:
    """The power of the test at zero drop, per task and over all, at the planning flip rate."""
    alpha = policy.alpha_accept / policy.comparisons
    flips = policy.planning_flip_rate
    planned = {task: planned_items(policy, task, n) for task, n in samples.items()}
    total = sum(planned.values())
    needed = pairs_needed(policy.margin, flips, alpha=alpha, power=policy.min_power)
    tasks = [
        {
            "task": task,
            "samples": n,
            "guard_margin": _guard(policy, task, planned[task], alpha),
            "certifiable_margin": certifiable_margin(planned[task], flips, alpha=alpha),
        }
        for task, n in samples.items()
    ]
    chance = power(total, policy.margin, flips, alpha=alpha) if total else None
    return {
        "policy": policy.policy,
        "looks": policy.looks.to_json() if policy.looks else None,
        "min_power": policy.min_power,
        "feasible": chance is None or policy.policy == "point" or chance >= policy.min_power,
        "margin": policy.margin,
        "alpha_accept": policy.alpha_accept,
        "alpha_per_recipe": alpha,
        "planning_flip_rate": flips,
        "samples": sum(samples.values()) or None,
        "samples_needed": ceil(needed) if isfinite(needed) else None,
        "power_at_zero_drop": chance,
        "certifiable_margin": certifiable_margin(total, flips, alpha=alpha) if total else None,
        "tasks": tasks,
    }


def _guard(policy: ComparePolicy, task: str, samples: int, alpha: float) -> float | None:
    """The drop that the compare gate will hold a task to; None = advisory."""
    if task in policy.guards:
        return policy.guards[task]
    if policy.guard != "ladder":
        return policy.guard
    rung = guard_margin(samples, policy.planning_flip_rate, alpha=alpha, power=policy.guard_power)
    return None if rung is None else max(rung, policy.margin)


def _changes(spec: ReleaseSpec) -> list[str]:
    made = [".assay/ (here, or the nearest above): ledger, evidence, artifacts, logs"]
    target = spec.apply.options.get("path")
    if target:
        when = "if a recipe is accepted" if spec.apply_on_accept else "by `assay apply`"
        made.append(f"{target} is created {when}")
    return made


def print_plan(described: Mapping[str, Any], console: Console | None = None) -> None:
    """The plan for people."""
    console = console or result_console()
    console.print(Text(described["question"], style="bold"))
    _print_steps(console, described)
    _print_ladder(console, described)
    _print_deciding(console, described["deciding"])
    console.print(Text(f"\nDisk: about {size(described['disk_bytes'])} for the artifacts"))
    console.print(Text("Changes: " + "; ".join(described["changes"])), soft_wrap=True)
    missing = [c for c in described["components"] if c["state"] != "ready"]
    for c in missing:
        console.print(
            Text(f"{c['state']}: {c['verb']} {c['kind']} ({c['where']}): {c['detail']}", style="yellow")
        )


def _print_steps(console: Console, described: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for name in ("step", "does", "gates"):
        table.add_column(name)
    for step in described["steps"]:
        how = " ".join(x for x in (step["verb"], step["subject"]) if x)
        via = ", ".join(
            x for x in (step["adapter"], f"served by {step['serve']}" if step["serve"] else "") if x
        )
        once = " (once per protocol)" if step["shared"] else ""
        gates = ", ".join(step["gates"])
        table.add_row(step["name"], f"{how}{f' with {via}' if via else ''}{once}", gates)
    console.print(table)


def _print_ladder(console: Console, described: Mapping[str, Any]) -> None:
    how = "the first accepted ends it" if described["stop"] == "first_accept" else "all are judged"
    console.print(Text(f"\nLadder ({how}):"))
    for recipe in described["ladder"]:
        shown = {k: v for k, v in recipe["build"]["options"].items() if v not in (None, [], "auto")}
        options = ", ".join(f"{k}={v}" for k, v in shown.items() if k != "threads")
        console.print(Text(f"  {recipe['name']:<16} {recipe['build']['kind']} {options}"), soft_wrap=True)


def _print_deciding(console: Console, d: Mapping[str, Any]) -> None:
    points = 100 * d["margin"]
    margin = f"{points:g} point{'' if points == 1 else 's'}"
    console.print(
        Text(
            f"\nDeciding by policy {d['policy']}: at most {margin} worse; "
            f"false accepts at most {d['alpha_accept']:.1%} over the ladder ({d['alpha_per_recipe']:.2%} a recipe)"
        )
    )
    rate = f"if {d['planning_flip_rate']:.0%} of the answers flip"
    console.print(Text(f"  pairs needed for that, {rate}: {d['samples_needed']:,}"))
    if d["samples"] is None:
        console.print(Text("  give `expected_samples` to see the power of your tasks", style="dim"))
        return
    if d["looks"]:
        ends = d["looks"]["ends"]
        console.print(
            Text(
                f"  up to {len(ends)} looks ({d['looks']['rule']}), from {ends[0]:,} to {ends[-1]:,} pairs; "
                "it stops when it knows"
            )
        )
    console.print(
        Text(
            f"  you have {d['samples']:,}: chance to accept a perfect candidate {d['power_at_zero_drop']:.0%}; "
            f"they certify {100 * d['certifiable_margin']:.1f} points with 80 %"
        )
    )
    for task in d["tasks"]:
        guard = task["guard_margin"]
        text = (
            f"guarded at {100 * guard:g} points"
            if guard is not None
            else "too few samples for a guard: advisory"
        )
        least = f"certifies {100 * task['certifiable_margin']:.1f} points"
        console.print(Text(f"    {task['task']:<20} {task['samples']:>6,}  {least}; {text}"))
    if not d["feasible"]:
        console.print(Text(infeasible(d), style="yellow"), soft_wrap=True)


def infeasible(d: Mapping[str, Any]) -> str:
    """Why a plan is refused, in one sentence."""
    return (
        f"INFEASIBLE plan: {d['samples']:,} pairs would accept a perfect candidate with a chance of "
        f"{d['power_at_zero_drop']:.0%}, and {d['min_power']:.0%} is asked for. {d['samples_needed']:,} pairs "
        f"or a margin of {100 * d['certifiable_margin']:.1f} points would do; `--anyway` goes on as it is"
    )
