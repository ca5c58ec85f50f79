"""A small study of texts over fakes: real engine, real ledger events, hand-made runs of a believable agent."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.agent import BASELINE, CANDIDATE, EMPTY, AgentOutcome, AgentRun, AgentRuns
from assay.core.artifact_text import changed, edits_between, growth
from assay.core.candidate import Candidate
from assay.core.canon import digest_bytes
from assay.core.evidence import Artifact, Evidence
from assay.core.evolution import Evolution, TextNode
from assay.core.gate import Gate
from assay.core.history import StudyHistory, replay
from assay.core.ports import Session, Target
from assay.core.study import AdapterRef, GateRef, Step, Study
from assay.core.verdict import Estimate, Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status, Verb
from assay.engine.study import StudyLoop
from assay.gates.deploy import DeployGate, DeployPolicy
from assay.gates.preflight import PreflightGate, PreflightPolicy
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.readers.texts import read_text
from assay.report.evolve import render
from assay.runtime.files import artifact as pinned
from assay.testing.fakes import FakeAdapter, FakeComponents, Script

BEFORE = """# Repairing a failing program

Work in small steps and keep the tests green.

## Order
- Read the failing test first.
- Change the smallest thing that can be wrong.
- Run all tests again.

## Known traps
- Look out for off-by-one errors.
- Be careful with mutable defaults.
- Sometimes the bug is elsewhere.

## Reporting
Say what you changed and why. Be polite, be thorough, and explain every step in as many words as it takes."""
AFTER = """# Repairing a failing program

Work in small steps and keep the tests green.

## Order
- Read the failing test first, then the function that it names.
- Change the smallest thing that can be wrong.
- Run all tests again; after three tries start over from the original file.

## Known traps
- `range(n)` stops before n: check both ends of every loop.
- A list or dict as a default is shared by all calls: use None.
- Integer division rounds down, also below zero.

## Reporting
Say what you changed and why."""
TASKS = (
    "binary-search",
    "merge-sorted",
    "roman-numerals",
    "csv-quotes",
    "lru-cache",
    "matrix-spiral",
    "date-range",
    "word-wrap",
    "topological-order",
    "rate-limiter",
    "interval-merge",
    "json-pointer",
)
CANARIES = ("wrapper-script", "house-format")
LOOKS = (3, 6, 9)
RATES = {BASELINE: 0.45, CANDIDATE: 0.74, EMPTY: 0.3}


@dataclass
class World:
    """A study and all that survives its engine."""

    folder: Path
    outcome: str = "accept"
    """accept, refuse, inconclusive, static, dead, nothing; or real: the true gates judge."""
    before: str = BEFORE
    after: str = AFTER
    names: tuple[str, ...] = ("found",)
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    policy: Mapping[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    ledger: Any = field(default_factory=MemoryLedger)
    store: Any = field(default_factory=MemoryStore)
    file: str = "SKILL.md"
    newline: str = "\n"
    end: str = "\n"
    """What ends the file."""
    said: str = "the tests pass now"
    tasks: tuple[str, ...] = TASKS

    @property
    def source(self) -> Path:
        """The baseline."""
        path = self.folder / "skills" / "repair"
        return path if self.file == "SKILL.md" else path / self.file

    def study(self) -> Study:
        """The study as the flow plans it, in small."""
        self._write_source()
        found = read_text(self.source)
        source = pinned(self.source)
        many = [
            Candidate(
                name=n, parent=source.digest, build=AdapterRef(kind="search", options={"number": i})
            ).to_json()
            for i, n in enumerate(self.names)
        ]
        agent = AdapterRef(kind="agent")
        confirm = [
            Step(
                name=f"confirm-{i}",
                verb=Verb.EVALUATE,
                subject="candidate",
                adapter=AdapterRef(kind="agent", options={"first": (0, *LOOKS)[i - 1] + 1, "last": last}),
                produces="candidate.runs",
                extends=f"confirm-{i - 1}" if i > 1 else "",
                until="deploy",
                resumes=True,
                gates=(GateRef(gate="deploy", policy={"looks": LOOKS, "alpha": 0.05, **self.policy}),),
            )
            for i, last in enumerate(LOOKS, 1)
        ]
        return Study(
            id="repair-1",
            job="evolve",
            name="repair",
            question=f"Does a new text of repair really do better on {len(self.tasks)} tasks?",
            source=Artifact(path=str(self.source), digest=source.digest, size_bytes=source.size_bytes),
            steps=(
                Step(
                    name="preflight",
                    verb=Verb.EVALUATE,
                    subject="source",
                    adapter=agent,
                    produces="source.runs",
                    shared=True,
                    resumes=True,
                    gates=(GateRef(gate="preflight"),),
                ),
                Step(name="build", verb=Verb.BUILD, subject="candidate", resumes=True),
                Step(
                    name="inspect",
                    verb=Verb.EVALUATE,
                    subject="candidate",
                    adapter=AdapterRef(kind="evolution"),
                    produces="candidate.text",
                    gates=(GateRef(gate="text"),),
                ),
                *confirm,
            ),
            proposer=AdapterRef(kind="ladder", options={"candidates": many}),
            apply=AdapterRef(kind="fake"),
            apply_on_accept=False,
            stop="never",
            spec={
                "text": {"path": str(self.source), "kind": found.kind.value, "name": ""},
                "suite": {"path": "suite"},
                "agent": {
                    "preset": "command",
                    "command": ["repair-agent", "{prompt_file}"],
                    "timeout_s": 300,
                    "price_per_run": 0.2,
                },
            },
        )

    def run(self) -> World:
        """Run or resume it."""
        StudyLoop(
            self.study(),
            ledger=self.ledger,
            store=self.store,
            components=_Components(self),
            folder=self.folder / ".assay" / "studies" / "repair-1",
        ).run()
        return self

    @property
    def history(self) -> StudyHistory:
        """What the ledger says."""
        return replay(self.ledger.read())["repair-1"]

    def after_events(self, count: int) -> StudyHistory:
        """What the ledger said after so many events: as if it had been killed there."""
        return replay(list(self.ledger.read())[:count])["repair-1"]

    @property
    def page(self) -> str:
        """The report."""
        return render(self.store, self.history, self.folder)

    def _write_source(self) -> None:
        if self.source.exists():
            return
        self.source.parent.mkdir(parents=True, exist_ok=True)
        head = "---\nname: repair\ndescription: Repairs programs.\n---\n\n" if self.file == "SKILL.md" else ""
        path = self.source / self.file if self.file == "SKILL.md" else self.source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((head + self.before + self.end).replace("\n", self.newline).encode())

    def runs(self, arms: tuple[str, ...], first: int, last: int, subject: str) -> AgentRuns:
        """What the agent did; the same every time."""
        drawn = random.Random(f"{subject}, from {first}")
        made = [
            self._run(drawn, task, arm, rep, place)
            for rep in range(first, last + 1)
            for place, (task, arm) in enumerate((t, a) for t in (*self.tasks, *CANARIES) for a in arms)
        ]
        return AgentRuns(
            subject=subject,
            suite="sha256:" + "5" * 64,
            runner="sha256:" + "7" * 64,
            isolation="namespace",
            texts={a: digest_bytes(a.encode()) for a in arms},
            text_chars={BASELINE: len(self.before), CANDIDATE: len(self.after)},
            tasks=(*self.tasks, *CANARIES),
            canaries=CANARIES,
            repeats=dict.fromkeys(arms, last - first + 1),
            runs=tuple(made),
        )

    def _run(self, drawn: random.Random, task: str, arm: str, rep: int, place: int) -> AgentRun:
        ease = 0.0 if task in CANARIES else ((self.tasks.index(task) * 7) % 11 - 5) / 14
        chance = min(0.97, max(0.03, self.rates.get(arm, 0.5) + ease))
        if task in CANARIES:
            chance = 0.0 if arm == EMPTY else 1.0
        x, tampered = drawn.random(), ()
        outcome = AgentOutcome.PASS if x < chance else AgentOutcome.TASK_FAIL
        if task not in CANARIES:
            y = drawn.random()
            if y > 0.985:
                outcome = AgentOutcome.INFRA_ERROR
            elif y > 0.965 and outcome is not AgentOutcome.PASS:
                outcome = AgentOutcome.AGENT_TIMEOUT
            elif y > 0.94 and outcome is not AgentOutcome.PASS:
                outcome = AgentOutcome.AGENT_ERROR
            elif y < 0.012 and arm == BASELINE:
                tampered = ("tests/test_hidden.py",)
        score = None if outcome is AgentOutcome.INFRA_ERROR else float(outcome is AgentOutcome.PASS)
        return AgentRun(
            task=task,
            arm=arm,
            rep=rep,
            block=rep,
            place=place,
            outcome=outcome,
            score=score,
            cost=None if place % 3 else 0.04 + 0.1 * drawn.random(),
            input_tokens=4_000 + int(3_000 * drawn.random()),
            output_tokens=700,
            wall_s=20 + 40 * drawn.random(),
            tampered=tampered,
            said=self.said,
        )

    def evolution(self, number: int) -> Evolution:
        """A search of forty texts, some kept."""
        drawn = random.Random(number)
        nodes = [self._node(0, (), self.before, drawn, "baseline", 0.45)]
        alive = [(0, 0.45)]
        for i in range(1, 41):
            parent, level = alive[-1] if drawn.random() < 0.7 else drawn.choice(alive)
            score = min(0.95, level + drawn.gauss(0.0, 0.08))
            keep = score > level
            state = "kept" if keep else drawn.choice(("rejected", "rejected", "refused", "repeated"))
            parents: tuple[int, ...] = (parent,)
            if keep and len(alive) > 3 and drawn.random() < 0.3:
                parents = (parent, drawn.choice(alive[:-1])[0])
            text = self.after if keep else f"{self.before}\n- rule {i}"
            nodes.append(self._node(i, parents, text, drawn, state, score))
            if keep:
                alive.append((i, score))
        picked = 0 if self.outcome == "nothing" else max(alive, key=lambda a: a[1])[0]
        return Evolution(
            subject="candidate",
            engine="own",
            nodes=tuple(nodes),
            picked=picked,
            pick_rule="the shortest within one task of the best",
            ended="the budget of 300 runs was used",
            runs=297,
            cost=31.4,
            cost_assumed=12.0,
            wall_s=5_400.0,
        )

    def _node(
        self, number: int, parents: tuple[int, ...], text: str, drawn: random.Random, state: Any, score: float
    ) -> TextNode:
        grown = int(drawn.gauss(0, 90)) if number else 0
        return TextNode(
            number=number,
            parents=parents,
            text=digest_bytes(f"{number}{text}".encode("utf-8", "surrogatepass")),
            chars=max(10, len(self.before) + grown),
            proposer="" if not number else drawn.choice(("from-failure", "delete-line", "merge", "command")),
            edits=edits_between(self.before, text)[:3] if number else (),
            reason="" if not number else f"what failed in {drawn.choice(TASKS)}",
            state=state,
            why="" if state in {"kept", "baseline"} else "no better on the tasks where it was tried",
            train={t: min(1.0, max(0.0, score + drawn.gauss(0, 0.1))) for t in TASKS[:5]},
            select={}
            if state in {"refused", "repeated"}
            else {t: min(1.0, max(0.0, score + 0.05)) for t in TASKS[5:8]},
        )


class _Adapter(FakeAdapter):
    """Builds the candidate's text and evaluates to hand-made evidence."""

    def __init__(self, world: World, ref: AdapterRef) -> None:
        super().__init__(world.script, ref)
        self.world = world

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """The source with the other text, and how it was found."""
        self.script.called(f"build {candidate.name}")
        text = read_text(source)
        place = source / text.file if text.file else source
        made, _ = changed(text, place.read_bytes(), self.world.after)
        target = out / source.name / text.file if text.file else out / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(made)
        (out / "evolution.json").write_text(json.dumps({"schema": "evolved/1"}))
        return {"by": "fake"}

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Runs, or the record of the search with both texts."""
        self.script.called(f"evaluate {target.name} {self.ref.kind}")
        options = dict(self.ref.options)
        if self.ref.kind == "evolution":
            name = Path(target.source).name
            old, new = read_text(Path(target.source)), read_text(Path(target.path) / name)
            facts = {
                "baseline": old.to_json(),
                "candidate": new.to_json(),
                "growth_frac": growth(old.text, new.text),
            }
            return self.world.evolution(0).model_copy(update={"subject": target.name, "facts": facts})
        if "first" in options:
            return self.world.runs((BASELINE, CANDIDATE), options["first"], options["last"], target.name)
        return self.world.runs((BASELINE, EMPTY), 1, 2, "source")


@dataclass
class _Judge:
    """A gate that says what the world wants."""

    world: World
    name: str
    reads: tuple[str, ...]

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """The verdict, with the digests it read."""
        found = next(iter(evidence.values()))
        verdict = self._verdict(found)
        return verdict.model_copy(update={"reads": {r: e.content_digest for r, e in evidence.items()}})

    def _verdict(self, found: Evidence) -> Verdict:
        wanted = self.world.outcome
        if self.name == "preflight":
            if wanted == "dead":
                return _verdict(
                    "preflight", Status.FAIL, Outcome.INFEASIBLE, "no_headroom: 23 of 24 runs pass"
                )
            text = "healthy: 11 of 24 runs pass, and the canaries prove delivery"
            return _verdict(
                "preflight", Status.PASS, None, text, band="healthy", seed={"band": "weak_signal"}
            )
        if self.name == "text":
            if wanted == "nothing":
                return _verdict("text", Status.FAIL, Outcome.NO_GAIN, "the search found nothing better")
            if wanted == "static":
                return _verdict(
                    "text", Status.FAIL, Outcome.INFEASIBLE, "growth: 48 % longer, 20 % is allowed"
                )
            return _verdict("text", Status.PASS, None, "no rule is broken")
        assert isinstance(found, AgentRuns)
        return deploy(found, wanted)


def deploy(runs: AgentRuns, wanted: str) -> Verdict:
    """A verdict as the deploy gate gives it, for the outcome that is wanted."""
    repeats = runs.repeats[CANDIDATE]
    look = LOOKS.index(repeats) + 1
    gain = {"accept": 0.26, "refuse": -0.17, "inconclusive": 0.07}.get(wanted, 0.1)
    width = 0.33 / look**0.5
    macro = Estimate(
        task="macro",
        baseline=0.46,
        candidate=0.46 + gain,
        drop=-gain,
        lower=-gain - width,
        upper=-gain + width,
        level=0.9,
        margin=-0.03,
        n=len(runs.tasks) - len(CANARIES),
        role="primary",
    )
    seed = {
        "decision": "reject" if wanted == "refuse" else "deploy",
        "reason": "growth_quality_gate" if wanted == "refuse" else "ok",
        "outcome": "ACCEPT",
        "gained": 3,
        "required": 1,
        "signal": "closed_loop",
        "document": {
            "schema_version": 5,
            "decision": "reject" if wanted == "refuse" else "deploy",
            "reason": "growth_quality_gate" if wanted == "refuse" else "ok",
            "decision_rule_used": "closed_loop_primary",
            "decision_signal": "closed_loop",
            "growth_pct": 0.1,
        },
    }
    last = look == len(LOOKS)
    if wanted == "accept" and look > 1:
        status, outcome, text = Status.PASS, Outcome.ACCEPT, "better: +26 points over 12 tasks, at least +5"
    elif wanted == "refuse" and look > 1:
        status, outcome, text = Status.FAIL, Outcome.REGRESSION, "worse: -17 points over 12 tasks"
    else:
        status, outcome = Status.INCONCLUSIVE, Outcome.INCONCLUSIVE
        text = "it is not known whether it is better: +7 points, -12 to +26"
    return Verdict(
        gate="deploy",
        status=status,
        outcome=outcome,
        detail=text,
        reasons=(
            Reason(text="the lower bound of the gain", ok=status is Status.PASS, measured=0.05, limit=0.03),
        ),
        estimates=(macro,),
        needed=640 if status is Status.INCONCLUSIVE else None,
        open=status is Status.INCONCLUSIVE and not last,
        extra={"rules": "sound", "seed": seed},
    )


def _verdict(gate: str, status: Status, outcome: Outcome | None, text: str, **extra: Any) -> Verdict:
    failed = FailureClass.POINT_INFEASIBLE if status is Status.FAIL else None
    reasons = (Reason(text=text, ok=status is Status.PASS, where="max-growth" if failed else ""),)
    return Verdict(
        gate=gate,
        status=status,
        outcome=outcome,
        failure_class=failed,
        detail=text,
        reasons=reasons,
        extra=extra,
    )


class _Components(FakeComponents):
    """Fakes, with gates that say what the world wants."""

    def __init__(self, world: World) -> None:
        super().__init__(world.script)
        self.world = world

    def build(self, ref: AdapterRef) -> FakeAdapter:
        return _Adapter(self.world, ref)

    serve = build
    evaluate = build

    def gate(self, ref: GateRef) -> Gate:
        if self.world.outcome == "real" and ref.gate != "text":
            policy = dict(ref.policy)
            return (
                DeployGate(DeployPolicy(**policy))
                if ref.gate == "deploy"
                else PreflightGate(PreflightPolicy(**policy))
            )
        reads = {"preflight": "source.runs", "text": "candidate.text", "deploy": "candidate.runs"}
        return _Judge(self.world, ref.gate, (reads[ref.gate],))

    def pin(self, path: Path) -> Artifact:
        return pinned(path)
