"""The release job: is this quantized checkpoint what it claims to be, and no worse than its source?

Setup → for each recipe of the ladder: build → checkpoint gate → baseline evaluation → results gate → candidate
evaluation → results gate → comparability gate → compare gate → Decision → apply. This file chooses; the gates judge.
"""

from __future__ import annotations

from typing import Any

from assay.core import hub
from assay.core.candidate import Candidate
from assay.core.evidence import Artifact
from assay.core.study import AdapterRef, Step, Study
from assay.core.vocabulary import Verb
from assay.flows._release.evaluation import confirmation, evaluation, gate_ref, more
from assay.flows._release.spec import Recipe, ReleaseSpec, Selection, Sequential
from assay.gates.contract import ContractPolicy

__all__ = ["Recipe", "ReleaseSpec", "Selection", "Sequential", "more", "plan"]

SCHEMA = "release/1"


def plan(spec: ReleaseSpec, source: Artifact, study_id: str, *, exploratory: str = "") -> Study:
    """The study that a spec describes. Adapter references must be resolved already.

    Args:
        spec: the spec.
        source: the baseline, pinned.
        study_id: its id.
        exploratory: what of the contract was changed after results of its samples were seen; it cannot accept then.
    """
    return Study(
        id=study_id,
        job="release",
        name=spec.name,
        question=_question(spec, source),
        source=source,
        steps=_steps(spec),
        confirm=confirmation(spec),
        final_gates=(gate_ref("contract", ContractPolicy()),) if exploratory else (),
        exploratory=exploratory,
        proposer=AdapterRef(kind="ladder", options={"candidates": _ladder(spec, source)}),
        apply=spec.apply,
        apply_on_accept=spec.apply_on_accept,
        stop=spec.stop,
        budget=spec.budget,
        seed=spec.seed,
        spec=spec.to_json(),
    )


def _question(spec: ReleaseSpec, source: Artifact) -> str:
    recipes = (
        f"Which of {len(spec.recipes)} recipes" if len(spec.recipes) > 1 else f"May {spec.recipes[0].name}"
    )
    name = hub.title(source.path)
    return f"{recipes} for {name} {'may be' if len(spec.recipes) > 1 else 'be'} published?"


def _ladder(spec: ReleaseSpec, source: Artifact) -> list[dict[str, Any]]:
    candidates = [
        Candidate(name=r.name, parent=source.digest, build=r.build, serve=r.serve, intent=r.intent)
        for r in spec.recipes
    ]
    return [c.to_json() for c in candidates]


def _steps(spec: ReleaseSpec) -> tuple[Step, ...]:
    inspect = AdapterRef(kind="checkpoint")
    return (
        Step(
            name="setup",
            verb=Verb.EVALUATE,
            subject="machine",
            produces="machine",
            gates=(gate_ref("setup", spec.setup),),
        ),
        Step(
            name="inspect-source",
            verb=Verb.EVALUATE,
            subject="source",
            adapter=inspect,
            produces="source.checkpoint",
            shared=True,
        ),
        Step(name="build", verb=Verb.BUILD, subject="candidate"),
        Step(
            name="inspect",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=inspect,
            produces="candidate.checkpoint",
            gates=(gate_ref("checkpoint", spec.checkpoint),),
        ),
        *evaluation(spec),
    )
