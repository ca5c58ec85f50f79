"""A/A: the baseline of a release against itself. What differs is the evaluation's own noise; later plans use it."""

from __future__ import annotations

from assay.core.candidate import Candidate
from assay.core.draw import Draw, stops
from assay.core.evidence import Artifact
from assay.core.study import AdapterRef, Step, Study
from assay.core.vocabulary import Verb
from assay.flows._release.evaluation import gate_ref
from assay.flows._release.spec import ReleaseSpec
from assay.gates.noise import NoisePolicy
from assay.gates.results import ResultsPolicy


def plan(spec: ReleaseSpec, source: Artifact, study_id: str) -> Study:
    """The study that measures the noise of a spec's evaluation: what a trial is asked, twice, served anew."""
    identity = AdapterRef(kind="identity")
    again = Candidate(name="the-source-again", parent=source.digest, build=identity)
    return Study(
        id=study_id,
        job="calibrate",
        name=f"{spec.name}-noise",
        question=f"How much does {spec.name}'s evaluation differ from itself?",
        source=source,
        steps=(_setup(spec), _asked(spec, "first", "baseline"), _asked(spec, "again", "again")),
        proposer=AdapterRef(kind="ladder", options={"candidates": [again.to_json()]}),
        apply=AdapterRef(kind="none"),
        apply_on_accept=False,
        budget=spec.budget,
        seed=spec.seed,
        spec=spec.to_json(),
    )


def _setup(spec: ReleaseSpec) -> Step:
    return Step(
        name="setup",
        verb=Verb.EVALUATE,
        subject="machine",
        produces="machine",
        gates=(gate_ref("setup", spec.setup),),
    )


def _asked(spec: ReleaseSpec, name: str, side: str) -> Step:
    draw = _drawn(spec)
    limited = spec.evaluate.options.get("limit") is not None or draw is not None
    expected = {task: stop for task, (_, stop) in draw.parts.items()} if draw else spec.expected_samples
    policy = ResultsPolicy(expected=expected, limit_declared=limited)
    role = f"{side}.results"
    gates = [gate_ref("results", policy, f"{name}-results", {"results": role})]
    if side == "again":
        gates.append(gate_ref("noise", NoisePolicy(scales=spec.compare)))
    return Step(
        name=name,
        verb=Verb.EVALUATE,
        subject="source",
        adapter=spec.evaluate,
        serve=spec.serve,
        served=True,
        produces=role,
        draw=draw,
        gates=tuple(gates),
    )


def _drawn(spec: ReleaseSpec) -> Draw | None:
    """What a trial that evaluates in batches is asked in all: its harness expects to be told the items."""
    if spec.sequential is None:
        return None
    sizes = spec.expected_samples
    upto = stops(sizes, [spec.sequential.n_max or sum(sizes.values())])[0]
    return Draw(seed=spec.seed, sizes=sizes, parts={task: (0, stop) for task, stop in upto.items()})
