"""Between the record and the checker: the order of lines, alerts of earlier attempts, deliveries."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from assay.live.alerts import Delivery
from assay.live.in_order import InOrder
from assay.live.supervisor import Supervisor
from assay.live.watching import Desk
from assay.readers.training import read_any
from experiment_files import ExperimentFiles

LATER = time.time() + 1e6


def stamped(made: ExperimentFiles, second: int, event: str, attempt: int | None = 1, **fields: Any) -> None:
    """An event at a second of its own."""
    made.time = lambda: at(second)  # type: ignore[method-assign]
    made.event(event, attempt, **fields)


def at(second: int) -> str:
    """A time of the record."""
    return f"2026-01-02T03:{second // 60:02d}:{second % 60:02d}.000000Z"


def step_row(step: int, attempt: int, second: int, loss: float | None) -> dict[str, Any]:
    """A step row; None is NaN."""
    bad = {"nonfinite": {"loss": "nan"}} if loss is None else {}
    place = {"event": "step", "attempt": attempt, "step": step, "t": float(second), "timestamp": at(second)}
    return {**place, "metrics": {"loss": loss}, **bad}


def resumed(root: Path) -> ExperimentFiles:
    """A first attempt that ended in NaN, with its alert, and a second one that is healthy."""
    made = ExperimentFiles(root)
    made.created()
    stamped(made, 10, "attempt_started", pid=2**22 - 1, host="elsewhere")
    for step in range(1, 30):
        made.append("metrics.jsonl", step_row(step, 1, 10 + step, 1.0 if step < 20 else None))
    stamped(made, 50, "attempt_ended", outcome="stopped")
    return made


def alerts(made: ExperimentFiles) -> dict[str, str]:
    """Name → the newest state."""
    lines = (made.folder / "alerts.jsonl").read_text().splitlines()
    return {found["name"]: found["state"] for found in map(json.loads, lines)}


def watch(made: ExperimentFiles, attempt: int, said: list[str] | None = None, **how: Any) -> Desk:
    """Read everything as `assay train` would, and leave."""
    desk = Desk(made.folder, (said if said is not None else []).append, **how)
    supervisor = Supervisor(made.folder, attempt, desk.judge, desk.deliver, settle=desk.settle)
    for _ in range(3):
        supervisor.tick()
    supervisor.finish({"outcome": "exited"})
    desk.close()
    return desk


def test_alerts_of_an_earlier_attempt_end_when_the_next_begins(tmp_path: Path) -> None:
    """Another watcher reads it all again: the NaN is resolved, and nothing of before is told twice."""
    made = resumed(tmp_path)
    watch(made, 1)
    assert alerts(made)["nonfinite"] == "open"
    made.seq, made.previous = _tail(made)
    stamped(made, 100, "attempt_started", 2, pid=2**22 - 1, host="elsewhere")
    for step in range(1, 30):
        made.append("metrics.jsonl", step_row(step, 2, 100 + step, 1.0))
    said: list[str] = []
    watch(made, 2, said)
    assert alerts(made)["nonfinite"] == "resolved"
    assert not any("nonfinite open" in line for line in said)
    assert len([line for line in said if "nonfinite resolved" in line]) == 1


def test_an_alert_that_is_not_found_again_ends_with_its_attempt(tmp_path: Path) -> None:
    """Its rows may be gone, or the checker a newer one: it does not stay open for ever. Those about the record do."""
    made = resumed(tmp_path)
    (made.folder / "metrics.jsonl").unlink()
    made.alert(attempt=1, name="nonfinite", **{"class": 1})
    made.alert("a-0002", attempt=1, name="log_integrity", **{"class": 26})
    stamped(made, 100, "attempt_started", 2, pid=2**22 - 1, host="elsewhere")
    watch(made, 2)
    found = alerts(made)
    assert (found["nonfinite"], found["log_integrity"]) == ("resolved", "open")


def test_that_somebody_watched_is_recorded(tmp_path: Path) -> None:
    """Its beginning and its end, in the record itself."""
    made = resumed(tmp_path)
    watch(made, 1)
    events = [json.loads(line) for line in (made.folder / "events.jsonl").read_text().splitlines()]
    assert [(e["state"], e["attempt"]) for e in events if e["event"] == "watched"] == [
        ("began", 1),
        ("ended", 1),
    ]


def test_an_alert_after_the_training_ended_cannot_be_removed_unseen(tmp_path: Path) -> None:
    """The end of the watch tells the size of alerts.jsonl, which the end of the training could not know."""
    made = resumed(tmp_path)
    watch(made, 1)
    alerts = made.folder / "alerts.jsonl"
    assert read_any(made.folder).problems_of("alerts.jsonl") == ()
    lines = alerts.read_bytes()
    alerts.write_bytes(b"")
    (problem,) = read_any(made.folder).problems_of("alerts.jsonl")
    assert str(problem) == f"alerts.jsonl: has 0 bytes, and had {len(lines)} when the watch ended"
    assert lines


def test_a_configuration_that_the_script_froze_was_not_edited(tmp_path: Path) -> None:
    """`assay train` makes the experiment before the script freezes its configuration: a resume is no drift."""
    made = ExperimentFiles(tmp_path)
    stamped(made, 1, "created", None, experiment="exp-001", plan={}, config_digest="")
    stamped(made, 2, "attempt_started", 1, config_digest="", host="elsewhere")
    stamped(made, 3, "attempt_started", 2, config_digest="sha256:" + "ab" * 32, host="elsewhere")
    made.append("metrics.jsonl", step_row(1, 2, 4, 1.0))
    assert [a.name for a in watch(made, 2).judge.alerts] == []


def test_what_the_script_plans_reaches_the_rules(tmp_path: Path) -> None:
    """A `planned` event gives the checker totals and the metric; a `resumed` one tells that losses may differ."""
    made = ExperimentFiles(tmp_path)
    stamped(made, 1, "created", None, experiment="exp-001", plan={"seed": 1})
    stamped(made, 2, "attempt_started", 1, host="elsewhere")
    plan = {"total_steps": 77, "primary_metric": {"name": "acc", "direction": "max"}}
    stamped(made, 3, "planned", 1, plan=plan)
    stamped(made, 4, "resumed", 1, name="ckpt-00000010", step=10)
    judge: Any = watch(made, 1).judge
    assert (judge.window.total_steps, judge.window.primary, judge.window.resumed) == (77, "acc", True)
    assert judge.ignored == 0


@pytest.mark.parametrize(
    ("level", "names"), [("finite", {"nonfinite"}), ("digest", {"nonfinite", "checkpoint_not_resumable"})]
)
def test_weights_that_were_kept_aside_are_part_of_the_incident(
    tmp_path: Path, level: str, names: set[str]
) -> None:
    """The NaN explains them; a checkpoint that does not hold for another reason is one of its own."""
    made = resumed(tmp_path)
    made.seq, made.previous = _tail(made)
    stamped(
        made, 45, "checkpoint_failed", name="ckpt-00000025", level=level, detail="the weights are not finite"
    )
    assert {a.name for a in watch(made, 1).judge.open_alerts} == names


def test_a_full_disk_is_one_incident(tmp_path: Path) -> None:
    """However many saves it costs."""
    made = ExperimentFiles(tmp_path)
    made.created()
    stamped(made, 10, "attempt_started", host="elsewhere")
    for step in range(1, 6):
        name = f"ckpt-{step:08d}"
        stamped(made, 10 + step, "checkpoint_failed", name=name, level="write", detail="no space left")
    assert [a.name for a in watch(made, 1).judge.open_alerts] == ["checkpoint_not_resumable"]


def test_alerts_are_sent_beside_the_watching(tmp_path: Path) -> None:
    """A command gets the alert as JSON; one that fails is told at the end and stops nothing."""
    made = resumed(tmp_path)
    out = tmp_path / "heard.json"
    code = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read() + '\\n')"
    watch(made, 1, delivery=Delivery(command=(sys.executable, "-c", code)))
    assert json.loads(out.read_text().splitlines()[0])["name"] == "nonfinite"
    again, said = ExperimentFiles(tmp_path, "exp-002"), list[str]()
    again.created()
    stamped(again, 10, "attempt_started", host="elsewhere")
    again.append("metrics.jsonl", step_row(1, 1, 11, None))
    watch(again, 1, said, delivery=Delivery(command=("/no/such/program",)))
    assert any("an alert could not be sent: command" in line for line in said)


def test_lines_come_in_the_order_in_which_they_happened() -> None:
    """An event waits for the rows before it: for a moment while they live, for the rest of the file when read again."""
    events = [{"event": name, "time": at(second)} for name, second in (("a", 1), ("b", 3), ("c", 9))]
    rows = [{"event": "step", "step": s, "timestamp": at(s)} for s in (2, 4)]

    def names(*arguments: Any, **more: Any) -> list[Any]:
        return [line.get("step", line["event"]) for line in InOrder().merge(*arguments, **more)]

    assert names(events, rows, now_s=LATER) == ["a", 2, "b", 4, "c"]
    assert names(events, rows, now_s=0.0) == ["a", 2, "b", 4], "c may still have rows before it"
    assert names(events, rows, now_s=0.0, all_of_it=True) == ["a", 2, "b", 4, "c"]
    assert names(events, rows, now_s=LATER, more_rows=True) == ["a", 2, "b", 4]
    assert names([{"event": "x"}], [{"event": "step", "step": 1}], now_s=LATER) == [1, "x"]


def _tail(made: ExperimentFiles) -> tuple[int, str]:
    """Where the chain stands after others appended to it."""
    import hashlib  # noqa: PLC0415 - only here

    line = (made.folder / "events.jsonl").read_bytes().splitlines()[-1]
    return json.loads(line)["seq"], hashlib.sha256(line).hexdigest()
