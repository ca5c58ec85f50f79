"""The part of a release's plan that evaluates: everything at once, or batch by batch until it is known."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.draw import Draw, stops
from assay.core.gate import Policy
from assay.core.study import GateRef, Step
from assay.core.vocabulary import Verb
from assay.flows._release.spec import ReleaseSpec
from assay.gates.compare import ComparePolicy, look_plan
from assay.gates.results import ResultsPolicy


def more(spec: ReleaseSpec, steps: tuple[Step, ...], pairs: int) -> tuple[Step, ...]:
    """A further look for a study whose pairs did not decide, under the contract that it was opened with.

    Args:
        spec: the spec of the study.
        steps: its plan as it stands.
        pairs: further pairs, over all tasks, beyond those of the plan.

    Returns:
        A step for each side; none where no item is left.
    """
    drawn = [s for s in steps if s.draw is not None]
    last = drawn[-1].draw
    before = {task: stop for task, (_, stop) in last.parts.items()} if last else {}
    upto = stops(spec.expected_samples, [sum(before.values()) + pairs])[0]
    upto = {task: max(stop, before[task]) for task, stop in upto.items()}
    if upto == before:
        return ()
    return _look(spec, compare_policy(spec), len(drawn) // 2 + 1, before, upto)


def evaluation(spec: ReleaseSpec) -> tuple[Step, ...]:
    """Both sides asked everything, or batch by batch."""
    policy = compare_policy(spec)
    if policy.looks is None:
        return _sides(spec, policy, spec.expected_samples)
    steps: list[Step] = []
    before = dict.fromkeys(spec.expected_samples, 0)
    for number, upto in enumerate(stops(policy.looks.sizes, policy.looks.ends), start=1):
        steps += _look(spec, policy, number, before, upto)
        before = upto
    return tuple(steps)


def _look(
    spec: ReleaseSpec, policy: ComparePolicy, number: int, before: Mapping[str, int], upto: Mapping[str, int]
) -> tuple[Step, ...]:
    """One more batch on both sides; its gates see all items so far."""
    parts = {task: (before[task], stop) for task, stop in upto.items()}
    batch = {
        "draw": Draw(seed=spec.seed, sizes=spec.expected_samples, parts=parts),
        "until": "compare",
        "keep_serving": spec.sequential is not None and spec.sequential.keep_serving,
    }
    steps = _sides(spec, policy, {task: stop for task, stop in upto.items() if stop})
    return tuple(
        step.model_copy(
            update={
                **batch,
                "name": f"{step.name}-{number}",
                "extends": f"{step.name}-{number - 1}" if number > 1 else "",
            }
        )
        for step in steps
    )


def _sides(spec: ReleaseSpec, policy: ComparePolicy, expected: Mapping[str, int]) -> tuple[Step, ...]:
    limited = spec.evaluate.options.get("limit") is not None  # what the spec says is declared
    results = ResultsPolicy(expected=expected, limit_declared=limited or policy.looks is not None)
    baseline_gates = [gate_ref("results", results, "baseline-results", {"results": "baseline.results"})]
    if spec.external is not None:
        drawn = {"sizes": spec.expected_samples} if policy.looks is not None else {}
        baseline_gates.append(gate_ref("external", spec.external.model_copy(update=drawn)))
    return (
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
                gate_ref("results", results, "candidate-results", {"results": "candidate.results"}),
                gate_ref("comparability", spec.comparability),
                gate_ref("compare", policy),
            ),
        ),
    )


def gate_ref(name: str, policy: Policy, label: str = "", reads: Mapping[str, str] | None = None) -> GateRef:
    """A gate with its policy, as a plan names it."""
    return GateRef(gate=name, policy=policy.to_json(), label=label, reads=reads or {})


def compare_policy(spec: ReleaseSpec) -> ComparePolicy:
    """The contract of each comparison.

    Every rung is another chance to accept by luck: the error rate is shared among them, unless declared.
    """
    policy = spec.compare
    if "comparisons" not in policy.model_fields_set:
        policy = policy.model_copy(update={"comparisons": len(spec.recipes)})
    if spec.sequential is None:
        return policy
    asked = spec.sequential
    looks = look_plan(
        policy,
        spec.expected_samples,
        rule=asked.rule,
        looks=asked.looks,
        first=asked.first,
        n_max=asked.n_max,
    )
    return policy.model_copy(
        update={
            "looks": looks.model_copy(
                update={"topup_frac": asked.topup_frac, "futile_below": asked.futile_below}
            )
        }
    )
