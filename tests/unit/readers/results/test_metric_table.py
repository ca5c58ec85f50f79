"""The shipped metric table: every suite task of the day-0 gates is in it, with its range and its samples."""

from __future__ import annotations

import pytest

from assay.core.vocabulary import Direction
from assay.readers.results.metrics import SHIPPED, shipped_table


@pytest.mark.parametrize(
    ("flat", "rows", "top", "judge"),
    [
        ("gpqa_pass_at_1_avg-of-16_symbolic_correct", 198 * 16, 100, False),
        ("hle_pass_at_1_judge_correct", 2158, 100, True),
        ("aalcr_pass_at_1_avg-of-16_judge_correct", 1600, 100, True),
        ("scicode_pass_at_1_avg-of-1_subtask_accuracy", 288, 100, False),
        ("ifbench_pass_at_1_avg-of-5_prompt_loose_accuracy", 294 * 5, 100, False),
        ("mmmu-pro_pass_at_1_symbolic_correct", 1730, 100, False),
        ("tau2_bench_telecom_pass_at_1", 114 * 8, 1, True),
        ("omniscience_pass_at_1_avg-of-10_judge_omni_index", 6000, 100, True),
        ("omniscience_pass_at_1_avg-of-10_judge_correct", 6000, 100, True),
        ("gdpval_normalized_elo", 220, 1, True),
        ("mmlu-pro_pass_at_1_symbolic_correct", 12032, 100, False),
        ("AIME_2025_score_micro_avg_of_64", 30 * 64, 1, True),
        ("livecodebench_pass_at_1_avg-of-8_accuracy", 454 * 8, 100, False),
    ],
)
def test_suite_tasks(flat: str, rows: int, top: float, judge: bool) -> None:
    """By the flat names of the exporters."""
    row = SHIPPED.find(flat)
    assert row is not None
    assert (row.rows, row.high, row.judge) == (rows, top, judge)
    assert row.planning_flip_rate is not None


def test_names_by_task() -> None:
    """A metric that means nothing alone is found by its task."""
    row = SHIPPED.find("pass@1", "terminal-bench-2.1")
    assert row is not None
    assert row.rows == 89 * 8
    plain = SHIPPED.find("pass@1", "another")
    assert plain is not None
    assert plain.samples is None


def test_what_is_lower_is_better() -> None:
    """Rates of failure, perplexities and the like."""
    for metric in (
        "omniscience_hallucination_rate",
        "gpqa_no_answer",
        "word_perplexity",
        "brier_score",
        "ter",
    ):
        row = SHIPPED.find(metric)
        assert row is not None
        assert row.direction is Direction.LOWER


def test_every_row_can_be_reached() -> None:
    """A pattern that an earlier one swallows whole would never be asked."""
    table = shipped_table()
    for row in table.metrics:
        name = row.metric.replace("*", "x")
        assert table.find(name, row.task.replace("*", "x")) is not None
