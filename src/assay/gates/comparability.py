"""Comparability gate: were both sides asked the same, in the same way? It reads no score.

Two evaluations may be compared when their protocols agree in every key but those that name what is compared
(`HARMLESS`) or that the change itself declares (`policy.declared`), and when both have the same samples with
the same prompts and references. A key that is not known here counts as fatal.

Identical outputs. If every answer of both sides is byte for byte the same, either the candidate is that good,
or the same model was served twice. Honest 8-bit and 4-bit candidates of small models on easy tasks do change
no answer at all, so this is told and does not fail, unless (a) both sides name the same checkpoint digest,
which is proof, or (b) the policy expects flips and so many pairs without one have a probability below 1 in
1,000 at the planning flip rate (n >= 112 at 6 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

from pydantic import Field, Strict

from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.results import Results, TaskResult
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Provenance, Status
from assay.gates._line import one_line

ROLES = ("baseline.results", "candidate.results")

HARMLESS = (
    "model_name",  # these name or describe what is compared
    "model_args.model",
    "model_args.pretrained",
    "model_args.tokenizer",
    "model_sha",
    "model_revision",
    "model_num_parameters",
    "serve.model*",
    "serve.path",
    "serve.artifact*",
    "serve.pid",
    "serve.port",
    "serve.base_url",
    "serve.*_s",  # seconds it took
    "git_hash",  # these change how fast it goes, or describe the machine's other software
    "transformers_version",
    "batch_size",
    "batch_sizes",
    "bootstrap_iters",
    "device",
    "use_cache",
    "model_args.num_concurrent",
    "model_args.max_retries",
    "model_args.timeout",
)
"""Protocol keys (shell patterns) that may differ. A difference is told."""

CHECKPOINT_DIGEST = "checkpoint_digest"
"""Key of `Results.facts` under which a side may name the checkpoint that answered."""
IMPROBABLE = 0.001


class ComparabilityPolicy(Policy):
    """Which differences between the two evaluations are part of the change."""

    declared: tuple[str, ...] = ()
    """Protocol keys (shell patterns) that the change is about, such as `engine` or `serve.dtype`."""
    require_samples: bool = True
    """Without samples nothing shows that both sides were asked the same: fail."""
    same_outputs_min: int = Field(default=50, ge=1)
    """From this number of pairs on, identical outputs throughout are told."""
    expect_flips: bool = False
    """The change must change answers: too many pairs without any changed output then fail."""
    planning_flip_rate: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.06
    """Share of answers expected to change, for `expect_flips`."""


class _Finding(NamedTuple):
    text: str
    fatal: bool
    where: str = ""
    measured: str | float | None = None
    limit: str | float | None = None


class ComparabilityGate:
    """Judges two `Results` side by side.

    Args:
        policy: what may differ.
    """

    name = "comparability"
    reads: tuple[str, ...] = ROLES

    def __init__(self, policy: ComparabilityPolicy | None = None) -> None:
        self.policy = policy or ComparabilityPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        baseline, candidate = (evidence.get(role) for role in ROLES)
        if not isinstance(baseline, Results) or not isinstance(candidate, Results):
            return Verdict(
                gate=self.name,
                status=Status.ERROR,
                failure_class=FailureClass.USER_CONFIG_ERROR,
                outcome=Outcome.ANOMALOUS,
                detail="there are no two results to hold against each other",
            )
        found = [
            *_protocol(baseline, candidate, self.policy),
            *_tasks(baseline, candidate, self.policy),
            *_outputs(baseline, candidate, self.policy),
        ]
        return _verdict(baseline, candidate, found)


def _protocol(baseline: Results, candidate: Results, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    sides = [
        {"harness": r.harness, "harness_version": r.harness_version, **r.protocol}
        for r in (baseline, candidate)
    ]
    for key in sorted({*sides[0], *sides[1]}):
        before, after = (side.get(key, _ABSENT) for side in sides)
        if _same(before, after):
            continue
        shown = _shown(before), _shown(after)
        if _matches(key, policy.declared):
            yield _Finding(f"declared to differ: {shown[0]} and {shown[1]}", False, key, *shown)
        elif _matches(key, HARMLESS):
            yield _Finding(f"differs without harm: {shown[0]} and {shown[1]}", False, key, *shown)
        else:
            yield _Finding(
                f"differs: {shown[0]} for the baseline, {shown[1]} for the candidate", True, key, *shown
            )


def _tasks(baseline: Results, candidate: Results, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    before, after = ({t.task: t for t in r.tasks} for r in (baseline, candidate))
    for task in sorted(set(before) ^ set(after)):
        side = "baseline" if task in before else "candidate"
        yield _Finding(f"only the {side} ran it", True, task)
    if not before and not after:
        yield _Finding("neither side ran a task", True)
    for task in sorted(set(before) & set(after)):
        yield from _task(before[task], after[task], policy)


def _task(before: TaskResult, after: TaskResult, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    name = before.task
    for what in ("metric", "direction"):
        one, other = str(getattr(before, what)), str(getattr(after, what))
        if one != other:
            yield _Finding(f"the {what} differs: {one} and {other}", True, name, one, other)
    if "inferred" not in (before.scale_source, after.scale_source):
        ranges = [f"{t.low:g}..{t.high:g}" for t in (before, after)]
        if ranges[0] != ranges[1]:
            yield _Finding(f"the range differs: {ranges[0]} and {ranges[1]}", True, name, *ranges)
    rows = [_rows(t, t.samples.prompt) for t in (before, after)]
    if not len(before.samples) or not len(after.samples):
        lacking = [s for s, t in (("baseline", before), ("candidate", after)) if not len(t.samples)]
        text = f"no samples of the {' and the '.join(lacking)}: nothing shows that both were asked the same"
        yield _Finding(text, policy.require_samples or len(lacking) == 1, name)
        return
    for side, task, row in (("baseline", before, rows[0]), ("candidate", after, rows[1])):
        if len(row) < len(task.samples):
            yield _Finding(f"the {side} has {len(task.samples) - len(row)} samples twice", True, name)
    for side, mine, theirs in (("baseline", rows[0], rows[1]), ("candidate", rows[1], rows[0])):
        alone = len(set(mine) - set(theirs))
        if alone:
            yield _Finding(f"{alone} of {len(mine)} samples are the {side}'s alone", True, name, alone, 0)
    changed = sum(rows[0][k] != rows[1][k] for k in set(rows[0]) & set(rows[1]))
    if changed:
        text = f"{changed} samples have another prompt or reference on the other side"
        yield _Finding(text, True, name, changed, 0)


def _outputs(baseline: Results, candidate: Results, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    digests = [r.facts.get(CHECKPOINT_DIGEST) for r in (baseline, candidate)]
    if digests[0] is not None and digests[0] == digests[1]:
        yield _Finding("both sides are one and the same checkpoint", True, "", one_line(digests[0]))
    sides = [
        {(t.task, *key): output for t in r.tasks for key, output in _rows(t, t.samples.output).items()}
        for r in (baseline, candidate)
    ]
    shared = [k for k in sides[0] if k in sides[1] and sides[0][k] and sides[1][k]]
    n = len(shared)
    if n < policy.same_outputs_min or any(sides[0][k] != sides[1][k] for k in shared):
        return
    chance = (1.0 - policy.planning_flip_rate) ** n
    suspicious = policy.expect_flips and chance < IMPROBABLE
    text = f"same outputs: all {n} answers are byte for byte those of the baseline"
    yield _Finding(
        f"{text}; the change should have changed some"
        if suspicious
        else f"{text}; was the candidate served?",
        suspicious,
        "",
        n,
        policy.same_outputs_min,
    )


def _verdict(baseline: Results, candidate: Results, found: list[_Finding]) -> Verdict:
    digests = [r.content_digest for r in (baseline, candidate)]
    fatal = [f for f in found if f.fatal]
    reasons = [
        Reason(
            text=f.text,
            ok=not f.fatal,
            where=f.where,
            measured=f.measured,
            limit=f.limit,
            evidence=digests[1],
        )
        for f in sorted(found, key=lambda f: not f.fatal)
    ]
    n = sum(len(t.samples) for t in baseline.tasks)
    detail = f"{n:,} samples, asked in the same way on both sides"
    if fatal:
        more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
        detail = f"{fatal[0].where}: {fatal[0].text}{more}" if fatal[0].where else f"{fatal[0].text}{more}"
    told = Provenance.SELF_REPORTED
    return Verdict(
        gate="comparability",
        status=Status.FAIL if fatal else Status.PASS,
        failure_class=FailureClass.NOT_COMPARABLE if fatal else None,
        outcome=Outcome.ANOMALOUS if fatal else None,
        detail=detail,
        reasons=tuple(reasons) or (Reason(text="no difference in protocol or samples", ok=True),),
        provenance=told if told in (baseline.provenance, candidate.provenance) else Provenance.MEASURED,
        reads=dict(zip(ROLES, digests, strict=True)),
        extra={"warnings": [f.text for f in found if not f.fatal]},
    )


_ABSENT = object()


def _same(before: Any, after: Any) -> bool:
    """Equal as JSON: `1` and `true` are two things, `1` and `1.0` are one."""
    return isinstance(before, bool) == isinstance(after, bool) and bool(before == after)


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else one_line(value) or "empty"


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _rows(task: TaskResult, column: tuple[str, ...]) -> dict[tuple[str, int], str]:
    return dict(zip(zip(task.samples.id, task.samples.repeat, strict=True), column, strict=True))
