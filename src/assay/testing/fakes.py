"""Fakes of the engine's components that can succeed, raise, lie, drop samples, answer NaN, or die at a given moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.candidate import Candidate
from assay.core.canon import digest_bytes
from assay.core.decision import Decision
from assay.core.evidence import Artifact, Evidence, Measurement
from assay.core.gate import Gate
from assay.core.ports import Component, Endpoint, Execute, Session, Target
from assay.core.run import Run, Work
from assay.core.study import AdapterRef, Budget, GateRef, Step, Study
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb


@dataclass
class Script:
    """What the fakes do. Every call is noted, in order."""

    scores: dict[str, Any] = field(default_factory=dict)
    """Candidate or `source` → score that an evaluation of it measures."""
    fail: dict[str, list[Exception]] = field(default_factory=dict)
    """`VERB NAME` → exceptions of the first calls, used up one by one."""
    before: Callable[[str], None] = lambda call: None
    """Called with each call before it is answered; may raise to play a crash."""
    calls: list[str] = field(default_factory=list)
    tamper: bool = False
    """The artifact changes after it was evaluated."""

    def called(self, call: str) -> None:
        """Note a call; raise what is planned for it."""
        self.before(call)
        self.calls.append(call)
        planned = self.fail.get(call)
        if planned:
            raise planned.pop(0)


class FakeAdapter:
    """All verbs in one: build writes a file, serve yields an endpoint, evaluate reads the script's score."""

    def __init__(self, script: Script, ref: AdapterRef) -> None:
        self.script = script
        self.ref = ref

    def check(self) -> Component:
        """Always ready."""
        return Component(verb="fake", kind=self.ref.kind, state="ready")

    def intent(self) -> Mapping[str, Any]:
        """Promises nothing."""
        return {}

    def protocol(self) -> Mapping[str, Any]:
        """The options are the protocol."""
        return dict(self.ref.options)

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Write the candidate's name."""
        self.script.called(f"build {candidate.name}")
        out.mkdir()
        (out / "weights").write_text(candidate.name)
        return {"by": "fake"}

    @contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """A server that is nowhere."""
        self.script.called(f"serve {target.name}")
        yield Endpoint(base_url="http://127.0.0.1:9/v1", model=target.name, engine="fake")
        self.script.calls.append(f"stop {target.name}")

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """The script's score, whatever it is."""
        self.script.called(f"evaluate {target.name}")
        if self.script.tamper and target.name != "source":
            (Path(target.path) / "weights").write_text("other")
        score = Measurement.of("score", self.script.scores.get(target.name))
        return Evidence(kind="fake", subject=target.name, measurements=(score,))


class FakeLadder:
    """Proposes each candidate that has no Decision."""

    def __init__(self, ref: AdapterRef) -> None:
        self.candidates = [Candidate.from_json(c) for c in ref.options["candidates"]]

    def check(self) -> Component:
        """Always ready."""
        return Component(verb="propose", kind="fake", state="ready")

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The next one."""
        judged = {d.candidate_key for d in history}
        return next((c for c in self.candidates if c.key not in judged), None)


class FakeApply:
    """Notes what it is asked."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """A token with the candidate's name."""
        self.script.called(f"plan {decision.candidate}")
        return {"changes": [f"publishes {decision.candidate}"]}

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Note it."""
        self.script.called(f"apply {decision.candidate}")

    def undo(self, token: Mapping[str, Any]) -> None:
        """Note it."""
        self.script.called("undo")


class FakeExecute:
    """Runs nothing."""

    def submit(self, work: Work) -> str:
        """The label is the handle."""
        return work.label

    def poll(self, handle: str, timeout_s: float = 0.0) -> Run:
        """Over at once."""
        return Run(label=handle, command=(handle,), cwd=".", log="", started="", wall_s=0.0, exit_code=0)

    def cancel(self, handle: str) -> Run:
        """Over at once."""
        return self.poll(handle)


class ScoreGate:
    """PASS if the candidate scores at least what the source does; missing or NaN is an ERROR."""

    name = "score"
    reads: tuple[str, ...] = ("baseline", "candidate")

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """Compare two numbers: a fake, not a statistic."""
        values = {role: e.measurement("score") for role, e in evidence.items()}
        reads = {role: e.content_digest for role, e in evidence.items()}
        numbers = {role: m.value for role, m in values.items() if m is not None and m.value is not None}
        if len(numbers) < len(self.reads):
            return _verdict(Status.ERROR, Outcome.ANOMALOUS, "a score is missing", reads)
        if numbers["candidate"] < numbers["baseline"]:
            return _verdict(Status.FAIL, Outcome.REGRESSION, "worse", reads)
        return _verdict(Status.PASS, Outcome.ACCEPT, "not worse", reads)


def _verdict(status: Status, outcome: Outcome, detail: str, reads: Mapping[str, str]) -> Verdict:
    failure = FailureClass.SAMPLE_ACCOUNTING_FAILED if status is Status.ERROR else None
    reasons = (Reason(text=detail, ok=status is Status.PASS),)
    return Verdict(
        gate="score",
        status=status,
        outcome=outcome,
        failure_class=failure,
        detail=detail,
        reasons=reasons,
        reads=reads,
    )


class FakeComponents:
    """See `engine.components.Components`."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def build(self, ref: AdapterRef) -> FakeAdapter:
        """A fake."""
        return FakeAdapter(self.script, ref)

    serve = build
    evaluate = build

    def propose(self, ref: AdapterRef) -> FakeLadder:
        """A fake ladder."""
        return FakeLadder(ref)

    def apply(self, ref: AdapterRef) -> FakeApply:
        """A fake target."""
        return FakeApply(self.script)

    def execute(self) -> Execute:
        """Runs nothing."""
        return FakeExecute()

    def gate(self, ref: GateRef) -> Gate:
        """The score gate, whatever is asked for."""
        return ScoreGate()

    def pin(self, path: Path) -> Artifact:
        """The digest of the names and bytes below a path."""
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        data = b"".join(f.name.encode() + f.read_bytes() for f in files if f.exists())
        return Artifact(path=str(path), digest=digest_bytes(data), size_bytes=len(data))


def fake_study(source: Path, names: Sequence[str] = ("a", "b"), **more: Any) -> Study:
    """A study over fakes: build, baseline, evaluate, one gate.

    Args:
        source: a folder that exists.
        names: the candidates of its ladder.
        more: fields of the study, such as `stop` or `budget`.
    """
    fake = AdapterRef(kind="fake")
    pinned = FakeComponents(Script()).pin(source)
    candidates = [Candidate(name=n, parent=pinned.digest, build=AdapterRef(kind=n)).to_json() for n in names]
    steps = (
        Step(name="build", verb=Verb.BUILD, subject="candidate"),
        Step(
            name="baseline",
            verb=Verb.EVALUATE,
            subject="source",
            adapter=fake,
            serve=fake,
            served=True,
            produces="baseline",
            shared=True,
        ),
        Step(
            name="evaluate",
            verb=Verb.EVALUATE,
            subject="candidate",
            adapter=fake,
            serve=fake,
            served=True,
            produces="candidate",
            gates=(GateRef(gate="score"),),
        ),
    )
    values: dict[str, Any] = {"budget": Budget(), "spec": {}, **more}
    return Study(
        id="fake-1",
        job="fake",
        name="fake",
        question="Which?",
        source=pinned,
        steps=steps,
        proposer=AdapterRef(kind="fake", options={"candidates": candidates}),
        apply=fake,
        **values,
    )
