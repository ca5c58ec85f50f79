"""The checker: nothing raises, chunks do not matter, worse evidence resolves nothing, the lines fold to the state."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.live.alert import AlertChange
from assay.live.checker import _HANDLERS, Checker
from assay.live.window import SIGNALS

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FACTS = (
    "trainable_elements", "owned_trainable_elements", "foreign_elements", "elements", "scheduler", "dropout", "classes",
    "label_entropy", "expected_batch_label_entropy", "batch_label_entropy", "overlap_frac", "feature_score", "classical",
)  # fmt: skip
CLASSICAL = ("fold_scores", "baseline_score", "boosting", "search_scores", "train_score", "fold_classes")
numbers = st.integers(-(10**320), 10**320) | st.floats() | st.floats(-10, 10)
named = st.dictionaries(
    st.sampled_from(["loss", "val_loss", "val_acc", "train_acc", "lr"]), numbers | json_values
)
facts = st.dictionaries(
    st.sampled_from(FACTS),
    numbers | st.lists(numbers, max_size=8) | json_values
    | st.dictionaries(st.sampled_from(CLASSICAL), numbers | st.lists(numbers, max_size=60)),
)  # fmt: skip
garbage = st.fixed_dictionaries(
    {"event": st.sampled_from(sorted(_HANDLERS)) | json_values},
    optional={
        "attempt": st.integers(0, 3) | json_values,
        "step": numbers | json_values,
        "t": numbers | json_values,
        "timestamp": json_values,
        "seq": st.integers(0, 5) | json_values,
        "metrics": named | json_values,
        "signals": st.dictionaries(st.sampled_from(SIGNALS), numbers | json_values) | json_values,
        "nonfinite": st.dictionaries(st.text(max_size=4), scalars) | json_values,
        "facts": facts | json_values,
        "plan": st.fixed_dictionaries({}, optional={"rules": json_values, "stop": json_values, "seed": numbers,
                                                    "total_steps": numbers, "primary_metric": json_values}),
        "config": named | json_values,
        "name": json_values, "reason": st.sampled_from(["best", "cadence"]) | json_values,
        "total_epochs": numbers, "epoch": numbers, "resumed_from": json_values,
    },
)  # fmt: skip
outside = st.dictionaries(
    st.sampled_from(["alive", "ended", "phase", "phase_since", "last_row_time", "rss_bytes", "memory_limit_bytes",
                     "boot_changed", "last_checkpoint", "missing_checkpoints", "record_problems"]),
    numbers | json_values,
)  # fmt: skip


@given(st.lists(garbage | json_values, max_size=12), outside, numbers)
def test_no_row_makes_it_raise(lines: list[Any], seen: dict[str, Any], now: Any) -> None:
    """Whatever stands in the files or comes from outside, the checker goes on and its lines are strict JSON."""
    checker = Checker()
    changes = checker.feed_all(lines)
    if isinstance(now, float) and math.isfinite(now):
        changes += checker.at(now, seen)
    changes += checker.close()
    for change in changes:
        assert AlertChange.model_validate(change.to_json()) == change


def trouble(kinds: list[int]) -> list[dict[str, Any]]:
    """A run of stretches, each with its own trouble."""
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        for _ in range(30):
            step = len(rows) + 1
            loss: float | None = 2.0 * math.exp(-step / 60) + 0.2 + 0.01 * math.sin(9.1 * step)
            signals = {"lr": 1e-3, "grad_norm": 1.0, "update_ratio": 1e-3}
            if kind == 1:
                loss = None
            elif kind == 2:
                loss = 5.0 + math.sin(step)
            elif kind == 3:
                signals["grad_norm"] = 500.0
            elif kind == 4:
                signals["update_ratio"] = 0.0
            elif kind == 5:
                signals["lr"] = 0.0
            row = {"event": "step", "attempt": 1, "step": step, "metrics": {"loss": loss}, "signals": signals}
            rows.append(row | ({"nonfinite": {"loss": "nan"}} if loss is None else {}))
    return rows


kinds = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(kinds, st.lists(st.integers(0, 180), max_size=5))
def test_chunks_do_not_matter(chosen: list[int], cuts: list[int]) -> None:
    """Rows fed in any chunks give the same changes."""
    rows = trouble(chosen)
    whole = Checker().feed_all(rows)
    checker, parts, last = Checker(), [], 0
    for cut in [*sorted(cuts), len(rows)]:
        parts += checker.feed_all(rows[last:cut])
        last = max(last, cut)
    assert [c.to_json() for c in parts] == [c.to_json() for c in whole]


@given(kinds)
def test_the_lines_fold_to_the_state(chosen: list[int]) -> None:
    """The last line of each id is the state that the checker holds, and a replay says the same."""
    rows = trouble(chosen)
    checker = Checker()
    changes = checker.feed_all(rows)
    last = {c.id: c for c in changes}
    assert list(last.values()) == sorted(checker.alerts, key=lambda c: list(last).index(c.id))
    assert [c.to_json() for c in Checker().feed_all(rows)] == [c.to_json() for c in changes]


@given(kinds, st.integers(1, 60))
def test_worse_evidence_resolves_nothing(chosen: list[int], more: int) -> None:
    """Rows whose every value is not finite, or missing, leave every open alert open, or explain it by a graver one."""
    checker = Checker()
    checker.feed_all(trouble(chosen))
    before = {a.id for a in checker.open_alerts}
    row = {
        "event": "step",
        "attempt": 1,
        "metrics": {"loss": None},
        "signals": {},
        "nonfinite": {"loss": "nan"},
    }
    checker.feed_all([row] * more)
    after = {a.id for a in checker.open_alerts}
    explained = {n for a in checker.open_alerts for n in a.joined}
    gone = [a for a in checker.alerts if a.id in before - after]
    assert all(a.name in explained for a in gone)


@given(kinds)
def test_one_open_alert_a_class(chosen: list[int]) -> None:
    """A class is open once however long its fault lasts."""
    checker = Checker()
    checker.feed_all(trouble(chosen))
    names = [(a.name, a.key) for a in checker.open_alerts]
    assert len(names) == len(set(names))
