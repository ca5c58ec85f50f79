"""The release job: is this quantized checkpoint what it claims to be, and no worse than its source?

Setup → for each recipe of the ladder: build → checkpoint gate → baseline evaluation → results gate → candidate
evaluation → results gate → comparability gate → compare gate → Decision → apply. This file chooses; the gates judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.evidence import Artifact
from assay.core.study import AdapterRef, Budget, GateRef, Step, Study
from assay.core.vocabulary import Verb
from assay.gates.checkpoint import CheckpointPolicy
from assay.gates.comparability import ComparabilityPolicy
from assay.gates.compare import ComparePolicy
from assay.gates.external import ExternalPolicy
from assay.gates.results import ResultsPolicy
from assay.gates.setup import SetupPolicy

SCHEMA = "release/1"


def _flat_ref(value: Any) -> Any:
    """`{kind: x, a: 1}` as people write it → kind and options."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Mapping) and "kind" in value and "options" not in value:
        return {"kind": value["kind"], "options": {k: v for k, v in value.items() if k != "kind"}}
    return value


class Recipe(Noun):
    """One rung of the ladder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What people call it; also the name of its folder."""
    build: AdapterRef
    """`{kind: ..., options...}`: which toolkit makes the artifact, and how."""
    serve: AdapterRef | None = None
    """Serving of this recipe and of its baseline, where it differs from the study's."""
    intent: Mapping[str, Any] = Field(default_factory=dict)
    """What the recipe promises, where its build kind cannot tell: `recipe`, `ignore`, `targets`."""

    _flat = field_validator("build", "serve", mode="before")(_flat_ref)


class ReleaseSpec(Noun):
    """The whole question, as one YAML file."""

    schema_: Literal["release/1"] = Field(alias="schema")
    """Version of this format."""
    name: str = Field(default="release", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the study; ids are made from it."""
    source: SpecPath
    """Checkpoint folder that the recipes start from: the baseline."""
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    """The ladder, tried in this order."""
    stop: Literal["first_accept", "never"] = "first_accept"
    """`first_accept` ends the ladder at the first recipe that may be published; `never` tries all."""
    serve: AdapterRef
    """How source and candidates are served while they are evaluated."""
    evaluate: AdapterRef
    """Which harness asks which questions."""
    expected_samples: Mapping[str, int] = Field(default_factory=dict)
    """Task → number of samples it must have scored. Also what `assay plan` computes the power from."""
    setup: SetupPolicy = SetupPolicy()
    """Limits of the setup gate."""
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    """Limits of the checkpoint gate."""
    comparability: ComparabilityPolicy = ComparabilityPolicy()
    """Which differences between the two evaluations are declared."""
    compare: ComparePolicy = ComparePolicy()
    """The rule that decides: margin, error rates, guards."""
    external: ExternalPolicy | None = None
    """Published scores of the source, to see that the baseline is sane."""
    apply: AdapterRef = AdapterRef(kind="none")
    """What happens to an accepted checkpoint."""
    apply_on_accept: bool = True
    """False leaves the application to `assay apply`."""
    budget: Budget = Budget()
    """What the study may use."""
    seed: int = 0
    """Seed of everything that draws random numbers."""

    _flat = field_validator("serve", "evaluate", "apply", mode="before")(_flat_ref)

    @model_validator(mode="after")
    def _unique_recipes(self) -> ReleaseSpec:
        names = [r.name for r in self.recipes]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"recipe names must differ; twice: {', '.join(twice)}")
        return self


def plan(spec: ReleaseSpec, source: Artifact, study_id: str) -> Study:
    """The study that a spec describes. Adapter references must be resolved already."""
    return Study(
        id=study_id,
        job="release",
        name=spec.name,
        question=_question(spec, source),
        source=source,
        steps=_steps(spec),
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
    name = PurePath(source.path).name or source.path
    return f"{recipes} for {name} {'may be' if len(spec.recipes) > 1 else 'be'} published?"


def _ladder(spec: ReleaseSpec, source: Artifact) -> list[dict[str, Any]]:
    candidates = [
        Candidate(name=r.name, parent=source.digest, build=r.build, serve=r.serve, intent=r.intent)
        for r in spec.recipes
    ]
    return [c.to_json() for c in candidates]


def _steps(spec: ReleaseSpec) -> tuple[Step, ...]:
    inspect = AdapterRef(kind="checkpoint")
    limited = spec.evaluate.options.get("limit") is not None  # what the spec says is declared
    results = ResultsPolicy(expected=spec.expected_samples, limit_declared=limited)
    baseline_gates = [_gate("results", results, "baseline-results", {"results": "baseline.results"})]
    if spec.external is not None:
        baseline_gates.append(_gate("external", spec.external))
    return (
        Step(
            name="setup",
            verb=Verb.EVALUATE,
            subject="machine",
            produces="machine",
            gates=(_gate("setup", spec.setup),),
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
            gates=(_gate("checkpoint", spec.checkpoint),),
        ),
        Step(
            name="baseline",
            verb=Verb.EVALUATE,
            subject="source",
            adapter=spec.evaluate,
            serve=spec.serve,
            served=True,
            produces="baseline.results",
            shared=True,
            gates=tuple(baseline_gates),
        ),
        Step(
            name="evaluate",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=spec.evaluate,
            serve=spec.serve,
            served=True,
            produces="candidate.results",
            gates=(
                _gate("results", results, "candidate-results", {"results": "candidate.results"}),
                _gate("comparability", spec.comparability),
                _gate("compare", _ladder_policy(spec)),
            ),
        ),
    )


def _gate(name: str, policy: Noun, label: str = "", reads: Mapping[str, str] | None = None) -> GateRef:
    return GateRef(gate=name, policy=policy.to_json(), label=label, reads=reads or {})


def _ladder_policy(spec: ReleaseSpec) -> ComparePolicy:
    """Every rung is another chance to accept by luck: the error rate is shared among them, unless declared."""
    if "comparisons" in spec.compare.model_fields_set:
        return spec.compare
    return spec.compare.model_copy(update={"comparisons": len(spec.recipes)})
