"""Comparability gate: were both sides asked the same, in the same way? It reads no score.

Two evaluations may be compared when their protocols agree in every key but those that name what is compared
(`HARMLESS`) or that the change itself declares (`policy.declared`), and when both have the same samples with
the same prompts and references. A key that is not known here counts as fatal. All differences are listed in
`extra["differences"]`, each as fatal, declared or harmless.

Both sides at the worst score that a task has is a harness that is broken twice, and no equality.

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
from assay.core.vocabulary import Direction, FailureClass, Outcome, Provenance, Status
from assay.gates._line import one_line
from assay.gates._results.rows import overfull_share, truncated_share

ROLES = ("baseline.results", "candidate.results")

_NAMES_IT = "it names or describes what is compared"
_SPEED = "it changes how fast it goes, or describes the machine's other software"

HARMLESS: Mapping[str, str] = {
    "model_name": _NAMES_IT,
    "model_args.model": _NAMES_IT,
    "model_args.pretrained": _NAMES_IT,
    "model_args.tokenizer": _NAMES_IT,
    "model_sha": _NAMES_IT,
    "model_revision": _NAMES_IT,
    "model_num_parameters": _NAMES_IT,
    "serve.model*": _NAMES_IT,
    "serve.path": _NAMES_IT,
    "serve.artifact*": _NAMES_IT,
    "serve.pid": _NAMES_IT,
    "serve.port": _NAMES_IT,
    "serve.base_url": _NAMES_IT,
    "serve.*_s": "it is the time that it took",
    "git_hash": _SPEED,
    "transformers_version": _SPEED,
    "batch_size": _SPEED,
    "batch_sizes": _SPEED,
    "bootstrap_iters": _SPEED,
    "device": _SPEED,
    "use_cache": _SPEED,
    "model_args.num_concurrent": _SPEED,
    "model_args.max_retries": _SPEED,
    "model_args.timeout": _SPEED,
}
"""Protocol keys (shell patterns) that may differ, and why. A difference is told."""

TOPICS: tuple[tuple[str, str], ...] = (
    ("harness*", "the harness"),
    ("*_version", "a version"),
    ("task.*.version", "the task's version"),
    ("limit", "the limit of samples"),
    ("task.*.limit", "the limit of samples"),
    ("*judge*", "the judge"),
    ("*grader*", "the judge"),
    ("task.*.scorers", "the judge or scorer"),
    ("*kv_*", "the type of the KV cache"),
    ("*reasoning*", "the handling of reasoning"),
    ("*thinking*", "the handling of reasoning"),
    ("*chat_template*", "the chat template"),
    ("*system_*", "the system prompt"),
    ("*max_*tok*", "the token limit"),
    ("*max_length*", "the token limit"),
    ("*context_tokens", "the context length"),
    ("*temperature*", "the sampling"),
    ("*top_?", "the sampling"),
    ("*seed*", "the sampling"),
    ("gen_kwargs*", "the sampling"),
    ("*sampling*", "the sampling"),
    ("*repeat*", "the number of repeats"),
    ("*epochs*", "the number of repeats"),
    ("*fewshot*", "the examples in the prompt"),
    ("*prompt*", "the prompt"),
    ("*instructions", "the prompt"),
    ("task.*.config", "the task's definition"),
    ("task.*.metric", "the metric"),
    ("task.*.samples", "the data set"),
    ("*dataset*", "the data set"),
    ("task_files", "the task's files"),
    ("tests", "the data set"),
    ("engine*", "the engine"),
    ("serve.*", "the engine's settings"),
)
"""Protocol keys (shell patterns) and what a person calls them; the first that fits. Others keep their name."""

CHECKPOINT_DIGEST = "checkpoint_digest"
"""Key of `Results.facts` under which a side may name the checkpoint that answered."""
IMPROBABLE = 0.001
CUT_GAP = 0.05
"""From this difference in the share of answers that were cut off on, it is told."""


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
    floor_allowed: tuple[str, ...] = ()
    """Tasks of which the worst score on both sides is believed, such as one that nobody solves yet."""
    context_gap_max_frac: float = Field(default=0.01, ge=0, le=1)
    """Largest difference in the share of answers that did not fit the context: more is another context."""


class _Finding(NamedTuple):
    text: str
    fatal: bool
    where: str = ""
    measured: str | float | None = None
    limit: str | float | None = None
    rule: str = ""
    """fatal, declared or harmless, for a difference in the protocol."""


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
        name = next((topic for pattern, topic in TOPICS if fnmatchcase(key, pattern)), "it")
        harmless = next((why for pattern, why in HARMLESS.items() if fnmatchcase(key, pattern)), None)
        if _matches(key, policy.declared):
            text = f"{name} is declared to differ: {shown[0]} and {shown[1]}"
            yield _Finding(text, False, key, *shown, rule="declared")
        elif harmless is not None:
            text = f"differs without harm ({harmless}): {shown[0]} and {shown[1]}"
            yield _Finding(text, False, key, *shown, rule="harmless")
        else:
            text = f"{name} differs: {shown[0]} for the baseline, {shown[1]} for the candidate"
            yield _Finding(text, True, key, *shown, rule="fatal")


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
    inferred = "inferred" in (before.scale_source, after.scale_source)
    if not inferred or (len(before.samples) and len(after.samples)):
        ranges = [f"{t.low:g}..{t.high:g}" for t in (before, after)]
        if ranges[0] != ranges[1]:
            told = " (it is inferred from the scores: declare it)" if inferred else ""
            yield _Finding(f"the range differs: {ranges[0]} and {ranges[1]}{told}", True, name, *ranges)
    yield from _floor(before, after, policy)
    yield from _endings(before, after, policy)
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


def _floor(before: TaskResult, after: TaskResult, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    """Both sides at the worst value: no answer was right anywhere."""
    if before.task in policy.floor_allowed:
        return
    if all(_at_floor(t) for t in (before, after)):
        worst = before.low if before.direction is Direction.HIGHER else before.high
        text = f"both sides score the worst there is, {worst:g}: a harness that is broken on both sides"
        yield _Finding(text, True, before.task, worst)


def _at_floor(task: TaskResult) -> bool:
    if task.direction is Direction.LOWER and not task.low < task.high:
        return False
    worst = task.low if task.direction is Direction.HIGHER else task.high
    given = [s for s in task.samples.score if s is not None]
    return all(s == worst for s in given) if given else task.score == worst


def _endings(before: TaskResult, after: TaskResult, policy: ComparabilityPolicy) -> Iterable[_Finding]:
    """How the generations ended, where both sides say so."""
    full = [overfull_share(t.samples) for t in (before, after)]
    cut = [truncated_share(t.samples) for t in (before, after)]
    if full[0] is None or full[1] is None or cut[0] is None or cut[1] is None:
        return
    if abs(full[0] - full[1]) > policy.context_gap_max_frac:
        text = (
            f"{full[0]:.1%} of the baseline's answers did not fit the context and {full[1]:.1%} of the "
            "candidate's: was one side served with less?"
        )
        yield _Finding(text, True, before.task, full[1], full[0])
    if abs(cut[0] - cut[1]) > CUT_GAP:
        text = f"{cut[0]:.1%} of the baseline's answers were cut off and {cut[1]:.1%} of the candidate's"
        yield _Finding(text, False, before.task, cut[1], cut[0])


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
        else f"{text}; was the candidate served?{_one_name(baseline, candidate)}",
        suspicious,
        "",
        n,
        policy.same_outputs_min,
    )


def _one_name(baseline: Results, candidate: Results) -> str:
    names = [r.protocol.get("model_name") for r in (baseline, candidate)]
    return f" Both answered to the name {one_line(names[0])}" if names[0] and names[0] == names[1] else ""


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
        extra={
            "warnings": [f.text for f in found if not f.fatal],
            "differences": [
                {"key": f.where, "rule": f.rule, "baseline": f.measured, "candidate": f.limit}
                for f in found
                if f.rule
            ],
        },
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
