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
    drawn = [s for s in steps if s.draw is not None and s.until]
    last = drawn[-1].draw
    before = {task: stop for task, (_, stop) in last.parts.items()} if last else {}
    upto = stops(spec.expected_samples, [sum(before.values()) + pairs])[0]
    upto = {task: max(stop, before[task]) for task, stop in upto.items()}
    if upto == before:
        return ()
    return _look(spec, compare_policy(spec), len(drawn) // 2 + 1, (before, upto))


def evaluation(spec: ReleaseSpec) -> tuple[Step, ...]:
    """Both sides asked everything, or batch by batch, or only what recipes are ranked by."""
    if spec.select is not None:
        return _ranking(spec, _searched(spec))
    policy = compare_policy(spec)
    if policy.looks is None:
        return _sides(spec, policy, spec.expected_samples)
    return _looks(spec, policy)


def confirmation(spec: ReleaseSpec) -> tuple[Step, ...]:
    """Steps for the best ranked recipe alone, on the items that were not for choosing."""
    return _looks(spec, compare_policy(spec)) if spec.select is not None else ()


def _searched(spec: ReleaseSpec) -> dict[str, int]:
    """Items of each task that are for choosing: the first places of the random order."""
    share = spec.select.search_frac if spec.select is not None else 0.0
    return {task: round(share * n) for task, n in spec.expected_samples.items()}


def _ranking(spec: ReleaseSpec, upto: Mapping[str, int]) -> tuple[Step, ...]:
    """Both sides asked the items that are for choosing."""
    draw = Draw(seed=spec.seed, sizes=spec.expected_samples, parts={task: (0, n) for task, n in upto.items()})
    baseline, candidate = _sides(spec, compare_policy(spec), upto)
    gates = tuple(g for g in candidate.gates if g.gate != "compare")
    rank = gate_ref("rank", spec.compare).model_copy(update={"required": False})
    return (
        baseline.model_copy(update={"name": "search-baseline", "draw": draw}),
        candidate.model_copy(update={"name": "search", "draw": draw, "gates": (*gates, rank)}),
    )


def _looks(spec: ReleaseSpec, policy: ComparePolicy) -> tuple[Step, ...]:
    """Batch by batch, from behind the items that were for choosing."""
    searched = _searched(spec)
    steps: list[Step] = []
    before: Mapping[str, int] = searched
    plan = policy.looks or look_plan(policy, _left(spec), rule="group", looks=1)
    for number, asked in enumerate(stops(plan.sizes, plan.ends), start=1):
        upto = {task: searched[task] + n for task, n in asked.items()}
        steps += _look(spec, policy, number, (before, upto))
        before = upto
    return tuple(steps)


def _left(spec: ReleaseSpec) -> dict[str, int]:
    """Items of each task that are for judging."""
    searched = _searched(spec)
    return {task: n - searched[task] for task, n in spec.expected_samples.items()}


def _look(
    spec: ReleaseSpec, policy: ComparePolicy, number: int, places: tuple[Mapping[str, int], Mapping[str, int]]
) -> tuple[Step, ...]:
    """One more batch on both sides, from one place of each task's order to another; its gates see all so far."""
    before, upto = places
    searched = _searched(spec)
    batch = {
        "draw": Draw(
            seed=spec.seed,
            sizes=spec.expected_samples,
            parts={task: (before[task], stop) for task, stop in upto.items()},
        ),
        "until": "compare",
        "keep_serving": spec.sequential is not None and spec.sequential.keep_serving,
    }
    seen = {task: stop - searched[task] for task, stop in upto.items() if stop > searched[task]}
    return tuple(
        step.model_copy(
            update={
                **batch,
                "name": f"{step.name}-{number}",
                "extends": f"{step.name}-{number - 1}" if number > 1 else "",
            }
        )
        for step in _sides(spec, policy, seen)
    )


def _sides(spec: ReleaseSpec, policy: ComparePolicy, expected: Mapping[str, int]) -> tuple[Step, ...]:
    limited = spec.evaluate.options.get("limit") is not None  # what the spec says is declared
    results = ResultsPolicy(expected=expected, limit_declared=limited or _draws(spec))
    baseline_gates = [gate_ref("results", results, "baseline-results", {"results": "baseline.results"})]
    if spec.external is not None:
        drawn = {"sizes": spec.expected_samples} if _draws(spec) else {}
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


def _draws(spec: ReleaseSpec) -> bool:
    return spec.sequential is not None or spec.select is not None


def gate_ref(name: str, policy: Policy, label: str = "", reads: Mapping[str, str] | None = None) -> GateRef:
    """A gate with its policy, as a plan names it."""
    return GateRef(gate=name, policy=policy.to_json(), label=label, reads=reads or {})


def compare_policy(spec: ReleaseSpec) -> ComparePolicy:
    """The contract of each comparison.

    Every rung is another chance to accept by luck: the error rate is shared among them, unless declared.
    """
    policy = spec.compare
    if "comparisons" not in policy.model_fields_set:
        # one that was chosen on other items is judged alone
        policy = policy.model_copy(update={"comparisons": len(spec.recipes) if spec.select is None else 1})
    if spec.sequential is None:
        return policy
    asked = spec.sequential
    looks = look_plan(
        policy, _left(spec), rule=asked.rule, looks=asked.looks, first=asked.first, n_max=asked.n_max
    )
    more = {"topup_frac": asked.topup_frac, "futile_below": asked.futile_below}
    return policy.model_copy(update={"looks": looks.model_copy(update=more)})
