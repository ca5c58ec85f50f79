"""Ranges and directions of the metrics that the field reports. Others are inferred, and marked as such.

Sources: facts/release.md §4.5 and §5 (NeMo Evaluator's flat names), lm-eval 0.4.13 `api/metrics.py`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from assay.core.vocabulary import Direction
from assay.readers.results.harness import number


class Scale(NamedTuple):
    """The range of a metric, and which end of it is good."""

    low: float
    high: float
    direction: Direction
    source: Literal["declared", "table", "inferred"] = "table"

    @property
    def bounded(self) -> bool:
        """False for perplexities and the like: `low == high` says that no range is known."""
        return self.high > self.low


_UP, _DOWN = Direction.HIGHER, Direction.LOWER
UNBOUNDED_DOWN = Scale(0.0, 0.0, _DOWN)
"""No finite range: such a metric is compared only under a declared one."""

METRICS: dict[str, Scale] = {
    "exact_match": Scale(0, 1, _UP),
    "em": Scale(0, 1, _UP),
    "acc": Scale(0, 1, _UP),
    "acc_norm": Scale(0, 1, _UP),
    "acc_bytes": Scale(0, 1, _UP),
    "acc_mutual_info": Scale(0, 1, _UP),
    "acc_all": Scale(0, 1, _UP),
    "prompt_level_strict_acc": Scale(0, 1, _UP),
    "prompt_level_loose_acc": Scale(0, 1, _UP),
    "inst_level_strict_acc": Scale(0, 1, _UP),
    "inst_level_loose_acc": Scale(0, 1, _UP),
    "f1": Scale(0, 1, _UP),
    "likelihood": Scale(0, 1, _UP),
    "pass@1": Scale(0, 1, _UP),
    "pass_at_1": Scale(0, 1, _UP),
    "mean_reward": Scale(0, 1, _UP),
    "mcc": Scale(-1, 1, _UP),
    "brier_score": Scale(0, 2, _DOWN),
    "bleu": Scale(0, 100, _UP),
    "chrf": Scale(0, 100, _UP),
    "chrf++": Scale(0, 100, _UP),
    "ter": UNBOUNDED_DOWN,
    "perplexity": UNBOUNDED_DOWN,
    "word_perplexity": UNBOUNDED_DOWN,
    "byte_perplexity": UNBOUNDED_DOWN,
    "bits_per_byte": UNBOUNDED_DOWN,
    "normalized_elo": Scale(0, 1, _UP),
}
"""By the metric's own name."""

FLAT_NAMES: tuple[tuple[str, Scale], ...] = (
    ("*judge_omni_index", Scale(-100, 100, _UP)),
    ("*hallucination*", Scale(0, 100, _DOWN)),
    ("*_no_answer", Scale(0, 100, _DOWN)),
    ("tau2_bench_*pass_at_1", Scale(0, 1, _UP)),
    ("aime_*_score_micro*", Scale(0, 1, _UP)),
    ("*normalized_elo", Scale(0, 1, _UP)),
    ("*_pass_at_1*_symbolic_correct", Scale(0, 100, _UP)),
    ("*_pass_at_1*_judge_correct", Scale(0, 100, _UP)),
    ("scicode_*_subtask_accuracy", Scale(0, 100, _UP)),
    ("ifbench_*_accuracy", Scale(0, 100, _UP)),
    ("livecodebench_*_accuracy", Scale(0, 100, _UP)),
)
"""By the flat `task_metric_score` name of NeMo Evaluator, first match wins."""


def scale_of(metric: str, score: Any, *, higher_is_better: Any = None) -> Scale:
    """The scale of a metric: by the table, else inferred from the one score that is known.

    Args:
        metric: metric name, or a flat `task_metric` name.
        score: the reported score, for the inference: 0..1 if it lies there, else 0..100.
        higher_is_better: what the harness declares; a boolean wins over the table's direction.
    """
    known = METRICS.get(metric) or next(
        (scale for pattern, scale in FLAT_NAMES if fnmatchcase(metric.lower(), pattern)), None
    )
    if known is None:
        value = number(score)
        known = Scale(0, 1 if value is not None and 0 <= value <= 1 else 100, _UP, "inferred")
    if isinstance(higher_is_better, bool):
        return known._replace(direction=_UP if higher_is_better else _DOWN)
    return known
