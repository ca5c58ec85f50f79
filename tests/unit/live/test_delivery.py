"""The tail and the delivery of alerts: half lines, restarts, webhooks that fail, schedules."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from test_classes_of_fault import PLAN, last_nan, learning

from assay.live.alerts import Alerts, Delivery, shown
from assay.live.checker import Checker
from assay.live.tail import Tail


def test_a_half_written_line_waits_for_its_rest(tmp_path: Path) -> None:
    """A line counts when its newline is there, however often it is read before."""
    path = tmp_path / "m.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    whole = b'{"a": 1}\n{"b": "\xc3\xa4"}\n'
    seen = []
    for end in range(1, len(whole) + 1):
        path.write_bytes(whole[:end])
        seen += tail.read()
    assert seen == [{"a": 1}, {"b": "ä"}]
    assert (tail.bad_lines, tail.restarts) == (0, 0)


def test_bad_bytes_are_counted_and_passed_over(tmp_path: Path) -> None:
    """Garbage, nested bombs, numbers without end and non-objects cost a line each and nothing more."""
    path = tmp_path / "m.jsonl"
    bombs = [
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[1]",
        b"nonsense",
        b'{"a":' + b"9" * 10_000 + b"}",
        b"",
        b'{"ok": 1}',
    ]
    path.write_bytes(b"\n".join(bombs) + b"\n")
    tail = Tail(path)
    assert tail.read()[-1] == {"ok": 1}
    assert tail.bad_lines == 4


def test_a_replaced_or_cut_file_is_read_again(tmp_path: Path) -> None:
    """A shorter or other file under the name starts over."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    tail = Tail(path)
    assert len(tail.read()) == 2
    path.write_text('{"a": 3}\n')
    assert (tail.read(), tail.restarts) == ([{"a": 3}], 1)


def test_the_last_line_counts_at_the_end(tmp_path: Path) -> None:
    """Without a writer a whole last line needs no newline; a torn one is counted."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    assert Tail(path).finish() == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": ')
    tail = Tail(path)
    assert tail.finish() == [{"a": 1}]
    assert tail.bad_lines == 1


def lines(folder: Path) -> list[dict[str, Any]]:
    """What stands in alerts.jsonl."""
    return [json.loads(x) for x in (folder / "alerts.jsonl").read_text().splitlines() if x.strip()]


def test_a_state_is_written_once_even_after_a_restart(tmp_path: Path) -> None:
    """A second watcher that reads the whole log says nothing again and keeps the ids."""
    rows = last_nan(learning(40))
    Alerts(tmp_path, terminal=None).deliver(Checker(plan=PLAN).feed_all(rows), 1000.0)
    before = lines(tmp_path)
    again = Alerts(tmp_path, terminal=None)
    assert again.deliver(Checker(plan=PLAN, known=again.known).feed_all(rows), 2000.0) == []
    assert lines(tmp_path) == before
    assert before[0]["time"] is not None


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a kill in the middle of a line the next alert stands on a line of its own."""
    (tmp_path / "alerts.jsonl").write_text('{"schema": "alert/1", "id": "a-00')
    Alerts(tmp_path, terminal=None).deliver(Checker(plan=PLAN).feed_all(last_nan(learning(40))), 1.0)
    assert json.loads((tmp_path / "alerts.jsonl").read_text().splitlines()[1])["name"] == "nonfinite"


def test_reminders_come_ever_more_rarely(tmp_path: Path) -> None:
    """Open alerts are said again after 30 min, 2 h, 6 h and then daily; resolved ones never."""
    out = io.StringIO()
    alerts = Alerts(tmp_path, terminal=out)
    alerts.deliver(Checker(plan=PLAN).feed_all(last_nan(learning(40))), 0.0)
    said = [t for t in range(0, 4 * 86_400, 60) if alerts.remind(float(t))]
    gaps = [b - a for a, b in zip([0, *said], said, strict=False)]
    assert gaps[:5] == [1800, 7200, 21600, 86400, 86400]
    assert out.getvalue().count("still open") == len(said)
    assert len(lines(tmp_path)) == 1


def test_a_dead_webhook_loses_nothing(tmp_path: Path) -> None:
    """The failure is noted, the alert is in the file, the command still runs; mild alerts are not sent."""
    sent: list[str] = []

    def refuse(url: str, line: Any, timeout_s: float) -> None:
        raise OSError("connection refused")

    delivery = Delivery(webhook="http://localhost:1/hook", command=("notify",))
    alerts = Alerts(tmp_path, delivery, terminal=None, post=refuse, run=lambda c, text, s: sent.append(text))
    alerts.deliver(Checker(plan=PLAN).feed_all(last_nan(learning(40))), 0.0)
    assert "connection refused" in alerts.failures[0]
    assert json.loads(sent[0])["class"] == 1
    assert len(lines(tmp_path)) == 1


def test_a_command_gets_the_alert_without_a_shell(tmp_path: Path) -> None:
    """Arguments are passed as they are, whatever they hold."""
    target = tmp_path / "said; echo.txt"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    delivery = Delivery(command=(sys.executable, "-c", code, str(target)))
    alerts = Alerts(tmp_path, delivery, terminal=None)
    alerts.deliver(Checker(plan=PLAN).feed_all(last_nan(learning(40))), 0.0)
    assert alerts.failures == []
    assert json.loads(target.read_text())["name"] == "nonfinite"


def test_terminal_lines_hold_no_control_characters() -> None:
    """Foreign text cannot move the cursor."""
    line = {"state": "open", "severity": "critical", "name": "x", "step": 1, "text": "a\x1b[2Jb\nc"}
    assert shown(line) == "[critical] x at step 1: a [2Jb c"
