"""`assay plan` of an evolve study: how many agent runs at most, what they cost, and what they could prove."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from assay.core.evidence import Artifact
from assay.core.ports import Component
from assay.flows.evolve import EvolveSpec, plan, runs_at_most, search_cost
from assay.gates.deploy import plan_deploy
from assay.report.console import result_console


def describe(spec: EvolveSpec, source: Artifact, components: list[tuple[str, Component]]) -> dict[str, Any]:
    """The plan as JSON: `schema: plan-evolve/1`."""
    study = plan(spec, source, f"{spec.name}-(next)")
    runs = runs_at_most(spec)
    return {
        "schema": "plan-evolve/1",
        "question": study.question,
        "text": spec.text.to_json(),
        "suite": {k: v for k, v in spec.suite.to_json().items() if not isinstance(v, list | tuple)}
        | {k: len(getattr(spec.suite, k)) for k in ("train", "select", "confirm", "canaries")},
        "agent": {"preset": spec.agent.preset, "model": spec.agent.model, "timeout_s": spec.agent.timeout_s},
        "candidates": [c.path for c in spec.candidates],
        "search": spec.search.to_json() if spec.search else None,
        "runs": runs,
        "longest_s": sum(runs.values()) * spec.agent.timeout_s / spec.agent.parallel,
        "cost": _cost(spec, runs),
        "deciding": plan_deploy(spec.rule, len(spec.suite.confirm)).to_json(),
        "warnings": _warnings(spec),
        "components": [{"where": where, **c.to_json()} for where, c in components],
        "budget": spec.budget.to_json(),
        "changes": _changes(spec),
    }


def _cost(spec: EvolveSpec, runs: Mapping[str, int]) -> dict[str, Any]:
    price = spec.agent.price_per_run
    return {
        "price_per_run": price,
        "at_most": None if price is None else price * sum(runs.values()),
        "cap": spec.budget.cost,
        "search_cap": None if spec.budget.cost is None else search_cost(spec),
    }


def _warnings(spec: EvolveSpec) -> list[str]:
    found = []
    if unset := [n for n in spec.agent.env if n not in os.environ]:
        found.append(f"not set here, though `agent.env` names it: {', '.join(unset)}")
    if not spec.suite.divided:
        found.append(
            "too few tasks to divide: search and confirmation share them, so nothing is said about other tasks"
        )
    if not spec.suite.canaries and (spec.preflight.require_canary or spec.deploy.require_canary):
        found.append(
            "no task is a canary: nothing would prove that the text reaches the agent, so `assay run` refuses"
        )
    if spec.budget.cost is not None and spec.agent.price_per_run and not search_cost(spec) and spec.search:
        found.append("preflight and confirmation may need the whole budget: nothing is left for the search")
    return found


def _changes(spec: EvolveSpec) -> list[str]:
    made = [".assay/ (here, or the nearest above): ledger, evidence, logs, texts"]
    if target := spec.apply.options.get("path"):
        made.append(
            f"the text of {target} {'if it is accepted' if spec.apply_on_accept else 'by `assay apply`'}"
        )
    return made


def print_plan(described: Mapping[str, Any], console: Console | None = None) -> None:
    """The plan for people."""
    console = console or result_console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    suite, runs, cost, deciding = (described[k] for k in ("suite", "runs", "cost", "deciding"))
    text = described["text"]
    say(described["question"], "bold")
    say(f"\nText: {text['kind']} {text['path']}, {text['chars']:,} characters")
    say(
        f"Tasks: {suite['train']} to learn from, {suite['select']} to choose by, {suite['confirm']} that decide, "
        f"{suite['canaries']} canaries"
    )
    for name in described["candidates"]:
        say(f"  to be judged: {name}")
    if described["search"]:
        options = described["search"]["options"]
        say(f"  searched for by {described['search']['kind']}: {options.get('engine', 'own')}")
    say(
        f"\nAgent runs at most: {runs['preflight']:,} before, {runs['search']:,} to search, {runs['confirm']:,} to "
        f"confirm; one takes at most {described['agent']['timeout_s']:g} s"
    )
    say(f"Cost at most: {_money(cost)}")
    say(_deciding(deciding))
    say("Changes: " + "; ".join(described["changes"]))
    for warning in described["warnings"]:
        say(f"warning: {warning}", style="yellow")
    if deciding["refused"]:
        say(f"refused: {deciding['refused']}; --anyway runs it", style="red")
    for c in described["components"]:
        if c["state"] != "ready":
            say(f"{c['state']}: {c['verb']} {c['kind']} ({c['where']}): {c['detail']}", style="yellow")


def _money(cost: Mapping[str, Any]) -> str:
    if cost["at_most"] is None:
        return "unknown, as `agent.price_per_run` is not set"
    capped = ""
    if cost["cap"] is not None:
        capped = f"; capped at {cost['cap']:g}, which leaves at least {cost['search_cap']:g} to the search"
    return f"{cost['at_most']:g} at {cost['price_per_run']:g} a run{capped}"


def _deciding(deciding: Mapping[str, Any]) -> str:
    scope = "on these tasks" if deciding["estimand"] == "fixed_suite" else "on tasks like these"
    looks = ", ".join(map(str, deciding["looks"]))
    told = f"Deciding: better {scope}; looks after {looks} runs of each task and text"
    at, none = deciding["at_gain"], deciding["at_no_gain"]
    if at is None:
        return told
    least = deciding["minimum_detectable_gain"]
    smallest = (
        "no gain is found with the wanted chance" if least is None else f"smallest gain it finds: {least:.2f}"
    )
    return (
        f"{told}\n  a gain of {at['gain']:.2f} is found with a chance of {at['power']:.0%} "
        f"({at['mean_runs']:,.0f} runs on average); {smallest}\n  a text that is no better is deployed with a chance of "
        f"{none['power']:.1%}, and found out after {none['mean_runs']:,.0f} runs on average"
    )
