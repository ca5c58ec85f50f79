"""Is there a result, may it be believed, is it good enough, and does the model that reached it still exist?"""

from __future__ import annotations

from collections.abc import Iterator

from assay.core.experiment import CheckpointRecord, Experiment, PrimaryMetric, Tier
from assay.core.experiment_result import best, gain, primary_of, recorded_values, tier_of
from assay.core.experiment_state import hex_of
from assay.core.vocabulary import State
from assay.gates._training.item import Item, Lack, cause, some
from assay.gates._training.policy import TrainingPolicy

RESULT, EVENTS, CHECKPOINTS = "result.md", "events.jsonl", "checkpoints"
LEVELS = {"digest": {"digest", "restore"}, "restore": {"restore"}}
FAILING_CLAIMS = frozenset({"fail"})


def check(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    """All items about the result and the checkpoints."""
    yield from _result(experiment)
    yield from _checkpoints(experiment, policy)
    plan = experiment.plan.primary
    if plan is None or plan.direction is None:
        wrong = "; ".join(experiment.plan.problems)
        text = wrong or "the plan declares no primary metric" + (
            " with a direction" if plan is not None else ""
        )
        likely = "primary_metric= and direction= were not given when the experiment was made"
        yield Item("primary", cause(text, likely), Lack.MISSING, EVENTS)
        return
    if experiment.plan.problems:
        yield Item("plan", "; ".join(experiment.plan.problems[:2]), Lack.MISSING, EVENTS)
    yield from _primary(experiment, plan, policy)
    yield from _tier(experiment, plan, policy)


def _result(experiment: Experiment) -> Iterator[Item]:
    if experiment.result is None:
        if hex_of(experiment.recorded_result.get("digest")) and experiment.layout == "assay":
            yield Item("result", f"{RESULT} was recorded and is gone", Lack.TAMPERED, RESULT)
        return
    if experiment.result.problems:
        problems = experiment.problems_of(RESULT)
        text = some(problems) or f"{RESULT}: {experiment.result.problems[0]}"
        yield Item("result", f"cannot be used: {text}", Lack.MISSING, RESULT)
        return
    recorded = hex_of(experiment.recorded_result.get("digest"))
    if recorded and recorded != experiment.result.digest:
        yield Item("result", f"{RESULT} was edited after it was recorded", Lack.TAMPERED, RESULT)
        return
    yield Item("result", f"{RESULT} can be read", where=RESULT)


def _primary(experiment: Experiment, plan: PrimaryMetric, policy: TrainingPolicy) -> Iterator[Item]:
    found = primary_of(experiment)
    if found is None:
        if experiment.result is None:
            likely = f"no evaluation logged it and nobody wrote {RESULT}"
            text = cause(f"no value of the primary metric {plan.name!r}", likely)
            yield Item("primary", text, Lack.MISSING, RESULT)
        return
    metric = found.metric
    if metric.name != plan.name:
        text = f"{found.source} gives {metric.name!r}, the plan declares {plan.name!r}"
        yield Item("primary", text, Lack.MISSING, found.source, metric.name, plan.name)
        return
    if metric.state is not State.MEASURED or metric.value is None:
        text = f"{plan.name} is no finite number in {found.source}: {metric.detail or metric.state}"
        yield Item("primary", text, Lack.MISSING, found.source, metric.state.value)
        return
    assert plan.direction is not None
    top = best(recorded_values(experiment, plan.name), plan.direction)
    if top is not None and gain(metric.value, top, plan.direction) > policy.claim_tolerance_frac * max(
        abs(top), 1e-12
    ):
        text = f"{found.source} says {plan.name} = {metric.value:g}, the best that was recorded is {top:g}"
        yield Item("primary", text, Lack.MISSING, found.source, metric.value, top)
        return
    proof = "as recorded" if top is not None else "self-reported: no evaluation recorded it"
    text = f"{plan.name} = {metric.value:g} ({proof})"
    yield Item("primary", text, where=found.source, measured=metric.value)


def _tier(experiment: Experiment, plan: PrimaryMetric, policy: TrainingPolicy) -> Iterator[Item]:
    assert plan.direction is not None
    if disorder := plan.thresholds.disorder(plan.direction):
        yield Item("tier", f"the thresholds contradict each other: {disorder}", Lack.MISSING, EVENTS)
        return
    if not plan.thresholds.declared:
        text = f"the plan sets no threshold for {plan.name}: nobody said what is good enough"
        told = policy.tier == "told"
        yield Item("tier", f"note: {text}" if told else text, None if told else Lack.UNDECIDED, EVENTS)
        return
    tier, found = tier_of(experiment), primary_of(experiment)
    if tier is None or found is None or found.metric.value is None:
        return
    claim = experiment.result.claimed_tier if experiment.result is not None else ""
    if claim and (claim in FAILING_CLAIMS) != (tier is Tier.FAIL):
        text = f"{RESULT} claims tier {claim!r}, the value reaches {tier.value!r}"
        yield Item("claim", text, Lack.MISSING, RESULT, claim, tier.value)
    wanted = policy.advance_tier
    limit = next((v for t, v in plan.thresholds.declared if t.rank >= wanted.rank), None)
    limits = ", ".join(f"{t.value} {v:g}" for t, v in plan.thresholds.declared)
    text = f"{plan.name} = {found.metric.value:g} reaches tier {tier.value} ({limits}; {plan.direction.value} is better)"
    if limit is None:
        text += f"; the plan names no {wanted.value}"
    lack = None if tier.rank >= wanted.rank or policy.tier == "told" else Lack.BELOW
    yield Item("tier", text, lack, found.source, found.metric.value, limit)


def _checkpoints(experiment: Experiment, policy: TrainingPolicy) -> Iterator[Item]:
    if policy.checkpoint == "none":
        yield Item("checkpoint", "note: no checkpoint is asked for", where=CHECKPOINTS)
        return
    records = {c.name: c for c in experiment.checkpoints}
    if not records:
        text = cause("no checkpoint was committed", "run.checkpoint was never called, or every save failed")
        yield Item("checkpoint", text, Lack.MISSING, CHECKPOINTS)
        return
    newest = max(experiment.checkpoints, key=lambda c: c.committed_seq)
    # One that failed its verification keeps its place in the record; the pointers lead past it.
    last = max((c for c in records.values() if not c.failed), key=lambda c: c.committed_seq, default=newest)
    pointers = experiment.facts.get("pointers")
    pointers = dict(pointers) if isinstance(pointers, dict) else {}
    needed = {newest.name: newest}
    for pointer, name in sorted(pointers.items()):
        if name not in records:
            shown = f"{name!r}, which no event committed" if name else "nothing"
            yield Item("checkpoint", f"pointer {pointer} leads to {shown}", Lack.TAMPERED, CHECKPOINTS)
        elif pointer == "last" and name != last.name:
            text = f"pointer last leads to {name}, {last.name} was committed after it"
            yield Item("checkpoint", text, Lack.TAMPERED, CHECKPOINTS)
        else:
            needed[name] = records[name]
    wrong = [(c, lack) for c in needed.values() if (lack := _lack(c, policy))]
    for record, text in wrong:
        yield Item("checkpoint", f"checkpoint {record.name} {text}", Lack.MISSING, record.path or CHECKPOINTS)
    if not wrong:
        names = ", ".join(sorted(needed))
        yield Item("checkpoint", f"verified and as it was written: {names}", where=CHECKPOINTS)


def _lack(record: CheckpointRecord, policy: TrainingPolicy) -> str:
    if record.on_disk in {"missing", "changed", "rotated"}:
        return f"is {record.on_disk}: {record.detail}" if record.detail else f"is {record.on_disk}"
    if record.failed:
        return f"failed its verification: {record.failed}"
    if not LEVELS[policy.checkpoint] & set(record.verified):
        done = ", ".join(record.verified) or "nothing"
        return cause(
            f"is not verified by {policy.checkpoint} (done: {done})", "the process ended before that was done"
        )
    if record.on_disk != "intact":
        return "was not looked at on disk"
    return ""
