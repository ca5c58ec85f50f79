"""The view model of `assay watch`: any lines in, one frame out."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assay.cli.dashboard import footer, picture, sparkline
from assay.live.following import Follow, FollowText
from assay.live.watch import CURVE_POINTS, Curve, Frame, Story, number, thinned, threshold, told
from assay.live.watched import Watched

pytestmark = pytest.mark.slow

NOW = 1_800_000_000.0


def event(kind: str, seq: int = 1, attempt: int | None = 1, **fields: Any) -> dict[str, Any]:
    """A line of events.jsonl."""
    return {"seq": seq, "time": "2027-01-15T08:00:00Z", "event": kind, "attempt": attempt, **fields}


def row(step: int, attempt: int = 1, **metrics: Any) -> dict[str, Any]:
    """A step row."""
    return {
        "event": "step",
        "attempt": attempt,
        "step": step,
        "t": step * 0.1,
        "metrics": metrics,
        "signals": {"lr": 0.1},
    }


def story(*events: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Story:
    """A story of these lines."""
    made = Story("exp-001")
    told(made, events, rows or [], [])
    return made


CREATED = event(
    "created",
    attempt=None,
    name="wide",
    plan={
        "primary_metric": {"name": "val_loss", "direction": "min", "thresholds": {"goal": "< 0.3"}},
        "metrics": {"mae": "min"},
        "total_steps": 100,
    },
)
STARTED = event("attempt_started", 2, pid=7, host="h", boot_id="b")


def shown(frame: Frame, width: int = 100) -> str:
    """The frame as a terminal shows it."""
    console = Console(width=width, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    with console.file:
        console.print(picture(frame, width, NOW))
        console.print(footer(frame, width))
        return console.export_text()


def test_progress_eta_and_best() -> None:
    """Done of planned, seconds to go by the pace so far, best by the declared direction against the goal."""
    rows = [row(i, loss=1 / i, mae=float(i)) for i in range(1, 51)]
    rows.append({"event": "evaluation", "attempt": 1, "step": 50, "metrics": {"val_loss": 0.25, "mae": 9.0}})
    frame = story(CREATED, STARTED, rows=rows).frame(NOW, alive=True)
    assert (frame.progress.done, frame.progress.total, frame.progress.share) == (50, 100, 0.5)
    assert frame.progress.eta_s == pytest.approx(5.0, rel=0.01)
    first = frame.metrics[0]
    assert (first.name, first.primary, first.best, first.target, first.met) == (
        "val_loss",
        True,
        0.25,
        0.3,
        True,
    )
    mae = next(m for m in frame.metrics if m.name == "mae")
    assert (mae.best, mae.direction, mae.assumed) == (1.0, "min", False)
    assert frame.signals == {"lr": 0.1}
    assert "50%" in shown(frame)


def test_steps_counted_from_zero_are_counted() -> None:
    """A script that calls its first step 0 has done one step then, and all at N-1 of N."""
    rows = [row(i, loss=1.0) for i in range(100)]
    assert story(CREATED, STARTED, rows=rows).frame(NOW).progress.share == 1.0


def test_epochs_count_completed_ones() -> None:
    """Row 15: the old callback's epochs begin at 0; the last of N makes N of N."""
    rows = [
        {"event": "epoch_end", "epoch": e, "total_epochs": 4, "metrics": {"loss": 1.0}, "learning_rate": 0.5}
        for e in range(4)
    ]
    frame = story(STARTED, rows=rows).frame(NOW)
    assert (frame.progress.done, frame.progress.total, frame.progress.unit) == (4, 4, "epoch")
    assert frame.signals["lr"] == 0.5


def test_nan_never_is_best_and_is_shown() -> None:
    """Rows 10 and 11: NaN and infinities, bare or encoded, are shown in words and leave the best alone."""
    rows = [
        row(1, val_loss=0.5),
        row(2, val_loss=float("nan")),
        {**row(3, val_loss=None), "nonfinite": {"val_loss": "inf"}},
        row(4, val_loss=0.7),
        row(5, val_loss=float("-inf")),
    ]
    frame = story(CREATED, STARTED, rows=rows).frame(NOW)
    metric = frame.metrics[0]
    assert (metric.best, metric.current, metric.current_text) == (0.5, None, "-inf")
    assert "-inf" in shown(frame)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("tensor(0.25)", 0.25), ("0.5", 0.5), ("array(1e-3, dtype=float32)", 0.001), (True, None), ("high", None),
     ([1], None), (10**400, None), ({}, None)],
)  # fmt: skip
def test_numbers_out_of_anything(value: object, expected: float | None) -> None:
    """Row 10: a tensor stored as text is read, everything else that is no number is none."""
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("> 0.9", 0.9), ("<= 3e-2", 0.03), ("90 %", 0.9), (2, 2.0), ("soon", None), (None, None)],
)
def test_targets_as_text(value: object, expected: float | None) -> None:
    """Row 10: a textual target is parsed once or shown as it stands."""
    assert threshold(value) == expected


def test_unknown_keys_events_and_types_change_nothing() -> None:
    """Row 14: unknown keys and kinds are ignored; wrong types are, too."""
    made = story(
        {**CREATED, "surprise": {"a": 1}},
        STARTED,
        event("invented", 3, x=1),
        {"event": 7},
        {"event": "checkpoint_committed", "name": None, "step": "x", "metrics": 3},
        {"event": "attempt_started", "attempt": "two", "command": "no list"},
        rows=[
            {"event": "step", "metrics": "none"},
            {"event": "step", "step": {}, "metrics": {"a": []}},
            {"x": 1},
        ],
    )
    assert made.frame(NOW).name == "wide"
    shown(made.frame(NOW))


def test_a_resumed_attempt_overwrites_its_steps() -> None:
    """Row 12: rows of the newer attempt replace those of the older from its first step on, best included."""
    rows = [row(i, val_loss=1.0 / i) for i in range(1, 31)]
    rows += [row(i, 2, val_loss=2.0 / i) for i in range(21, 26)]
    made = story(CREATED, STARTED, event("attempt_started", 3, 2, pid=8), rows=rows)
    metric = made.frame(NOW).metrics[0]
    assert len(metric.course) == 25
    assert metric.best == pytest.approx(1 / 20)
    assert made.frame(NOW).attempts == 2


@pytest.mark.parametrize(("alive", "state"), [(True, "running"), (False, "lost"), (None, "running")])
def test_a_dead_process_is_lost(alive: bool | None, state: str) -> None:
    """Row 13: an attempt without an end whose process is gone is lost, and does not train for ever."""
    frame = story(CREATED, STARTED).frame(NOW, alive)
    assert frame.state == state
    assert frame.ended is (state == "lost")


def test_checkpoints_with_their_proofs() -> None:
    """The last five, verified or failed; only the newest best is best."""
    reasons = {3: "best", 5: "best"}
    events = [CREATED, STARTED]
    events += [
        event("checkpoint_committed", 10 + i, name=f"c{i}", step=i, reason=reasons.get(i, "cadence"))
        for i in range(1, 8)
    ]
    events += [
        event("checkpoint_verified", 30, name="c6", level="restore"),
        event("checkpoint_failed", 31, name="c7", detail="digest differs"),
    ]
    frame = story(*events).frame(NOW)
    assert [c.name for c in frame.checkpoints] == ["c3", "c4", "c5", "c6", "c7"]
    assert [c.best for c in frame.checkpoints] == [False, False, True, False, False]
    assert frame.checkpoints[3].verified == "restore"
    text = shown(frame)
    assert "✓ restore" in text
    assert "✗ digest differs" in text


def test_alerts_newest_state_counts_and_open_come_first() -> None:
    """The last line of an id counts; open critical ones stand first."""
    made = story(CREATED, STARTED)
    told(made, [], [], [
        {"id": "a-1", "name": "spike", "severity": "warning", "state": "open", "text": "x", "step": 5},
        {"id": "a-2", "name": "nonfinite", "severity": "critical", "state": "open", "text": "y", "class": 1},
        {"id": "a-1", "name": "spike", "severity": "info", "state": "resolved", "text": "x"},
    ])  # fmt: skip
    assert [(a.name, a.state) for a in made.frame(NOW).alerts] == [
        ("nonfinite", "open"),
        ("spike", "resolved"),
    ]


def test_hostile_text_stays_text() -> None:
    """Terminal sequences and markup in names, texts and alerts are shown and do nothing."""
    made = story(
        {**CREATED, "name": "\x1b[2J[bold red]x"}, STARTED, rows=[row(1, **{"[red]\x1b]0;t\x07": 1.0})]
    )
    told(
        made,
        [],
        [],
        [{"id": "a", "name": "\x1b[31m", "severity": "critical", "state": "open", "text": "[/]\x07"}],
    )
    text = shown(made.frame(NOW))
    assert "\x1b" not in text
    assert "[bold red]x" in text


def test_curves_keep_their_extremes() -> None:
    """However long it runs, a curve stays small, and a single spike survives the thinning."""
    curve = Curve("loss", "min")
    for step in range(20_000):
        curve.add(1, step, 99.0 if step == 7777 else 1.0)
    assert len(curve.points) < 2 * CURVE_POINTS
    assert (7777, 99.0) in curve.points
    assert thinned([(0.0, 1.0), (1.0, 2.0)], 10) == [(0.0, 1.0), (1.0, 2.0)]


def test_sparkline_of_anything() -> None:
    """Constant, empty, infinite and single values have a line too."""
    assert sparkline([], 8) == ""
    assert sparkline([math.inf, math.nan], 8) == ""
    assert len(set(sparkline([1.0] * 20, 8))) == 1
    assert all(len(set(sparkline([v] * n, 8))) == 1 for v in (0.1, 3.0, 7e300) for n in range(1, 60))
    assert sparkline([0, 1], 8) == "▁█"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from([
    "created", "hypothesis", "attempt_started", "training_started", "evaluated", "checkpoint_committed", "planned",
    "checkpoint_verified", "checkpoint_failed", "stop_requested", "training_ended", "attempt_ended", "resumed",
    "result", "judged", "overridden", "aborted", "completed", "failed", "note", "step", "evaluation", "epoch_end",
    "training_start", "training_end", "tracker_problem", "_curve", "status",
])  # fmt: skip
keys = st.sampled_from([
    "seq", "time", "timestamp", "attempt", "step", "epoch", "metrics", "signals", "nonfinite", "plan", "t", "name",
    "reason", "exception", "resources", "exit_code", "level", "detail", "total_epochs", "id", "state", "severity",
    "joined", "class", "command", "pid", "by", "config", "learning_rate", "first_seen_step", "text",
])  # fmt: skip
lines = st.lists(
    st.builds(lambda k, d: {**d, "event": k}, kinds, st.dictionaries(keys, json_values, max_size=6)),
    max_size=8,
)


@given(events=lines, rows=lines, alerts=lines, status=json_values)
def test_no_line_can_stop_it(events: list[Any], rows: list[Any], alerts: list[Any], status: Any) -> None:
    """Whatever JSON stands in the files, there is a frame, and it can be drawn."""
    made = Story("exp-001")
    told(made, events, rows, alerts)
    made.status(status)
    frame = made.frame(NOW, None)
    assert frame.experiment == "exp-001"
    shown(frame, 60)


@given(data=st.binary(max_size=200))
def test_no_bytes_can_stop_it(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes stand in all the files, there is a frame."""
    folder = tmp_path_factory.mktemp("exp-001")
    for name in ("events.jsonl", "metrics.jsonl", "alerts.jsonl", "training_status.json"):
        (folder / name).write_bytes(data + b"\n" + data)
    Watched(folder).frame(NOW)


def test_half_lines_wait_and_replaced_files_start_again(tmp_path: Path) -> None:
    """A line is read once it is whole; a cut or replaced file is read from its beginning; bad lines are counted."""
    path = tmp_path / "metrics.jsonl"
    follow = Follow(path)
    assert follow.new() == []
    path.write_bytes(b'{"a":1}\n{"b":')
    assert follow.new() == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b'2}\nno json\n[1]\n\n{"c":3}\n')
    assert follow.new() == [{"b": 2}, {"c": 3}]
    assert follow.bad == 2
    path.write_bytes(b'{"d":4}\n')
    assert follow.new() == [{"d": 4}]
    other = tmp_path / "other"
    other.write_bytes(b'{"e":5}\n{"f":6}\n')
    other.replace(path)
    assert follow.new() == [{"e": 5}, {"f": 6}]


def test_a_line_without_end_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than the limit is given up in bounded memory; the next one is read."""
    monkeypatch.setattr("assay.live.following.LINE_BYTES", 100)
    monkeypatch.setattr("assay.live.following.READ_BYTES", 64)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a":"' + b"x" * 1000 + b'"}\n{"b":1}\n')
    follow, found = Follow(path), []
    for _ in range(40):
        found += follow.new()
    assert found == [{"b": 1}]
    assert follow.bad == 1


def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    """Something that is no file has no lines."""
    os.mkfifo(tmp_path / "events.jsonl")
    assert Follow(tmp_path / "events.jsonl").new() == []


def test_a_burst_of_output_is_cut_and_said(tmp_path: Path) -> None:
    """Of more output than a call may show, the end is shown; a character over two reads stays whole."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000 + "é".encode()[:1])
    text = FollowText(path, limit=100)
    assert text.new().startswith("[901 bytes of output are only in the log]\nxxx")
    with path.open("ab") as file:
        file.write("é".encode()[1:])
    assert text.new() == "é"


def test_older_layout_by_its_snapshot(tmp_path: Path) -> None:
    """A folder without events is shown from the rows and the snapshot of the older callback."""
    folder = tmp_path / "exp-003"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(
        json.dumps({"event": "epoch_end", "epoch": 0, "total_epochs": 3, "metrics": {"loss": 0.5}}) + "\n"
    )
    (folder / "training_status.json").write_text(
        json.dumps({"is_training": True, "experiment_name": "old", "total_epochs": 3, "unknown_key": 1})
    )
    frame = Watched(folder).frame(NOW)
    assert (frame.name, frame.state, frame.progress.done, frame.progress.total) == ("old", "running", 1, 3)
