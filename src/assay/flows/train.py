"""The train job: does a change of a recipe make the model better, and may the best one advance?

The configuration as it stands is trained first, with every seed. Then each proposed change of the best recipe so far:
setup → train (first seed) → training gate → a first look of the improvement gate → further seeds, each through the
training gate → improvement gate → Decision. What is kept is the next parent. This file chooses; the gates judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from assay.core.base import Noun, SpecPath
from assay.core.evidence import Artifact
from assay.core.experiment import PrimaryMetric, Thresholds, Tier
from assay.core.gate import Policy
from assay.core.proposal import Idea, Template
from assay.core.study import AdapterRef, Budget, GateRef, Step, StopRules, Study, flat_ref
from assay.core.vocabulary import Direction, Verb
from assay.gates.improvement import CANDIDATE, PARENT, RECIPE_SEEDS, ImprovementPolicy
from assay.gates.setup import SetupPolicy
from assay.gates.training import TrainingPolicy

__all__ = ["Metric", "Stopping", "TrainSpec", "plan"]

SCHEMA = "train/1"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _seeds(value: Any) -> Any:
    """`seeds: 5` is short for 0 to 4."""
    if isinstance(value, list):
        return tuple(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return tuple(range(value)) if whole and 0 < value <= 1000 else value


class Metric(Noun):
    """The metric that counts, and what of it is good enough."""

    name: str = Field(min_length=1)
    """As the script logs it, or as the test evaluation writes it."""
    direction: Literal["min", "max"]
    """Which way it gets better."""
    floor: float | None = None
    """Below it nothing may advance."""
    goal: float | None = None
    """What is wanted: a kept candidate that reaches it ends the study."""
    stretch: float | None = None
    """What would be better still."""
    others: Mapping[str, Literal["min", "max"]] = Field(default_factory=dict)
    """Directions of further metrics, for best values and alerts."""

    @property
    def primary(self) -> PrimaryMetric:
        """In the words of the experiments."""
        direction = Direction.HIGHER if self.direction == "max" else Direction.LOWER
        limits = Thresholds(floor=self.floor, goal=self.goal, stretch=self.stretch)
        return PrimaryMetric(name=self.name, direction=direction, thresholds=limits)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        disorder = self.primary.thresholds.disorder(self.primary.direction or Direction.HIGHER)
        if disorder:
            raise ValueError(disorder)
        return self


class Stopping(Noun):
    """When the iterations end. Whether the best one may advance is another question: see `advance_tier`."""

    tier: Literal["floor", "goal", "stretch"] | None = "goal"
    """A kept candidate of this tier ends the study; null = a tier ends nothing."""
    plateau_trials: int | None = Field(default=5, gt=0)
    """So many candidates in a row without progress end it; null = no such rule."""
    plateau_sds: float = Field(default=1.0, ge=0)
    """Progress is a kept candidate that is better than the last progress by more than so many standard deviations
    of the seeds, as measured in the study."""
    dead_end_trials: int | None = Field(default=3, gt=0)
    """So many proposals in a row that repeat earlier ones, in hypothesis and configuration, end it."""
    same_text: float = Field(default=0.9, gt=0, le=1)
    """Share of equal words from which on a hypothesis was stated before."""
    same_value_frac: float = Field(default=0.05, ge=0)
    """Numbers that differ by no more than this share are the same setting."""
    file: str = ""
    """A file by which a person ends the study; empty = `STOP` in the study's folder."""


class TrainSpec(Noun):
    """The whole question, as one YAML file."""

    schema_: Literal["train/1"] = Field(alias="schema")
    """Version of this format."""
    name: str = Field(default="train", pattern=NAME)
    """Name of the study; ids are made from it."""
    source: SpecPath
    """The training code, a file or a folder: pinned, so that all candidates are trained by the same."""
    train: AdapterRef
    """`{kind: train, command: [...]}`: how one experiment is trained."""
    config: Mapping[str, Any] = Field(default_factory=dict)
    """The configuration that the study begins with. The command finds it as a JSON file, with the seed in it."""
    hypothesis: str = Field(default="The configuration as it stands: what others must beat.", min_length=1)
    """Of the first experiment."""
    metric: Metric
    """The metric that counts."""
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        default=tuple(range(RECIPE_SEEDS)), min_length=1
    )
    """Seeds of each recipe, or how many. With fewer than 5 a verdict is about the checkpoint only."""
    propose: AdapterRef = AdapterRef(kind="patches")
    """Where candidates come from: `patches` (a list), `optuna`, or `command` (any agent)."""
    evaluate: AdapterRef = AdapterRef(kind="experiment")
    """`{kind: experiment, command: [...]}` evaluates the best checkpoint on test data; without a command the
    training's own evaluation counts."""
    setup: SetupPolicy = SetupPolicy()
    """Limits of the setup gate."""
    training: TrainingPolicy = TrainingPolicy(tier="told")
    """What each training must show. How good it is, is the improvement gate's question, and the study's at its end."""
    improvement: ImprovementPolicy = ImprovementPolicy()
    """What a gain must be, and how surely."""
    stop: Stopping = Stopping()
    """When the iterations end."""
    advance_tier: Literal["floor", "goal", "stretch"] = "floor"
    """Lowest tier at which the best candidate may advance; below it, or without thresholds, a person is asked."""
    apply: AdapterRef = AdapterRef(kind="none")
    """What happens at the end to the best candidate, if it may advance."""
    apply_on_accept: bool = True
    """False leaves the application to `assay apply`."""
    budget: Budget = Budget(trials=10, failures=5)
    """What the study may use: trials, failures, wall time, disk, cost."""
    seed: int = 0
    """Seed of everything else that draws random numbers."""

    _flat = field_validator("train", "propose", "evaluate", "apply", mode="before")(flat_ref)

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed counts once")
        return seeds


def plan(spec: TrainSpec, source: Artifact, study_id: str) -> Study:
    """The study that a spec describes. Adapter references must be resolved already."""
    primary = spec.metric.primary
    template = Template(
        source=source.digest,
        build=_build(spec),
        baseline=Idea(name="baseline", hypothesis=spec.hypothesis),
        metric=primary,
    )
    proposer = AdapterRef(
        kind=spec.propose.kind, options={**spec.propose.options, "template": template.to_json()}
    )
    return Study(
        id=study_id,
        job="train",
        name=spec.name,
        question=_question(spec, source),
        source=source,
        steps=_steps(spec),
        proposer=proposer,
        apply=spec.apply,
        apply_on_accept=spec.apply_on_accept,
        stop="never",
        stopping=_rules(spec),
        inherits={PARENT: CANDIDATE},
        budget=spec.budget,
        seed=spec.seed,
        spec=spec.to_json(),
    )


def improvement_policy(spec: TrainSpec) -> ImprovementPolicy:
    """The contract of each comparison.

    Every candidate after the first is another chance to be kept by luck: the error rate is shared, unless declared.
    """
    policy = spec.improvement.model_copy(update={"seeds": len(spec.seeds)})
    if "comparisons" in spec.improvement.model_fields_set:
        return policy
    return policy.model_copy(update={"comparisons": comparisons(spec)})


def comparisons(spec: TrainSpec) -> int:
    """Candidates at most that are compared with the best one before them."""
    listed = spec.propose.options.get("patches") if spec.propose.kind == "patches" else None
    most = [len(listed)] if isinstance(listed, list | tuple) else []
    most += [spec.budget.trials - 1] if spec.budget.trials is not None else []
    return max(1, min(most, default=1))


def _question(spec: TrainSpec, source: Artifact) -> str:
    name = PurePath(source.path).name or source.path
    way = "higher" if spec.metric.direction == "max" else "lower"
    return f"Which change of {name} gives a {way} {spec.metric.name}, and may the best one advance?"


def _build(spec: TrainSpec) -> AdapterRef:
    metric = spec.metric
    limits = {t.value: v for t, v in metric.primary.thresholds.declared}
    options = {
        **spec.train.options,
        "config": dict(spec.config),
        "metric": metric.name,
        "direction": metric.direction,
        "thresholds": limits,
        "directions": dict(metric.others),
    }
    return AdapterRef(kind=spec.train.kind, options=options)


def _rules(spec: TrainSpec) -> StopRules:
    stop = spec.stop
    return StopRules(
        metric=spec.metric.primary,
        reads=CANDIDATE,
        stop_tier=Tier(stop.tier) if stop.tier is not None else None,
        advance_tier=Tier(spec.advance_tier),
        plateau_trials=stop.plateau_trials,
        plateau_sds=stop.plateau_sds,
        dead_end_trials=stop.dead_end_trials,
        same_text=stop.same_text,
        same_value_frac=stop.same_value_frac,
        stop_file=stop.file,
    )


def _steps(spec: TrainSpec) -> tuple[Step, ...]:
    first, *others = spec.seeds
    steps = [
        Step(
            name="setup",
            verb=Verb.EVALUATE,
            subject="machine",
            produces="machine",
            gates=(_ref("setup", spec.setup),),
        ),
        *_trained(spec, first, "", ""),
    ]
    if others:
        steps.append(_compared(spec, "look", ""))
    for seed in others:
        steps += _trained(spec, seed, f"-seed-{seed}", "improvement")
    steps.append(_compared(spec, "compare", "improvement" if others else ""))
    return tuple(steps)


def _trained(spec: TrainSpec, seed: int, suffix: str, until: str) -> tuple[Step, Step]:
    """Training with one seed, and its record judged."""
    role = f"candidate.experiment{suffix}"
    told = spec.training if "tier" in spec.training.model_fields_set else _told(spec.training)
    gate = _ref("training", told, f"training{suffix}", {"experiment": role})
    return (
        Step(name=f"train{suffix}", verb=Verb.BUILD, subject="candidate", seed=seed, until=until),
        Step(
            name=f"record{suffix}",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=spec.evaluate,
            produces=role,
            seed=seed,
            until=until,
            gates=(gate,),
        ),
    )


def _told(policy: TrainingPolicy) -> TrainingPolicy:
    """A candidate below the floor may still be the best so far: whether it may advance is asked at the end."""
    return policy.model_copy(update={"tier": "told"})


def _compared(spec: TrainSpec, name: str, until: str) -> Step:
    """The runs so far, against those of the best recipe before."""
    every = AdapterRef(kind=spec.evaluate.kind, options={**spec.evaluate.options, "all_seeds": True})
    return Step(
        name=name,
        verb=Verb.EVALUATE,
        subject="candidate",
        adapter=every,
        produces=CANDIDATE,
        until=until,
        gates=(_ref("improvement", improvement_policy(spec)),),
    )


def _ref(name: str, policy: Policy, label: str = "", reads: Mapping[str, str] | None = None) -> GateRef:
    return GateRef(gate=name, policy=policy.to_json(), label=label, reads=reads or {})
