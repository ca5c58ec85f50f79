"""Every class of fault: the least that must be found, and the nearest that must not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from assay.live.alert import AlertChange
from assay.live.checker import Checker

Line = dict[str, Any]
PLAN: Line = {"total_steps": 400, "primary_metric": {"name": "val_acc", "direction": "max"}}


def wobble(i: int) -> float:
    """A small deterministic noise."""
    return math.sin(12.9898 * i) * 0.02


def learning(n: int = 150, *, start: float = 2.3, end: float = 0.3, **signals: float) -> list[Line]:
    """Rows of a run that learns."""
    rows = []
    for i in range(1, n + 1):
        loss = end + (start - end) * math.exp(-i / 30) + wobble(i)
        rows.append(row(i, loss, **signals))
    return rows


def row(step: int, loss: float | None, *, nonfinite: dict[str, str] | None = None, **signals: float) -> Line:
    """A step row."""
    line: Line = {"event": "step", "attempt": 1, "step": step, "t": 0.01 * step, "metrics": {"loss": loss}}
    line["signals"] = {"lr": 1e-3, "grad_norm": 1.0 + wobble(step), "update_ratio": 1e-3, **signals}
    if nonfinite:
        line["nonfinite"] = nonfinite
    return line


def altered(rows: list[Line], start: int, **signals: float | Callable[[int], float]) -> list[Line]:
    """The rows with signals replaced from a step on."""
    for line in rows:
        if line["step"] >= start:
            line["signals"] |= {k: v(line["step"]) if callable(v) else v for k, v in signals.items()}
    return rows


def losses(rows: list[Line], start: int, value: Callable[[int], float]) -> list[Line]:
    """The rows with losses replaced from a step on."""
    for line in rows:
        if line["step"] >= start:
            line["metrics"]["loss"] = value(line["step"])
    return rows


def evaluations(rows: list[Line], every: int, **metrics: Callable[[int], float]) -> list[Line]:
    """The rows with evaluations between them."""
    found: list[Line] = []
    for line in rows:
        found.append(line)
        if line["step"] % every == 0:
            values = {k: f(line["step"] // every) for k, f in metrics.items()}
            found.append({"event": "evaluation", "attempt": 1, "step": line["step"], "metrics": values})
    return found


def event(kind: str, **fields: Any) -> Line:
    """An event of attempt 1."""
    return {"schema": "experiment-event/1", "event": kind, "attempt": 1, **fields}


def judged(lines: Iterable[Line], plan: Line | None = None) -> Checker:
    """A checker that has seen the lines."""
    checker = Checker(plan=PLAN if plan is None else plan)
    checker.feed_all(lines)
    return checker


def classes(checker: Checker) -> set[int]:
    """Numbers of all alerts that were ever opened."""
    return {a.number for a in checker.alerts}


def data(**facts: Any) -> Line:
    """What the inspection of the data found."""
    return event("data_inspected", facts=facts)


def classical(**facts: Any) -> Line:
    """Facts of classical models."""
    return event("evaluated", metrics={}, facts={"classical": facts})


def last_nan(rows: list[Line]) -> list[Line]:
    """The last loss is not a number."""
    rows[-1]["metrics"]["loss"], rows[-1]["nonfinite"] = None, {"loss": "nan"}
    return rows


def scaler_skips(n: int) -> list[Line]:
    """A gradient scaler that skips steps in a row."""
    rows = learning(100, amp_skipped=0.0)
    for line in rows[-n:]:
        line["signals"] |= {"amp_skipped": 1.0, "grad_norm": None}
        line["nonfinite"] = {"grad_norm": "inf"}
    return rows


def schedule(shape: Callable[[int], float], n: int = 150) -> list[Line]:
    """A run whose learning rate is a function of the step."""
    return altered(learning(n), 1, lr=shape)


def plateau(level: float) -> list[Line]:
    """A loss that stays where it is."""
    return losses(learning(130), 1, lambda i: level + wobble(i))


def forgetting(depth: float) -> list[Line]:
    """A run that meets other data at step 100."""
    rows = losses(learning(240), 100, lambda i: 1.2 * math.exp(-(i - 100) / 20) + 0.2 + wobble(i))
    return evaluations(rows, 10, val_acc=lambda k: min(0.9, 0.1 * k) if k <= 10 else depth + 0.001 * k)


def overfitting(rise: float) -> list[Line]:
    """Validation loss turns at evaluation 6."""
    rows = losses(learning(150), 1, lambda i: 2.3 * math.exp(-i / 25) + 0.01 * abs(wobble(i)))
    return evaluations(rows, 10, val_loss=lambda k: 2.3 - 0.3 * k if k <= 6 else 0.5 + rise * (k - 6))


def by_heart() -> list[Line]:
    """Few rows, learned by heart: the training loss falls ever faster while validation gets worse."""
    train = [2.0, 1.2, 0.46, 0.08, 0.012, 0.0034, 0.0018, 0.0013, 0.0011, 0.0009]
    held = [2.04, 1.91, 2.16, 2.98, 3.43, 3.66, 3.78, 3.85, 3.90, 3.94]
    rows = losses(learning(120), 1, lambda i: train[(i - 1) // 12] * (1 + wobble(i)))
    return evaluations(rows, 12, val_loss=lambda k: held[k - 1])


def coarse(*of_30: int) -> list[Line]:
    """Accuracies on 30 rows, a tenth learned an evaluation until then."""
    seen = [6, 9, 12, 15, 16, 17, 18, *of_30]
    return [
        data(validation_rows=30),
        *evaluations(learning(20 * len(seen)), 20, val_acc=lambda k: seen[k - 1] / 30),
    ]


def policy() -> list[Line]:
    """A policy's loss around zero, and answers that are all one class until 45 % of the plan."""
    rows = losses(learning(240), 1, lambda i: -0.0005 * i + wobble(i))
    shown = evaluations(rows, 20, balanced_accuracy=lambda k: 0.25 if k < 9 else 0.1 * k - 0.5)
    return [data(classes=4, label_entropy=1.386), *shown]


def slow_and_noisy() -> list[Line]:
    """A loss of small batches that fell by a fifth, and whose noise hides it."""
    noise = random.Random(1)
    return losses(learning(150), 1, lambda i: 1.0 - 0.2 * (i > 20) + noise.gauss(0, 0.5))


def memory(per_row: float, limit_mb: float) -> tuple[list[Line], Line]:
    """A run whose memory grows, and its plan."""
    rows = altered(learning(150), 1, rss_bytes=lambda i: 5e8 + per_row * i)
    return rows, {**PLAN, "rules": {"memory_limit_bytes": int(5e8 + limit_mb * 1e6)}}


DEAD_LR = [1e-3 if i < 100 else 0.0 for i in range(400)]

POSITIVE: dict[str, tuple[int, list[Line]]] = {
    "1 nan loss": (1, last_nan(learning(40))),
    "1 weights": (1, altered(learning(40), 40, params_finite=0.0)),
    "1 scaler": (1, scaler_skips(4)),
    "2 lost progress": (2, losses(learning(150), 100, lambda i: 2.0 + wobble(i))),
    "2 after a jump of the rate": (2, altered(losses(learning(103), 101, lambda i: 4.0), 100, lr=0.1)),
    "3 spike": (3, losses(learning(100), 100, lambda i: 3.0)),
    "4 gradients": (4, altered(learning(100), 99, grad_norm=100.0)),
    "5 vanishing": (5, altered(plateau(2.3)[:60], 1, grad_rms_first=1e-9, grad_rms_last=1e-2)),
    "6 dead": (6, altered(learning(60), 58, dead_frac=0.95)),
    "7 saturated": (7, altered(learning(60), 58, saturated_frac=0.6)),
    "8 no update": (8, altered(learning(60), 53, update_ratio=0.0)),
    "8 wiring": (8, [event("wiring_inspected", facts={"trainable_elements": 10, "owned_trainable_elements": 0,
                                                      "foreign_elements": 10, "elements": 10})]),
    "9 dead rate": (9, schedule(lambda i: DEAD_LR[i], 108)),
    "9 forgotten": (9, [event("wiring_inspected", facts={"scheduler": True}), *learning(280)]),
    "10 plateau": (10, plateau(2.3)),
    "11 overfit": (11, overfitting(0.05)),
    "11 learned by heart": (11, by_heart()),
    "11 creeps up": (11, overfitting(0.006)),
    "12 frozen": (12, evaluations(learning(30), 10, val_loss=lambda k: 0.712345)),
    "13 regression": (13, forgetting(0.5)),
    "13 far down on few rows": (13, coarse(19, 6, 6, 5, 6)),
    "14 a policy that stays there": (14, [*policy()[:1], *evaluations(
        losses(learning(280), 1, lambda i: -0.0005 * i + wobble(i)), 20, balanced_accuracy=lambda k: 0.25)]),
    "14 collapse": (14, [data(classes=4), *evaluations(learning(200), 20, balanced_accuracy=lambda k: 0.25)]),
    "15 order": (15, [data(batch_label_entropy=[0.0] * 5, expected_batch_label_entropy=2.0)]),
    "15 while training": (15, [data(expected_batch_label_entropy=2.0), *learning(5, label_entropy=0.9)]),
    "16 shared rows": (16, [data(overlap_frac=0.02, duplicate_frac=0.0)]),
    "16 twelve of 189 rows": (16, [data(overlap_frac=12 / 189, duplicate_frac=0.0, rows_hashed=380,
                                        validation_rows=189)]),
    "16 better than a strong one": (16, [data(feature=30, feature_score=0.974, feature_score_second=0.926,
                                              guess_score=0.589, rows=380)]),
    "16 telling column": (16, [data(feature=7, feature_score=0.95, feature_score_second=0.4, guess_score=0.1)]),
    "19 starvation": (19, altered(learning(80), 40, data_wait_s=0.02, step_s=0.03)),
    "20 computation": (20, altered(altered(learning(120), 1, step_s=0.01, step_cpu_s=0.01), 80, step_s=0.03,
                                   step_cpu_s=0.03)),
    "22 checkpoint": (22, [event("checkpoint_failed", name="ckpt-1", level="digest", detail="sha256 differs")]),
    "23 best": (23, [*evaluations(learning(40), 10, val_acc=lambda k: 0.5 + 0.1 * k),
                     event("checkpoint_committed", name="ckpt-40", reason="best", metrics={"val_acc": 0.8})]),
    "25 rate": (25, [event("training_started", config={"lr": 5e-4}), *learning(30)]),
    "25 edited": (25, [event("created", config_digest="a"), event("attempt_started", config_digest="b")]),
    "26 clock": (26, [{**line, "t": 1e-9 * line["step"]} for line in learning(60)]),
    "26 sequence": (26, [event("created", seq=1), event("note", seq=4)]),
    "27 folds": (27, [classical(fold_scores=[0.5, 0.9, 0.6, 0.55], baseline_score=0.5)]),
    "27 gap": (27, [classical(train_score=1.0, cv_score=0.7)]),
    "27 boosting": (27, [classical(boosting=[1 / (1 + i) for i in range(20)] + [0.05 + 0.01 * i for i in range(51)])]),
    "27 search": (27, [classical(search_scores=[0.5, 0.9] + [0.4] * 30, search_budget=32)]),
    "27 constant": (27, [classical(distinct_predictions=1)]),
    "27 single class": (27, [classical(fold_classes=[2, 1, 2])]),
}  # fmt: skip

NEGATIVE: dict[str, tuple[int, list[Line]]] = {
    "1 scaler looks for its scale": (1, scaler_skips(3)),
    "1 another metric": (1, [{**learning(1)[0], "nonfinite": {"auc": "nan"}}]),
    "2 some of the progress": (2, losses(learning(150), 100, lambda i: 1.0 + wobble(i))),
    "2 rate finder": (2, altered(losses(learning(60), 45, lambda i: 6.0), 1, lr=lambda i: 1e-6 * 1.3**i)),
    "3 small": (3, losses(learning(100), 100, lambda i: 0.6)),
    "4 once": (4, altered(learning(100), 100, grad_norm=100.0)),
    "5 it learns all the same": (5, learning(100, grad_rms_first=1e-9, grad_rms_last=1e-2)),
    "6 two probes": (6, altered(learning(60), 59, dead_frac=0.95)),
    "7 two probes": (7, altered(learning(60), 59, saturated_frac=0.6)),
    "8 seven rows": (8, altered(learning(60), 54, update_ratio=0.0)),
    "8 nothing left to learn": (8, losses(altered(learning(60), 30, update_ratio=0.0), 30, lambda i: 0.0)),
    "8 partly frozen on purpose": (8, [event("wiring_inspected", facts={
        "trainable_elements": 10, "owned_trainable_elements": 10, "elements": 100})]),
    "9 seven rows": (9, schedule(lambda i: DEAD_LR[i], 106)),
    "9 cosine's foot": (9, schedule(lambda i: 0.5e-3 * (1 + math.cos(math.pi * (i % 120) / 120)), 240)),
    "9 the end": (9, schedule(lambda i: 1e-3 if i < 365 else 0.0, 400)),
    "10 learns": (10, learning(130)),
    "10 good start": (10, [data(label_entropy=2.3), *plateau(0.05)]),
    "10 slow and noisy": (10, slow_and_noisy()),
    "10 the metric moves": (10, evaluations(plateau(0.0), 10, val_acc=lambda k: 0.1 + 0.06 * k)),
    "11 within noise": (11, overfitting(0.005)),
    "11 few validation rows": (11, [data(validation_rows=16), *overfitting(0.013)]),
    "12 moving": (12, evaluations(learning(30), 10, val_loss=lambda k: 0.7 - 1e-9 * k)),
    "12 coarse accuracy": (12, evaluations(learning(50), 10, val_acc=lambda k: 0.75)),
    "13 noise": (13, evaluations(learning(150), 10, val_acc=lambda k: 0.8 + 0.02 * (-1) ** k)),
    "13 learned by heart": (13, by_heart()),
    "13 few validation rows": (13, coarse(19, 15, 14, 16, 16)),
    "14 a policy begins": (14, policy()),
    "14 early": (14, [data(classes=4), *evaluations(learning(80), 20, balanced_accuracy=lambda k: 0.25)]),
    "15 rare labels": (15, [data(expected_batch_label_entropy=0.1), *learning(5, label_entropy=0.0)]),
    "15 shuffled": (15, [data(shuffled=True, batch_label_entropy=[0.0] * 5, expected_batch_label_entropy=2.0)]),
    "16 natural duplicates": (16, [data(overlap_frac=0.05, duplicate_frac=0.04)]),
    "16 one row of few": (16, [data(overlap_frac=0.02, duplicate_frac=0.0, rows_hashed=100, validation_rows=50)]),
    "16 better on few rows": (16, [data(feature=3, feature_score=0.92, feature_score_second=0.74, guess_score=0.4,
                                        rows=100)]),
    "16 strong but not alone": (16, [data(feature=1, feature_score=0.93, feature_score_second=0.91, guess_score=0.6)]),
    "19 fast steps": (19, altered(learning(80), 40, data_wait_s=0.0005, step_s=0.0006)),
    "20 busy machine": (20, altered(altered(learning(120), 1, step_s=0.01, step_cpu_s=0.01, contended=0.0), 80,
                                    step_s=0.05, contended=1.0)),
    "23 the best": (23, [*evaluations(learning(40), 10, val_acc=lambda k: 0.5 + 0.1 * k),
                         event("checkpoint_committed", name="ckpt-40", reason="best", metrics={"val_acc": 0.9})]),
    "25 a schedule below": (25, [event("training_started", config={"lr": 2e-3}),
                                 *schedule(lambda i: 2e-3 * (1 - i / 400), 60)]),
    "26 fast but possible": (26, [{**line, "t": 1e-4 * line["step"]} for line in learning(60)]),
    "27 good folds": (27, [classical(fold_scores=[0.9, 0.91, 0.92], baseline_score=0.5, train_score=0.95)]),
    "27 early stopping": (27, [classical(boosting=[1 / (1 + i) for i in range(100)])]),
}  # fmt: skip


@pytest.mark.parametrize("case", POSITIVE)
def test_the_fault_is_found_in_its_class(case: str) -> None:
    """The smallest window that shows the fault opens an alert of its class, with evidence and an action."""
    number, lines = POSITIVE[case]
    checker = judged(lines)
    found = [a for a in checker.alerts if a.number == number]
    assert found, [a.text for a in checker.alerts]
    assert all((a.text, a.rule, a.action, a.name) for a in found)


@pytest.mark.parametrize("case", NEGATIVE)
def test_the_near_miss_is_left_alone(case: str) -> None:
    """A window just short of the fault opens no alert of its class."""
    number, lines = NEGATIVE[case]
    assert number not in classes(judged(lines))


def test_memory_is_judged_against_its_limit() -> None:
    """The same growth alarms under a limit that it will reach and not under one that it will not."""
    rows, plan = memory(1e6, 60)
    assert 21 in classes(judged(rows, plan))
    rows, plan = memory(1e6, 900)
    assert 21 not in classes(judged(rows, plan))


def test_same_seed_must_begin_alike() -> None:
    """A second attempt with the first one's seed and configuration that starts otherwise is told; an equal one is not."""
    for shift, expected in ((1e-3, True), (0.0, False)):
        again = [
            {**line, "attempt": 2, "metrics": {"loss": line["metrics"]["loss"] + shift}}
            for line in learning(5)
        ]
        checker = judged([*learning(5), *again], {**PLAN, "seed": 1})
        assert (24 in classes(checker)) is expected


def at(checker: Checker, now: float, **outside: Any) -> list[AlertChange]:
    """A look from outside."""
    return checker.at(now, outside)


def stamped(n: int = 30) -> Checker:
    """A checker whose newest row was written at second 1000."""
    rows = [{**line, "timestamp": 1000.0} for line in learning(n)]
    return judged(rows)


def test_silence_is_a_stall_only_outside_long_phases() -> None:
    """40 s without a row is a stall while training, and none in an evaluation, a checkpoint or before the budget."""
    assert not at(stamped(), 1029, alive=True, phase="train")
    assert [c.number for c in at(stamped(), 1040, alive=True, phase="train")] == [17]
    for phase in ("eval", "checkpoint", "compile"):
        assert not at(stamped(), 1040, alive=True, phase=phase)
    assert not at(Checker(), 1040, alive=True, last_row_time=1000.0)


def test_a_stall_that_ends_is_resolved() -> None:
    """Rows that come again resolve the alert."""
    checker = stamped()
    at(checker, 1100, alive=True)
    checker.feed({**row(31, 0.5), "timestamp": 1101.0})
    assert [c.state for c in at(checker, 1102, alive=True)] == ["resolved"]


def test_a_lost_process_stops_and_an_ended_one_does_not() -> None:
    """A process that is gone without an end is critical and certain; one that ended is nothing."""
    (change,) = at(stamped(), 1001, alive=False, exit="SIGKILL")
    assert (change.number, change.stop) == (18, True)
    assert not at(stamped(), 1001, alive=False, ended=True)
    assert at(stamped(), 1001, alive=True, boot_changed=True)[0].number == 18


def test_rows_without_an_attempt_and_ends_without_rows_are_named_at_the_end() -> None:
    """A log that no attempt wrote, and an end without a step, are found when the files are closed."""
    checker = judged([event("attempt_started"), *({**line, "attempt": 3} for line in learning(20))])
    assert {c.number for c in checker.close()} == {26}
    checker = judged([event("attempt_started"), event("training_ended", reason="completed")])
    assert {c.number for c in checker.close()} == {26}
    checker = judged([event("attempt_started"), *learning(20), event("training_ended", reason="completed")])
    assert not checker.close()


def test_pointers_on_disk_are_compared_with_the_record() -> None:
    """A checkpoint that is gone and a stale `last` are mismatches; matching ones resolve them."""
    checker = judged([event("checkpoint_committed", name="ckpt-2", reason="cadence")])
    assert [c.number for c in at(checker, 1, last_checkpoint="ckpt-1")] == [23]
    assert [c.state for c in at(checker, 2, last_checkpoint="ckpt-2")] == ["resolved"]
    assert [c.number for c in at(checker, 3, missing_checkpoints=["ckpt-2"])] == [23]
