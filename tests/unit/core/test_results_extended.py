"""Results of one batch extended by the next: as if all items had been asked at once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.core.evidence import Artifact
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult


def samples(first: int, n: int, **more: Any) -> Samples:
    """Rows `first` to `first + n`, every third one wrong."""
    numbers = range(first, first + n)
    return Samples(
        id=tuple(f"i{i}" for i in numbers),
        repeat=(0,) * n,
        prompt=tuple(f"p{i}" for i in numbers),
        score=tuple(float(i % 3 > 0) for i in numbers),
        state=(SampleState.SCORED,) * n,
        output=tuple(f"o{i}" for i in numbers),
        **more,
    )


def task(first: int, n: int, name: str = "t", **more: Any) -> TaskResult:
    """A task of those rows, with their mean."""
    rows = more.pop("samples", samples(first, n))
    mean = sum(s or 0.0 for s in rows.score) / n if n else None
    values: dict[str, Any] = {"score": mean, "expected": n, "scored": n, **more}
    return TaskResult(task=name, metric=values.pop("metric", "acc"), samples=rows, **values)


def results(*tasks: TaskResult, **more: Any) -> Results:
    """An evaluation."""
    return Results(subject="w4", harness="h", tasks=tasks, **{"protocol": {"version": 1}, **more})


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_batches_equal_one_evaluation(lengths: list[int]) -> None:
    """Rows, counts, score and protocol of the batches together are those of all at once."""
    first, joined = 0, None
    for n in lengths:
        batch = results(task(first, n))
        joined = batch if joined is None else joined.extended(batch)
        first += n
    assert joined is not None
    at_once = results(task(0, first))
    one, other = joined.tasks[0], at_once.tasks[0]
    assert one.samples == other.samples
    assert (one.expected, one.scored, one.status, one.metric) == (first, first, RunStatus.SUCCESS, "acc")
    assert one.score is not None
    assert other.score is not None
    assert abs(one.score - other.score) < 1e-12
    assert joined.protocol == at_once.protocol


def test_a_task_that_comes_later_is_added() -> None:
    """A task without items in the first batch is there after the second."""
    joined = results(task(0, 3)).extended(results(task(3, 2), task(0, 1, "u")))
    assert {t.task: len(t.samples) for t in joined.tasks} == {"t": 5, "u": 1}


def test_the_worse_status_and_all_errors_stay() -> None:
    """A batch that failed is not mended by one that went well, in either order."""
    bad, good = task(0, 2, status=RunStatus.FAILED, errors=("lost",)), task(2, 2, errors=("slow", "lost"))
    for one, other in ((bad, good), (good, bad)):
        joined = results(one).extended(results(other)).tasks[0]
        assert joined.status is RunStatus.FAILED
        assert set(joined.errors) == {"lost", "slow"}


def test_a_missing_score_stays_missing() -> None:
    """No mean is made of a batch that has none, and unknown expectations stay unknown."""
    joined = results(task(0, 2)).extended(results(task(2, 2, score=None, expected=None))).tasks[0]
    assert (joined.score, joined.expected, joined.scored) == (None, None, 4)


def test_another_protocol_is_named_on_both() -> None:
    """A server that changed between batches shows: no other side agrees with such a protocol."""
    joined = results(task(0, 1)).extended(results(task(1, 1), protocol={"version": 2, "dtype": "int8"}))
    assert joined.protocol == {"version": "1 then 2", "dtype": "None then int8"}


def test_another_metric_is_named() -> None:
    """Scores of two metrics are not passed off as one."""
    joined = results(task(0, 1)).extended(results(task(1, 1, metric="f1"))).tasks[0]
    assert joined.metric == "acc then f1"


def test_optional_columns_are_filled_where_one_batch_lacks_them() -> None:
    """Tokens and finish reasons of one batch keep their rows; absent in both they stay absent."""
    with_tokens = task(0, 2, samples=samples(0, 2, tokens=(5, 6), finish_reason=("stop", "length")))
    plain = task(2, 1)
    joined = results(with_tokens).extended(results(plain)).tasks[0].samples
    assert (joined.tokens, joined.finish_reason, joined.cluster) == ((5, 6, None), ("stop", "length", ""), ())
    joined = results(plain).extended(results(with_tokens)).tasks[0].samples
    assert (joined.tokens, joined.finish_reason) == ((None, 5, 6), ("", "stop", "length"))


def test_an_item_in_two_batches_stays_twice() -> None:
    """It is not dropped quietly: the gates that count see it."""
    joined = results(task(0, 2)).extended(results(task(1, 2))).tasks[0].samples
    assert joined.id == ("i0", "i1", "i1", "i2")


def test_artifacts_are_kept_once() -> None:
    """Files of both batches are evidence; the same file is named once."""
    files = [Artifact(path=f"/{n}", digest="sha256:" + n * 64, size_bytes=1) for n in "ab"]
    joined = results(task(0, 1), artifacts=(files[0],)).extended(results(task(1, 1), artifacts=tuple(files)))
    assert joined.artifacts == tuple(files)
