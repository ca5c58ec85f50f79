"""The tune job: which is the biggest model that this machine can serve, and with which settings?

Each launch is a trial: serve one setting → load points → reading gate. The proposer `race` chooses the next launch from
all Decisions so far: stage 1 takes the models in the operator's order, stage 2 races the settings of the first that
serves. The last trial writes the recommendation down, and its gate derives it again. This file chooses; gates judge.
"""

from __future__ import annotations

from typing import Any

from assay.core.canon import digest
from assay.core.evidence import Artifact
from assay.core.gate import Policy
from assay.core.study import AdapterRef, Budget, GateRef, Step, Study
from assay.core.tuning import ANSWER, LOAD, TRIALS, Budgeted, Model, Pruned, TuningPlan
from assay.core.vocabulary import Verb
from assay.flows._tune.settings import Inert, cells, inert, searched, serve_ref
from assay.flows._tune.spec import ModelRef, TuneLoad, TuneSpec, TuneWorkload
from assay.gates.tuning import RECORD

__all__ = [
    "Inert",
    "ModelRef",
    "TuneLoad",
    "TuneSpec",
    "TuneWorkload",
    "cells",
    "inert",
    "plan",
    "searched",
    "serve_ref",
    "tuning_plan",
]

SCHEMA = "tune/1"
MOST_CELLS = 512


def plan(spec: TuneSpec, source: Artifact, study_id: str) -> Study:
    """The study that a spec describes. References must be resolved, models pinned already."""
    search = tuning_plan(spec)
    return Study(
        id=study_id,
        job="tune",
        name=spec.name,
        question=_question(spec),
        source=source,
        models=tuple(Artifact(path=m.path, digest=m.digest, size_bytes=m.size_bytes) for m in spec.models),
        steps=_steps(spec, search),
        proposer=AdapterRef(kind="race", options=_race(spec, search)),
        apply=spec.apply,
        apply_on_accept=spec.apply_on_accept,
        stop="never",
        tells=(LOAD,),
        answers=ANSWER,
        budget=Budget(disk_bytes=spec.budget.disk_bytes),
        seed=spec.seed,
        spec=spec.to_json(),
    )


def tuning_plan(spec: TuneSpec) -> TuningPlan:
    """The whole search: every model with its settings, and the rule."""
    models = tuple(Model(name=m.name, artifact=m.digest, cells=tuple(cells(spec, m))) for m in spec.models)
    return TuningPlan(
        models=models,
        objective=spec.objective,
        metric="goodput_rps" if spec.service_levels.goodput_frac is not None else "output_tps",
        target_context=spec.contexts[0],
        contexts=tuple(sorted(spec.contexts[1:])),
        levels=spec.service_levels,
        failed_frac=spec.failed_frac,
        race=spec.race,
        budget=Budgeted(max_duration_s=spec.budget.max_duration_s),
        pruned=tuple(Pruned(cell=cell, reason=why) for cell, why in spec.pruned.items()),
        seed=spec.seed,
    )


def _question(spec: TuneSpec) -> str:
    knobs = ", ".join(k.name for k in searched(spec) if len(k.values) > 1)
    which = f"Which of {len(spec.models)} models" if len(spec.models) > 1 else f"Can {spec.models[0].name}"
    best = f", and with which {knobs}" if knobs else ""
    verb = "be served" if len(spec.models) == 1 else "can this machine serve"
    return f"{which} {verb} at {spec.contexts[0]} tokens{best}?"


def _race(spec: TuneSpec, search: TuningPlan) -> dict[str, Any]:
    workload = spec.workload.at(spec.contexts[0], spec.contexts[0], spec.seed)
    told = [*spec.remarks]
    told += [f"{i.knob} {', '.join(map(str, i.dropped))} not searched: {i.reason}" for i in inert(spec)]
    return {
        "plan": search.to_json(),
        "inputs": {
            "workload": digest([workload.to_json(), spec.load.trace_digest])
            if spec.load.trace
            else workload.content_digest,
            "model_bytes": {m.name: m.size_bytes for m in spec.models},
            "model_paths": {m.name: m.path for m in spec.models},
            "remarks": told,
        },
    }


def _steps(spec: TuneSpec, search: TuningPlan) -> tuple[Step, ...]:
    launches = [
        Step(
            name=f"load-{context}",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=AdapterRef(kind="load", options=_load(spec, context)),
            served=True,
            produces=LOAD,
            phase=f"load-{context}",
            gates=(_ref("reading", search, f"reading-{context}"),),
        )
        for context in spec.contexts
    ]
    return (
        *launches,
        Step(name="recommend", verb=Verb.BUILD, subject="candidate", phase=ANSWER),
        Step(
            name="record",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=AdapterRef(kind="tuning"),
            produces=RECORD,
            phase=ANSWER,
        ),
        Step(
            name="launches",
            verb=Verb.EVALUATE,
            subject="study",
            produces=TRIALS,
            phase=ANSWER,
            gates=(_ref("tuning", search),),
        ),
    )


def _load(spec: TuneSpec, context: int) -> dict[str, Any]:
    return {
        "points": [p.to_json() for p in spec.load.points()],
        "workload": spec.workload.at(context, spec.contexts[0], spec.seed).to_json(),
        "service_levels": spec.service_levels.to_json(),
        "request_timeout_s": spec.load.request_timeout_s,
        "stop_when_infeasible": True,
        "failed_frac": spec.failed_frac,
        **({"trace": spec.load.trace} if spec.load.trace else {}),
    }


def _ref(name: str, policy: Policy, label: str = "") -> GateRef:
    return GateRef(gate=name, policy=policy.to_json(), label=label)
