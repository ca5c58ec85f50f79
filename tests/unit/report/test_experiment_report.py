"""The HTML report of a training experiment: what it shows, that it stands alone, that no file breaks it."""
# ruff: noqa: E501 - a line of a file is a line here

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import standing_alone

from assay.cli import experiment_report
from assay.core.experiment import Experiment
from assay.live.watch import Curve, Story, told
from assay.readers.training import read_any
from assay.report._view.training.curves import charts, figure, signal_charts
from assay.report._view.training.lineage import lineage
from assay.track import files

PLAN = {
    "primary_metric": {"name": "val_loss", "direction": "min", "thresholds": {"goal": 0.5}},
    "total_steps": 100,
}


def training(
    root: Path, name: str = "exp-001", *, nan_at: int = 0, parent: str = "", hostile: str = ""
) -> Path:
    """A folder as a training leaves it."""
    folder = root / name
    (folder / "log").mkdir(parents=True)
    put = files.append_event
    put(folder, "created", None, {"experiment": name, "name": f"wide{hostile}", "parent": parent or None, "phase": "train", "plan": PLAN, "config_digest": ""})  # fmt: skip
    put(folder, "hypothesis", None, {"digest": "sha256:" + "0" * 64, "text": f"Wider is better.{hostile}"})
    put(folder, "attempt_started", 1, {"command": ["python", f"train.py{hostile}"], "pid": 1, "host": "elsewhere", "boot_id": "b", "process_started": 1.0})  # fmt: skip
    put(folder, "training_started", 1, {"total_steps": 100, "config": {"lr": 0.1}})
    rows = []
    for step in range(1, 101):
        value: float | None = 2 / step**0.5
        row: dict[str, Any] = {
            "event": "step",
            "attempt": 1,
            "step": step,
            "t": step * 0.1,
            "metrics": {"loss": value},
            "signals": {"lr": 0.1 / step},
        }
        if nan_at and step >= nan_at:
            row |= {"metrics": {"loss": None}, "nonfinite": {"loss": "nan"}}
        rows.append(row)
        if step % 20 == 0:
            metrics = {"val_loss": 2 / step**0.5 + 0.1, f"odd{hostile}": 1.0}
            rows.append({"event": "evaluation", "attempt": 1, "step": step, "metrics": metrics})
            put(folder, "evaluated", 1, {"step": step, "epoch": None, "metrics": metrics})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    put(folder, "checkpoint_committed", 1, {"name": "ckpt-00000100", "path": "checkpoints/ckpt-00000100", "step": 100, "metrics": {"val_loss": 0.3}, "reason": "best"})  # fmt: skip
    if nan_at:
        alert = {"schema": "alert/1", "id": "a-0001", "time": "2027-01-01T00:00:00Z", "attempt": 1, "step": nan_at, "class": 1, "name": "nonfinite", "severity": "critical", "state": "open", "observed": "loss=nan", "rule": "first value", "first_seen_step": nan_at, "count": 3, "joined": [], "action": "Resume.", "text": f"not finite{hostile}"}  # fmt: skip
        (folder / "alerts.jsonl").write_text(json.dumps(alert) + "\n")
        put(folder, "stop_requested", 1, {"by": "checker", "reason": "not finite"})
    put(folder, "training_ended", 1, {"reason": "stopped" if nan_at else "completed", "step": 100, "epoch": None, "final_metrics": {"val_loss": 0.3}, "exception": None})  # fmt: skip
    put(folder, "attempt_ended", 1, {"outcome": "exited", "exit_code": 0, "signal": None, "resources": {"wall_s": 10.0, "user_s": 8.0, "system_s": 1.0, "max_rss_bytes": 3 * 10**8}, "log_tail": f"bye{hostile}"})  # fmt: skip
    return folder


def page(folder: Path) -> str:
    """The report."""
    return experiment_report.write(folder, folder.parent / f"{folder.name}.html").read_text()


def test_it_stands_alone(tmp_path: Path) -> None:
    """Well-formed, nothing is loaded, no script; the same files give the same page."""
    folder = training(tmp_path)
    text = page(folder)
    standing_alone(text)
    assert "default-src 'none'" in text
    assert page(folder) == text


def test_it_tells_how_it_went(tmp_path: Path) -> None:
    """State, hypothesis, primary value with its tier, time and memory, checkpoint, gate, chain."""
    text = page(training(tmp_path))
    for fragment in (
        "TRAINED", "Trained to its end in 100 steps.", "Wider is better.", "tier goal", "300 MB", "ckpt-00000100",
        "best 0.3 at step 100", "Gate <code>training</code>", "chain intact", "python train.py", "goal 0.5",
    ):  # fmt: skip
        assert fragment in text, fragment


def test_incidents_stand_on_the_curves(tmp_path: Path) -> None:
    """An alert is a flag at its step and a list with its evidence; NaN are crosses; the state is not green."""
    text = page(training(tmp_path, nan_at=40))
    assert "STOPPED" in text
    assert "Stopped after 100 steps by checker: not finite" in text
    flags = re.findall(
        r'<g class="bad"><title>critical: nonfinite at step 40, open[^<]*</title><line class="incident" x1="([\d.]+)%',
        text,
    )
    assert flags
    assert float(flags[0]) == pytest.approx(100 * 39 / 99, abs=0.1)
    assert "loss is nan at step 40" in text
    assert "<dt>found</dt><dd>3 times</dd>" in text


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    """Markup, control characters and reordering marks in every foreign text are shown, never obeyed."""
    text = page(training(tmp_path, nan_at=40, hostile="<script>alert(1)</script>\x1b[31m\u202e"))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_lineage_from_the_root_on(tmp_path: Path) -> None:
    """Ancestors, then itself, then its children; a circle is walked once."""
    for name, parent in (("exp-001", ""), ("exp-002", "exp-001"), ("exp-003", "exp-002")):
        training(tmp_path, name, parent=parent)
    text = page(tmp_path / "exp-002")
    order = [text.index(f'<span class="id">exp-00{i}</span>') for i in (1, 2, 3)]
    assert order == sorted(order)
    one, two = Experiment(subject="a", id="a", parent="b"), Experiment(subject="b", id="b", parent="a")
    assert [r.id for r in lineage(one, [one, two])] == ["b", "a"]


def test_an_experiment_without_anything(tmp_path: Path) -> None:
    """Planned, no rows, no attempt: a page that says so."""
    folder = tmp_path / "exp-001"
    folder.mkdir()
    files.append_event(folder, "created", None, {"experiment": "exp-001", "plan": {}})
    text = page(folder)
    for fragment in ("PLANNED", "No attempt has been started.", "No metric was recorded", "No hypothesis"):
        assert fragment in text


def test_older_layout_has_a_report(tmp_path: Path) -> None:
    """A folder of the older layout is shown with what it has."""
    folder = tmp_path / "exp-001"
    folder.mkdir()
    rows = [
        {"event": "epoch_end", "epoch": e, "total_epochs": 3, "metrics": {"loss": 1.0 / (e + 1)}}
        for e in range(3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "training_status.json").write_text(
        json.dumps({"is_training": False, "experiment_id": "exp-001"})
    )
    assert read_any(folder).layout == "zo"
    assert "polyline" in page(folder)


def test_charts_pair_training_and_validation() -> None:
    """`train/loss` and `val_loss` are one picture; wide positive ranges are logarithmic; signals have their own."""
    story = Story("exp-001")
    rows = [
        {
            "event": "step",
            "attempt": 1,
            "step": i,
            "metrics": {"train/loss": 10.0**-i, "val_loss": 1.0, "acc": i},
            "signals": {"rss_bytes": 1e9 + i},
        }
        for i in range(1, 6)
    ]
    told(story, [], rows, [])
    found = charts(story)
    assert [c.title for c in found] == ["train/loss and val_loss", "acc"]
    assert found[0].log
    assert not found[1].log
    assert next(t.label for t in signal_charts(story)[0].y_ticks).endswith(("GB", "MB"))


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(values=st.lists(numbers, min_size=1, max_size=12), target=st.none() | numbers)
def test_every_point_lies_in_the_picture(values: list[float], target: float | None) -> None:
    """Whatever the values, coordinates are finite and within the box; labels have text."""
    story = Story("exp-001")
    story.plan = {"primary_metric": {"name": "m", "direction": "min", "thresholds": {"goal": target}}}
    story.curves["m"] = Curve("m", "min")
    for step, value in enumerate(values):
        story.curves["m"].add(1, step, value)
    for chart in charts(story):
        for line in chart.lines:
            for pair in line.points.split():
                x, y = (float(p) for p in pair.split(","))
                assert 0 <= x <= 1000
                assert 0 <= y <= 1000
        assert all(-1 <= t.at <= 101 and t.label for t in chart.y_ticks)


def ticks(values: list[float], name: str = "m") -> list[str]:
    """The labels of the vertical axis, the highest first."""
    story = Story("exp-001")
    story.curves[name] = Curve(name)
    for step, value in enumerate(values):
        story.curves[name].add(1, step, value)
    (chart,) = charts(story)
    return [t.label for t in reversed(chart.y_ticks)]


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("m", [0.99995, 1.00005], ["1.00005", "1.00000", "0.99995"]),
        ("m", [-5e-5, 5e-5], ["5e\u22125", "0", "\u22125e\u22125"]),
        ("m", [-1e7, 1e7], ["1e7", "0", "\u22121e7"]),
        ("m", [1.00001e8, 1.00002e8], ["1.00002e8", "1.000015e8", "1.00001e8"]),
        ("step_s", [0.1, 0.10001], ["0.100010", "0.100005", "0.100000"]),
        ("step_s", [-0.05, 0.2], ["200 ms", "100 ms", "0 ms"]),
    ],
)
def test_ticks_say_zero_and_differ(name: str, values: list[float], shown: list[str]) -> None:
    """A narrow axis far from zero needs more digits, and rounding leaves no -2.45e-10 where zero is."""
    assert ticks(values, name) == shown


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    name=st.sampled_from(["m", "step_s", "rss_bytes"]),
)
def test_no_two_ticks_read_the_same(values: list[float], name: str) -> None:
    """Whatever is drawn, and in whatever unit."""
    labels = ticks(values, name)
    assert len(set(labels)) == len(labels), labels


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.25, "0.25"), (1234567.0, "1.23e6"), (-0.00001, "\u22121e\u22125"), (12345.6, "12,346")],
)
def test_figures(value: float, shown: str) -> None:
    """Numbers with the digits that matter."""
    assert figure(value) == shown
