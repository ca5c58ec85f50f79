"""`assay plan` of a tuning study: what would be launched at most, what is left out before, and what could be proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from assay.core.evidence import Artifact
from assay.core.ports import Component
from assay.core.sizes import size
from assay.flows.tune import TuneSpec, inert, plan, searched, tuning_plan
from assay.report._view.text import duration
from assay.report.console import result_console
from assay.stats.selection import RaceRule, provable_gain, reading_limit

NOISE = 0.1
"""Noise of a reading that the plan reckons with, as a share: what shared machines show."""


def describe(spec: TuneSpec, source: Artifact, components: list[tuple[str, Component]]) -> dict[str, Any]:
    """The plan as JSON: `schema: plan-tune/1`."""
    study = plan(spec, source, f"{spec.name}-(next)")
    search = tuning_plan(spec)
    race = spec.race
    cells = len(search.models[0].cells)
    field = cells * (len(search.models) if spec.objective == "throughput" else 1)
    most = reading_limit(field, RaceRule(readings=race.readings)) if field > 1 else 0
    return {
        "schema": "plan-tune/1",
        "question": study.question,
        "models": [
            {**m.to_json(), "fit": spec.fits.get(m.name, "unknown: not told for this engine")}
            for m in spec.models
        ],
        "objective": spec.objective,
        "engine": spec.engine.kind,
        "contexts": list(spec.contexts),
        "knobs": [k.to_json() for k in searched(spec)],
        "inert": [i.to_json() for i in inert(spec)],
        "pruned": dict(spec.pruned),
        "remarks": list(spec.remarks),
        "conflicts": spec.conflicts,
        "settings": cells,
        "points": [p.arrivals.text for p in spec.load.points()],
        "service_levels": [x.text for x in spec.service_levels.levels],
        "launches": {
            "fit_at_most": len(spec.models),
            "race_at_most": most,
            "contexts": len(spec.contexts) - 1,
        },
        "deciding": {
            "policy": race.policy,
            "eps": race.eps,
            "alpha": race.alpha,
            "blocks": race.looks,
            "provable_gain": provable_gain(race.looks, race.alpha / race.arms, NOISE),
            "noise_frac": NOISE,
        },
        "components": [{"where": where, **c.to_json()} for where, c in components],
        "budget": spec.budget.to_json(),
        "changes": _changes(spec),
    }


def _changes(spec: TuneSpec) -> list[str]:
    made = [".assay/ (here, or the nearest above): ledger, evidence, logs, the recommendation"]
    target = spec.apply.options.get("path")
    if target:
        made.append(f"{target} {'if it is settled' if spec.apply_on_accept else 'by `assay apply`'}")
    return made


def print_plan(described: Mapping[str, Any], console: Console | None = None) -> None:
    """The plan for people."""
    console = console or result_console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    say(described["question"], "bold")
    say(f"\nModels, in this order ({described['objective']}), served by {described['engine']}:")
    for m in described["models"]:
        say(f"  {m['name']:<20} {size(m['size_bytes']):>10}  {m['fit']}")
    say(f"\nSettings: {described['settings']} of the model that is chosen; the first of each is the default")
    for knob in described["knobs"]:
        say(f"  {knob['name']}: {', '.join('unset' if v is None else str(v) for v in knob['values'])}")
    for i in described["inert"]:
        say(
            f"  not searched: {i['knob']} {', '.join(map(str, i['dropped']))} ({i['reason']})", style="yellow"
        )
    for cell, why in described["pruned"].items():
        say(f"  not launched: {cell}: {why}", style="yellow")
    for text in described["remarks"]:
        say(f"  beware: {text}", style="yellow")
    levels = ", ".join(described["service_levels"]) or "no service level"
    say(
        f"\nEach launch: {', '.join(described['points'])}; {levels}; context {described['contexts'][0]} tokens"
    )
    launches, deciding, budget = described["launches"], described["deciding"], described["budget"]
    until = f"; all within {duration(budget['max_duration_s'])}" if budget.get("max_duration_s") else ""
    say(
        f"Launches: at most {launches['fit_at_most']} to find the model, {launches['race_at_most']} to compare "
        f"settings, {launches['contexts']} at other contexts{until}"
    )
    if not launches["race_at_most"]:
        say("Deciding: one setting, so nothing is compared")
    elif deciding["policy"] == "race":
        say(
            f"Deciding by race: the default is left by luck in at most {deciding['alpha']:.0%} of studies; "
            f"{deciding['blocks']} mirrored blocks prove a gain of {deciding['provable_gain']:.0%} with a chance of "
            f"80 % if readings scatter by {deciding['noise_frac']:.0%}"
        )
    else:
        say("Deciding by the source's rule: medians in a band. It knows no noise and proves nothing.")
    say("Changes: " + "; ".join(described["changes"]))
    for c in described["components"]:
        if c["state"] != "ready":
            say(f"{c['state']}: {c['verb']} {c['kind']} ({c['where']}): {c['detail']}", style="yellow")
