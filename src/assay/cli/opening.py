"""From a resolved spec to a study that may be opened: its name, its plan, and what would stand in its way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from assay.cli.load import Spec, components
from assay.core.candidate import Candidate
from assay.core.errors import ComponentMissing, SpecError, UsageError
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.ports import Component
from assay.core.study import Study
from assay.flows import evolve
from assay.flows import train as training
from assay.flows import tune as tuning
from assay.flows.evolve import EvolveSpec
from assay.flows.release import ReleaseSpec, plan
from assay.ledger.home import Home
from assay.ledger.projections import histories


def opened(home: Home, spec: Spec, source: Artifact) -> Study:
    """The study of a spec under the first free name."""
    known = histories(home.ledger.read())
    study = _planned(spec, source, new_id(spec.name, known), known)
    _mention_unfinished(known, study)
    if study.exploratory:
        click.echo(f"note: exploratory, nothing can be accepted: {study.exploratory}", err=True)
    return study


def _planned(spec: Spec, source: Artifact, name: str, known: Mapping[str, StudyHistory]) -> Study:
    """The study that a spec of any job describes."""
    if isinstance(spec, ReleaseSpec):
        return plan(spec, source, name, exploratory=_contract_changed(spec, source, known))
    if isinstance(spec, tuning.TuneSpec):
        return tuning.plan(spec, source, name)
    if isinstance(spec, EvolveSpec):
        return evolve.plan(spec, source, name)
    return training.plan(spec, source, name)


def require_room(spec: Spec, source: Path, folder: Path) -> None:
    """What would stand in the way at the end is said before anything is paid for."""
    if source.resolve() in folder.resolve().parents:
        raise UsageError(
            "the ledger would lie inside the source checkpoint and change it",
            where=str(folder),
            next="move the spec out of that folder, or set ASSAY_HOME",
        )
    fresh = spec.apply_on_accept and spec.apply.kind == "directory"
    target = spec.apply.options.get("path") if fresh else None
    if target is not None and Path(target).exists():
        raise UsageError(
            "it exists already, and a release is never overwritten",
            where=f"apply.path: {target}",
            next="`assay undo` the earlier release, name another `apply.path`, or set `apply_on_accept: false`",
        )


def infeasible(spec: Spec, source: Artifact) -> str | None:
    """Why a study is not worth its first sample, or None."""
    if isinstance(spec, EvolveSpec):
        from assay.gates.deploy import plan_deploy

        refused = plan_deploy(spec.rule, len(spec.suite.confirm)).refused or _too_dear(spec)
        return f"{refused}; --anyway runs it" if refused else None
    if not isinstance(spec, ReleaseSpec) or not spec.expected_samples:
        return None
    from assay.report.plan import describe, infeasible

    deciding = describe(spec, source, [])["deciding"]
    return None if deciding["feasible"] else infeasible(deciding)


def _too_dear(spec: EvolveSpec) -> str:
    """Why the money does not reach for preflight and confirmation; empty if it does."""
    if spec.budget.cost is None or spec.agent.price_per_run is None:
        return ""
    runs = evolve.runs_at_most(spec)
    needed = spec.agent.price_per_run * (runs["preflight"] + runs["confirm"])
    if needed <= spec.budget.cost:
        return ""
    return f"preflight and confirmation may cost {needed:.4g}, more than `budget.cost` {spec.budget.cost:g}"


def require_canary(spec: EvolveSpec) -> None:
    """Refuse what the preflight would refuse after it was paid for.

    Raises:
        SpecError: if no task is a canary and one is required.
    """
    if not spec.suite.canaries and (spec.preflight.require_canary or spec.deploy.require_canary):
        raise SpecError(
            "no task is marked `canary`: nothing would prove that the text reaches the agent",
            where="suite",
            next="mark a task that cannot be passed without the text, or set both `preflight.require_canary` and "
            "`deploy.require_canary` to false",
        )


def _contract_changed(spec: ReleaseSpec, source: Artifact, known: Mapping[str, StudyHistory]) -> str:
    """What differs from the contract of an earlier study of the same candidates, whose results were seen."""
    mine = plan(spec, source, "next")
    keys = {Candidate.from_json(c).key for c in mine.proposer.options["candidates"]}
    for history in known.values():
        other = history.study
        if other.job != mine.job or other.source.digest != source.digest:
            continue
        asked = ReleaseSpec.from_json(other.spec).evaluate
        seen = any(t.candidate.key in keys and "compare" in t.gates for t in history.trials.values())
        if not seen or asked != spec.evaluate:
            continue
        changes = _differences(_contract(other), _contract(mine))
        if changes:
            return f"{changes} after {other.id} had shown results of the same recipe on the same items"
    return ""


def _contract(study: Study) -> Mapping[str, Any]:
    """What decides: the rule, how many candidates share its error rate, the guards' planning, and the order of items."""
    policy = next(g.policy for g in study.gates if g.gate == "compare")
    return {**policy, "seed": study.seed}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    changed = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
    told = [k if k == "looks" else f"{k} {before.get(k)} → {after.get(k)}" for k in changed]
    return f"changed: {', '.join(told)}" if told else ""


def new_id(name: str, known: dict[str, StudyHistory]) -> str:
    """The first free id of a study of that name."""
    number = 1
    while f"{name}-{number}" in known:
        number += 1
    return f"{name}-{number}"


def _mention_unfinished(known: dict[str, StudyHistory], study: Study) -> None:
    for other in known.values():
        same = other.study.spec == study.spec and other.study.source.digest == study.source.digest
        if same and other.closed is None:
            name = other.study.id
            click.echo(
                f"note: {name} asks the same and is unfinished; `assay resume {name}` goes on with it",
                err=True,
            )


def require_components(spec: Spec) -> None:
    """Refuse to begin where a component is not ready.

    Raises:
        ComponentMissing: naming the first one.
    """
    for where, component in components(spec):
        if component.state != "ready":
            raise ComponentMissing(
                f"{component.verb} kind {component.kind!r} is {component.state}: {component.detail}",
                where=where,
                next=component_help(where, component),
            )


def component_help(where: str, component: Component) -> str:
    """What to do about a component that is not ready."""
    if where == "agent" and component.state == "missing":
        return (
            "install it, or name it by its full path in `agent.command` (`{spec_dir}` is the spec's folder)"
        )
    return "`assay doctor` lists all kinds"
