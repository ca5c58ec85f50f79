"""Comparability gate: symmetric in what it refuses, blind to order, and it needs every key explained."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.vocabulary import Status
from assay.gates.comparability import HARMLESS, ComparabilityGate, ComparabilityPolicy

values = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"])
protocols = st.dictionaries(
    st.sampled_from(["k1", "k2", "model_name", "engine", "git_hash"]), values, max_size=4
)
rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 1), st.sampled_from("pq"), st.sampled_from("xy")),
    max_size=4,
)


@st.composite
def evaluations(draw: st.DrawFn) -> Results:
    """An evaluation of one or two tasks with a few rows."""
    tasks = []
    for name in draw(st.lists(st.sampled_from("tu"), unique=True, max_size=2)):
        column = list(zip(*draw(rows), strict=True)) or [(), (), (), ()]
        n = len(column[0])
        samples = Samples(
            id=column[0],
            repeat=column[1],
            prompt=column[2],
            output=column[3],
            score=(1.0,) * n,
            state=(SampleState.SCORED,) * n,
        )
        tasks.append(TaskResult(task=name, metric="acc", score=1.0, samples=samples))
    return Results(subject="x", harness="h", tasks=tuple(tasks), protocol=draw(protocols))


def status(baseline: Results, candidate: Results, **policy: Any) -> Status:
    """How the gate ends."""
    gate = ComparabilityGate(ComparabilityPolicy(**policy))
    return gate.judge({"baseline.results": baseline, "candidate.results": candidate}).status


@given(evaluations(), evaluations())
def test_the_sides_may_be_exchanged(one: Results, other: Results) -> None:
    """What is not comparable one way round is not the other way round."""
    assert status(one, other) is status(other, one)


@given(evaluations(), evaluations())
def test_a_pass_means_equal_samples_and_explained_keys(one: Results, other: Results) -> None:
    """After a pass all tasks have the same rows and prompts, and every differing key is a harmless one."""
    if status(one, other) is not Status.PASS:
        return
    assert {t.task for t in one.tasks} == {t.task for t in other.tasks} != set()
    for task in one.tasks:
        match = other.task(task.task)
        assert match is not None
        mine, theirs = (
            sorted(zip(t.samples.id, t.samples.repeat, t.samples.prompt, strict=True)) for t in (task, match)
        )
        assert mine == theirs
        assert mine
        assert len(set(mine)) == len(mine)
    for key in {*one.protocol, *other.protocol}:
        if key not in one.protocol or key not in other.protocol or one.protocol[key] != other.protocol[key]:
            assert key in HARMLESS


@given(evaluations(), st.randoms(use_true_random=False))
def test_order_never_matters(one: Results, rng: Any) -> None:
    """Rows, tasks and keys in another order are the same evaluation."""
    tasks = []
    for task in one.tasks:
        order = list(range(len(task.samples)))
        rng.shuffle(order)
        columns = {
            name: tuple(column[i] for i in order) if (column := getattr(task.samples, name)) else ()
            for name in Samples.model_fields
        }
        tasks.append(task.model_copy(update={"samples": Samples(**columns)}))
    rng.shuffle(tasks)
    shuffled = one.model_copy(update={"tasks": tuple(tasks)})
    assert status(one, shuffled) is status(one, one)


@given(evaluations(), evaluations())
def test_declaring_more_never_refuses_more(one: Results, other: Results) -> None:
    """A declared key can only turn a refusal into a pass."""
    if status(one, other) is Status.PASS:
        assert status(one, other, declared=("*",)) is Status.PASS
