"""The evolve job: did this text really make the agent better?

preflight (text as it stands, without text, canary) → build (search, or a given text) → static rules → confirmation in
looks, both texts interleaved on fresh draws → the deploy gate. This file chooses; adapters run, gates judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from assay.core.agent import AGAIN, BASELINE, CANDIDATE, EMPTY, KNOWN_GOOD
from assay.core.candidate import Candidate
from assay.core.canon import digest
from assay.core.evidence import Artifact
from assay.core.gate import Policy
from assay.core.study import AdapterRef, Budget, GateRef, Step, Study
from assay.core.vocabulary import Verb
from assay.flows._evolve.spec import CandidateText, EvolveBudget, EvolveSpec, SuiteRef, TextRef
from assay.flows._evolve.splits import Splits, divided
from assay.gates.ablation import AblationPolicy

__all__ = [
    "CandidateText",
    "EvolveBudget",
    "EvolveSpec",
    "Splits",
    "SuiteRef",
    "TextRef",
    "ablation",
    "calibration",
    "candidates",
    "divided",
    "plan",
    "runs_at_most",
    "search_cost",
]

SCHEMA = "evolve/1"
RUNS = "candidate.runs"
SOURCE_RUNS = "source.runs"
TEXT = "candidate.text"
CANARY_REPEATS = 2
"""Runs of a canary with each text in each step: an agent that fails one by chance has not missed the text."""


def plan(spec: EvolveSpec, source: Artifact, study_id: str) -> Study:
    """The study that a spec describes. References must be resolved, text and suite pinned already."""
    found = candidates(spec, source)
    return Study(
        id=study_id,
        job="evolve",
        name=spec.name,
        question=_question(spec),
        source=source,
        steps=(_setup(spec), _preflight(spec), *_candidate_steps(spec)),
        proposer=AdapterRef(kind="ladder", options={"candidates": [c.to_json() for c in found]}),
        apply=spec.apply,
        apply_on_accept=spec.apply_on_accept,
        stop="never",
        budget=Budget(wall_time_s=spec.budget.wall_time_s, disk_bytes=spec.budget.disk_bytes),
        seed=spec.seed,
        spec=spec.to_json(),
    )


def calibration(spec: EvolveSpec, source: Artifact, study_id: str) -> Study:
    """A/A: the text against itself on the deciding tasks. What differs is the suite's own noise."""
    agent = _agent(spec, arms=(BASELINE, AGAIN), last=spec.repeats, canaries=True)
    gate = _ref("preflight", spec.beginning.model_copy(update={"force": True, "require_empty": False}))
    question = f"How much does {spec.name}'s suite differ from itself?"
    return _measuring(spec, source, study_id, Measured("calibrate", "noise", question, agent, gate))


def ablation(spec: EvolveSpec, source: Artifact, study_id: str, parts: Sequence[tuple[str, str]]) -> Study:
    """What each section earns: the whole text against the text without one of them, all interleaved.

    Args:
        spec: resolved.
        source: the text as it stands.
        study_id: of the study.
        parts: title of each section, and the text without it.
    """
    texts = {f"without-{i}": text for i, (_, text) in enumerate(parts, 1)}
    policy = AblationPolicy(
        sections={f"without-{i}": title for i, (title, _) in enumerate(parts, 1)}, alpha=spec.deploy.alpha
    )
    agent = _agent(spec, arms=(BASELINE, *texts), last=spec.repeats, canaries=False, texts=texts)
    question = f"What does each of {len(parts)} sections of {_called(spec)} earn?"
    return _measuring(
        spec, source, study_id, Measured("ablate", "parts", question, agent, _ref("ablation", policy))
    )


def candidates(spec: EvolveSpec, source: Artifact) -> tuple[Candidate, ...]:
    """What is judged: the given texts, then what a search finds."""
    where = {"text_kind": spec.text.kind, "name": spec.text.name}
    given = [
        Candidate(
            name=c.name or c.path.rstrip("/").rpartition("/")[2],
            parent=source.digest,
            build=AdapterRef(kind="text", options={**where, "path": c.path}),
        )
        for c in spec.candidates
    ]
    if spec.search is None:
        return tuple(given)
    options = {
        **where,
        **spec.search.options,
        "suite": spec.suite.path,
        "suite_digest": spec.suite.digest,
        "tasks_train": spec.suite.train,
        "tasks_select": spec.suite.select,
        "agent": spec.agent.to_json(),
        "seed": spec.seed,
    }
    if spec.budget.cost is not None:
        options["study_cost"] = spec.budget.cost
        options["confirming_runs"] = runs_at_most(spec)["confirm"] // spec.judged
    search = AdapterRef(kind=spec.search.kind, options=options)
    return (*given, Candidate(name="found", parent=source.digest, build=search))


def runs_at_most(spec: EvolveSpec) -> dict[str, int]:
    """Agent runs of each part, where nothing stops early."""
    deciding, canaries = len(spec.suite.confirm), len(spec.suite.canaries)
    arms = 1 + spec.empty_tasks + (spec.known_good is not None)
    searched = spec.search.options.get("max_runs", 0) if spec.search is not None else 0
    return {
        "preflight": spec.preflight_repeats * deciding * arms
        + (2 + (spec.known_good is not None)) * canaries * min(CANARY_REPEATS, spec.preflight_repeats),
        "search": int(searched),
        "confirm": spec.judged * 2 * (spec.repeats * deciding + _canary_runs(spec) * canaries),
    }


def _canary_runs(spec: EvolveSpec) -> int:
    """Runs of a canary with each text over all looks."""
    looks = spec.rule.looks
    return sum(min(CANARY_REPEATS, b - a) for a, b in pairwise((0, *looks)))


def search_cost(spec: EvolveSpec) -> float:
    """What is left to the search at least: the whole, less what preflight and confirmation may need."""
    assert spec.budget.cost is not None
    runs = runs_at_most(spec)
    price = spec.agent.price_per_run or 0.0
    return max(0.0, spec.budget.cost - price * (runs["preflight"] + runs["confirm"]))


class Measured(NamedTuple):
    """A study that measures the text as it stands and judges no candidate."""

    job: str
    suffix: str
    question: str
    agent: AdapterRef
    gate: GateRef


def _measuring(spec: EvolveSpec, source: Artifact, study_id: str, what: Measured) -> Study:
    itself = Candidate(name="the-text-itself", parent=source.digest, build=AdapterRef(kind="identity"))
    step = Step(
        name="runs",
        verb=Verb.EVALUATE,
        subject="source",
        adapter=what.agent,
        produces=SOURCE_RUNS,
        resumes=True,
        gates=(what.gate,),
    )
    return Study(
        id=study_id,
        job=what.job,
        name=f"{spec.name}-{what.suffix}",
        question=what.question,
        source=source,
        steps=(_setup(spec), step),
        proposer=AdapterRef(kind="ladder", options={"candidates": [itself.to_json()]}),
        apply=AdapterRef(kind="none"),
        apply_on_accept=False,
        budget=Budget(wall_time_s=spec.budget.wall_time_s, disk_bytes=spec.budget.disk_bytes),
        seed=spec.seed,
        spec=spec.to_json(),
    )


def _called(spec: EvolveSpec) -> str:
    return spec.text.name or spec.text.path.rstrip("/").rpartition("/")[2]


def _question(spec: EvolveSpec) -> str:
    what = _called(spec)
    who = "Does a new text" if spec.judged == 1 else f"Does one of {spec.judged} new texts"
    on = f"{len(spec.suite.confirm)} tasks"
    return f"{who} of {what} really do better on {on}?"


def _setup(spec: EvolveSpec) -> Step:
    return Step(
        name="setup",
        verb=Verb.EVALUATE,
        subject="machine",
        produces="machine",
        gates=(_ref("setup", spec.setup),),
    )


def _preflight(spec: EvolveSpec) -> Step:
    arms = [BASELINE, *([EMPTY] if spec.suite.canaries or spec.empty_tasks else [])]
    arms += [KNOWN_GOOD] if spec.known_good else []
    return Step(
        name="preflight",
        verb=Verb.EVALUATE,
        subject="source",
        adapter=_agent(spec, arms=tuple(arms), last=spec.preflight_repeats, canaries=True),
        produces=SOURCE_RUNS,
        shared=True,
        resumes=True,
        seed=_preflight_seed(spec),
        gates=(_ref("preflight", spec.beginning),),
    )


def _preflight_seed(spec: EvolveSpec) -> int:
    """Another one than the confirmation's, or a seeded agent would repeat the runs that let the study begin."""
    return int(digest(["preflight", spec.seed]).removeprefix("sha256:")[:8], 16)


def _candidate_steps(spec: EvolveSpec) -> tuple[Step, ...]:
    build = Step(name="build", verb=Verb.BUILD, subject="candidate", resumes=True)
    inspect = Step(
        name="inspect",
        verb=Verb.EVALUATE,
        subject="candidate",
        adapter=AdapterRef(kind="evolution", options={"suite": spec.suite.path}),
        produces=TEXT,
        gates=(_ref("text", spec.rules),),
    )
    policy = spec.rule
    looks = policy.looks
    confirm = [
        Step(
            name=f"confirm-{i}",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=_agent(
                spec,
                arms=(BASELINE, CANDIDATE),
                first=(looks[i - 2] if i > 1 else 0) + 1,
                last=last,
                canaries=True,
            ),
            produces=RUNS,
            extends=f"confirm-{i - 1}" if i > 1 else "",
            until="deploy",
            resumes=True,
            gates=(_ref("deploy", policy),),
        )
        for i, last in enumerate(looks, 1)
    ]
    return (build, inspect, *confirm)


def _agent(
    spec: EvolveSpec,
    *,
    arms: tuple[str, ...],
    last: int,
    canaries: bool,
    first: int = 1,
    texts: Mapping[str, str] | None = None,
) -> AdapterRef:
    options: dict[str, Any] = {
        "suite": spec.suite.path,
        "suite_digest": spec.suite.digest,
        "agent": spec.agent.to_json(),
        "text_kind": spec.text.kind,
        "name": spec.text.name,
        "tasks": spec.suite.confirm,
        "canaries": spec.suite.canaries if canaries else (),
        "arms": arms,
        "first": first,
        "last": last,
        "canary_repeats": CANARY_REPEATS,
        "empty_tasks": spec.empty_tasks,
        "known_good": spec.known_good,
        "known_good_tasks": spec.known_good is not None,
        **({"texts": dict(texts)} if texts else {}),
        **({"max_cost": spec.budget.cost} if spec.budget.cost is not None else {}),
    }
    return AdapterRef(kind="agent", options=options)


def _ref(name: str, policy: Policy) -> GateRef:
    return GateRef(gate=name, policy=policy.to_json())
