"""A small release study over fakes: real engine, real ledger events, real compare gate, hand-made evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.candidate import Candidate
from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.evidence import Artifact, Evidence
from assay.core.gate import Gate
from assay.core.history import StudyHistory, replay
from assay.core.ports import Session, Target
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.run import Work
from assay.core.study import AdapterRef, GateRef, Step, Study
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb
from assay.engine.study import StudyLoop
from assay.gates.compare import CompareGate, ComparePolicy
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.report.release import render
from assay.testing.fakes import FakeAdapter, FakeComponents, Script

TASKS = ("add", "sort")
PAIRS = 400


def modules(scheme: str, bits: float, layers: int = 3) -> tuple[Module, ...]:
    """The weights of a small transformer whose linears have one precision."""
    linear = [
        Module(
            name=f"model.layers.{layer}.{name}",
            kind=ModuleKind.LINEAR,
            scheme=scheme,
            weight_bits=bits,
            stored_bits=bits + 0.5,
            shape=(64, 64),
        )
        for layer in range(layers)
        for name in ("self_attn.q_proj", "mlp.down_proj")
    ]
    head = Module(
        name="lm_head", kind=ModuleKind.HEAD, scheme="BF16", weight_bits=16, stored_bits=16, shape=(64, 64)
    )
    return (*linear, head)


def checkpoint(subject: str, scheme: str, bits: float) -> Checkpoint:
    """The evidence of one checkpoint."""
    held = modules(scheme, bits)
    return Checkpoint(
        subject=subject,
        format="safetensors",
        weight_bytes=round(sum(m.stored_bits * 64 * 64 / 8 for m in held)),
        parameters=64 * 64 * len(held),
        modules=held,
        artifacts=(Artifact(path="model.safetensors", digest="sha256:" + "ab" * 32, size_bytes=9),),
    )


def results(subject: str, wrong: int) -> Results:
    """Scores of two tasks of which the first `wrong` answers of each are wrong."""
    tasks = []
    for task in TASKS:
        score = tuple(0.0 if i < wrong else 1.0 for i in range(PAIRS))
        ids = tuple(f"{task}-{i}" for i in range(PAIRS))
        samples = Samples(
            id=ids,
            repeat=(0,) * PAIRS,
            prompt=ids,
            score=score,
            state=(SampleState.SCORED,) * PAIRS,
            output=tuple(str(s) for s in score),
        )
        tasks.append(
            TaskResult(
                task=task,
                metric="acc",
                score=sum(score) / PAIRS,
                expected=PAIRS,
                scored=PAIRS,
                samples=samples,
            )
        )
    return Results(
        subject=subject,
        harness="lm_eval",
        harness_version="0.4.13",
        tasks=tuple(tasks),
        protocol={"serve.engine": "transformers", "serve.engine_version": "5.14.1"},
    )


class _Adapter(FakeAdapter):
    """Evaluates to hand-made evidence and runs a command that the ledger records."""

    def evaluate(self, target: Target, session: Session) -> Evidence:
        self.script.called(f"evaluate {target.name} {self.ref.kind}")
        if self.ref.kind == "checkpoint":
            bits = 16.0 if target.name == "source" else 4.0
            return checkpoint(target.name, "BF16" if bits == 16.0 else "INT4", bits)
        work = Work(label=f"lm_eval {target.name}", command=("lm_eval", target.name), cwd=".", log="log")
        session.execute.cancel(session.execute.submit(work))
        return results(target.name, self.script.scores.get(target.name, 0))


@dataclass
class _Told:
    """A gate that says what it was told to say."""

    name: str
    reads: tuple[str, ...]
    verdict: Verdict

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """The verdict, with the digests it read."""
        return self.verdict.model_copy(
            update={"reads": {role: e.content_digest for role, e in evidence.items()}}
        )


class _Components(FakeComponents):
    """Fakes, with the real compare gate."""

    def __init__(self, world: World) -> None:
        super().__init__(world.script)
        self.world = world

    def build(self, ref: AdapterRef) -> FakeAdapter:
        return _Adapter(self.script, ref)

    serve = build
    evaluate = build

    def gate(self, ref: GateRef) -> Gate:
        if ref.gate == "compare":
            return CompareGate(ComparePolicy.model_validate(dict(ref.policy)))
        reads = (
            ("candidate.checkpoint", "source.checkpoint")
            if ref.gate == "checkpoint"
            else ("candidate.results",)
        )
        return _Told(ref.gate, reads, self.world.verdicts.get(ref.gate) or passing(ref.gate))


def passing(gate: str) -> Verdict:
    """A verdict with numbers to show."""
    reasons = (
        Reason(text=f"{gate} looked at the size", ok=True, measured=449024, limit=466688, unit="bytes"),
        Reason(text=f"{gate} looked again", ok=True, where="lm_head", evidence="sha256:" + "cd" * 32),
    )
    return Verdict(gate=gate, status=Status.PASS, detail=f"{gate} is content", reasons=reasons)


def failing(gate: str, text: str) -> Verdict:
    """A verdict that stops its trial."""
    return Verdict(
        gate=gate,
        status=Status.FAIL,
        outcome=Outcome.INFEASIBLE,
        failure_class=FailureClass.QUANT_COVERAGE_FAILURE,
        detail=text,
        reasons=(Reason(text=text, ok=False, where=text, measured=text, limit=text),),
        extra={"log_tail": text},
    )


@dataclass
class World:
    """A study and all that survives its engine."""

    folder: Path
    names: tuple[str, ...] = ("bad", "unsure", "good", "never")
    script: Script = field(default_factory=lambda: Script({"bad": 120, "unsure": 6, "good": 0}))
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=lambda: {"comparisons": 4})
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    store: MemoryStore = field(default_factory=MemoryStore)

    def study(self) -> Study:
        """A release study in small."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "weights").write_text("source")
        pinned = FakeComponents(self.script).pin(source)
        candidates = [
            Candidate(name=n, parent=pinned.digest, build=AdapterRef(kind="toy", options={"scheme": n}))
            for n in self.names
        ]
        look, ask = AdapterRef(kind="checkpoint"), AdapterRef(kind="results")
        compare = GateRef(gate="compare", policy=ComparePolicy(**self.policy).to_json())
        return Study(
            id="small-1",
            job="release",
            name="small",
            question="Which of these may be published?",
            source=pinned,
            steps=(
                _step("inspect-source", "source", look, "source.checkpoint", shared=True),
                Step(name="build", verb=Verb.BUILD, subject="candidate"),
                _step("inspect", "candidate", look, "candidate.checkpoint", GateRef(gate="checkpoint")),
                _step("baseline", "source", ask, "baseline.results", shared=True),
                _step(
                    "evaluate", "candidate", ask, "candidate.results", GateRef(gate="comparability"), compare
                ),
            ),
            proposer=AdapterRef(kind="fake", options={"candidates": [c.to_json() for c in candidates]}),
            apply=AdapterRef(kind="fake"),
            spec={},
        )

    def run(self) -> World:
        """Run or resume it."""
        StudyLoop(
            self.study(),
            ledger=self.ledger,
            store=self.store,
            components=_Components(self),
            folder=self.folder / "work",
        ).run()
        return self

    @property
    def history(self) -> StudyHistory:
        """What the ledger says."""
        return replay(self.ledger.read())["small-1"]

    @property
    def page(self) -> str:
        """The report."""
        return render(self.store, self.history)


def _step(
    name: str, subject: Any, adapter: AdapterRef, produces: str, *gates: GateRef, shared: bool = False
) -> Step:
    return Step(
        name=name,
        verb=Verb.EVALUATE,
        subject=subject,
        adapter=adapter,
        produces=produces,
        shared=shared,
        gates=gates,
    )
