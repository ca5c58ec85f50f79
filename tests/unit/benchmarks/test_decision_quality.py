"""The benchmark of the decision: its three rules by hand, and each part in a tiny run."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import stats
from assay.core.vocabulary import Status

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import decision_quality as benchmark


def table(b: float, c: float, n: int) -> Any:
    """One study as the benchmark takes it."""
    return benchmark.Flips(np.array([float(b)]), np.array([float(c)]), n)


def tiny(part: Any, *arguments: Any) -> list[Any]:
    """A part with few draws."""
    rows = part(np.random.default_rng(1), *arguments)
    for row in rows:
        assert row.name.startswith("Q")
        assert row.ok in (True, False)
        assert row.target
        assert row.value >= 0.0
        assert row.unit != "%" or row.value <= 100.0
    return rows


def test_a_target_is_met_by_the_bound_and_not_by_the_share() -> None:
    """0 of 100 may still be 4.5 % (1 - 0.01^(1/100)), so it does not prove 4 %."""
    none = benchmark.Share(0, 100)
    assert none.bounds == (0.0, pytest.approx(100 * (1 - 0.01**0.01)))
    assert not benchmark.at_most("Q", none, 4.0, benchmark.Peers()).ok
    assert benchmark.at_most("Q", none, 5.0, benchmark.Peers()).ok
    assert not benchmark.at_least("Q", benchmark.Share(100, 100), 96.0, benchmark.Peers()).ok


@pytest.mark.parametrize(
    ("b", "c", "n", "accepted", "regressed"),
    [
        (3, 1, 200, True, False),
        (4, 1, 200, False, True),
        (0, 10, 200, True, False),
        (0, 11, 200, False, False),
    ],
)
def test_the_source_rule(b: int, c: int, n: int, accepted: bool, regressed: bool) -> None:
    """A drop of exactly a point passes, 1.5 points do not; a gain above five points is no ACCEPT."""
    study = table(b, c, n)
    assert benchmark.source_rule(study)[0] == accepted
    assert benchmark.source_regress(study)[0] == regressed


@pytest.mark.parametrize(
    ("b", "c", "n", "passed", "breached"),
    [
        (50, 50, 20_000, True, False),
        (10, 0, 100, False, True),
        (5, 5, 200, False, False),
        (5, 0, 9, False, False),
    ],
)
def test_the_rule_of_nel_gate(b: int, c: int, n: int, passed: bool, breached: bool) -> None:
    """The whole 95 % interval below the limit, above it, across it; and below ten pairs never a verdict."""
    found = benchmark.nel_of(table(b, c, n))
    assert (found[0][0], found[1][0]) == (passed, breached)


def test_the_vectorised_rule_is_the_exact_test() -> None:
    """Around the boundary, where score and exact test may differ, the exact one decides; both ways."""
    for b, c in [(1, 8), (2, 9), (3, 10), (6, 16), (7, 16), (9, 20), (12, 5), (15, 7), (20, 10)]:
        exact = stats.exact_paired_test(b, c, 200, 0.01)
        assert benchmark.assay_rule(table(b, c, 200))[0] == (exact.p_accept <= 0.05)
        assert benchmark.assay_rule(table(b, c, 200), regress=True)[0] == (exact.p_regress <= 0.05)


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        (benchmark.q1, (400, (10_000,))),
        (benchmark.q2, (400,)),
        (benchmark.q4_q5, (60, 0)),
        (benchmark.q6_fixed, (400, (10_000,))),
        (benchmark.q6_group, (400,)),
        (benchmark.q7, (200,)),
        (benchmark.q8, (100,)),
        (benchmark.q9, (60,)),
        (benchmark.q10, (200,)),
        (benchmark.q11, (30,)),
        (benchmark.q12, (300,)),
    ],
)
def test_each_part_gives_sane_rows(part: Any, arguments: tuple[Any, ...]) -> None:
    """Few draws already show the order of size: a wrong verdict is rare, a right one is not."""
    for row in tiny(part, *arguments):
        if row.unit == "%" and row.target.startswith("<="):
            assert row.value < 15.0, row.name
        elif row.unit == "%":
            assert row.value > 50.0, row.name


def test_the_other_rule_is_worse_where_it_should_be() -> None:
    """At the margin a point rule is a coin; the row shows it."""
    (row, *_) = tiny(benchmark.q1, 2000, (10_000,))
    shown = row.peer.split("source ")[1].split(" %")[0]
    assert 45.0 < float(shown.split("-")[0]) < 60.0


@pytest.mark.parametrize(
    ("tasks", "word"),
    [
        ([(30, 30)] * 8, Status.PASS),
        ([(36, 28)] * 8, Status.INCONCLUSIVE),
        ([(45, 20)] * 8, Status.FAIL),
        ([(80, 20), *[(30, 30)] * 7], Status.FAIL),
        ([(45, 25), *[(30, 30)] * 7], Status.INCONCLUSIVE),
    ],
)
def test_the_gate_agrees_on_suites(tasks: list[tuple[int, int]], word: Status) -> None:
    """The rule over all draws at once and the compare gate's own statistics give one verdict."""
    ours = benchmark.assay_suite([table(b, c, 1000) for b, c in tasks])
    assert benchmark.rule_word(ours, 0) is word
    assert benchmark.gate_verdict(tasks) is word


def test_what_is_injected_is_caught() -> None:
    """Five of five by our gates, two by the source's three checks, none by nel gate; honest pairs pass."""
    caught, false = tiny(benchmark.q13, 6)
    assert caught.value == 5.0
    assert caught.peer == "missed: none; source 2; nel gate 0"
    assert false.value == 0.0


def test_each_injection_is_caught_by_the_gate_it_is_meant_for() -> None:
    """Not by luck of another gate: the name of the gate that refuses."""
    injected = benchmark.injections(np.random.default_rng(2))
    found = {name: benchmark.alarms(cases[0]) for name, cases in injected.items()}
    assert "comparability" in found["same model twice"]
    assert "comparability" in found["scale mix"]
    assert "comparability" in found["template swap"]
    assert "results" in found["dropped samples"]
    assert found["silent no-quant"] == ["checkpoint"]


def test_the_examples_of_the_page_are_true() -> None:
    """Every snippet of docs/deciding.md gives what the page says."""
    page = (Path(__file__).parents[3] / "docs/deciding.md").read_text()
    snippets = "\n".join(re.findall(r"```pycon\n(.*?)```", page, flags=re.DOTALL))
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(doctest.DocTestParser().get_doctest(snippets, {}, "deciding", None, 0))
    summary = runner.summarize(verbose=False)
    assert summary.failed == 0
    assert summary.attempted > 10
