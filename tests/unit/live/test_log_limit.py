"""The recorded output of an attempt has a limit: both ends stay, a line says what is missing, the command never waits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.live import attempt
from assay.live.following import FollowText

pytestmark = pytest.mark.slow

LIMIT = 1 << 20
LOUD = f"""
import os, sys, time
def shout(word):
    for i in range(40_000):
        print(word, i, "x" * 80)
    sys.stdout.flush()
print("first line")
shout("before")
deadline = time.monotonic() + 60
while os.fstat(1).st_size > {LIMIT} and time.monotonic() < deadline:
    time.sleep(0.05)
print("the log was cut" if os.fstat(1).st_size <= {LIMIT} else "the log was not cut")
shout("after")
print("last line")
"""


def test_both_ends_of_a_large_log_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut while the command runs and at its end, and neither disturbs the command."""
    monkeypatch.setattr(attempt, "LOG_LIMIT_BYTES", LIMIT)
    command = (sys.executable, "-c", LOUD)
    process = attempt.launch(attempt.Start(tmp_path, 1, command, tmp_path, {}), {})
    assert process.wait(120)
    process.let_go()
    ended = attempt.conclude(process, stopped=False)
    assert (ended["outcome"], ended["exit_code"]) == ("exited", 0)
    assert ended["log_tail"].endswith("last line")
    log = attempt.log_path(tmp_path, 1).read_text()
    assert log.startswith("first line\nbefore 0 x")
    assert len(log) <= LIMIT // 4 + 200
    (said,) = (line for line in log.splitlines() if line.startswith("[assay]"))
    left_out = int(said.split()[2])
    assert said == f"[assay] about {left_out} bytes of output are left out here: a log has at most {LIMIT}"
    assert left_out > 6_000_000


def test_a_log_is_cut_while_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the end of a training that prints for days waits too long."""
    monkeypatch.setattr(attempt, "LOG_LIMIT_BYTES", LIMIT)
    script = LOUD.replace('shout("after")\n', "")
    process = attempt.launch(attempt.Start(tmp_path, 1, (sys.executable, "-c", script), tmp_path, {}), {})
    assert process.wait(120)
    process.let_go()
    assert "the log was cut\nlast line\n" in attempt.log_path(tmp_path, 1).read_text()


def test_a_small_log_is_whole(tmp_path: Path) -> None:
    """Nothing is said and nothing is missing."""
    command = (sys.executable, "-c", "print('first'); print('last')")
    process = attempt.launch(attempt.Start(tmp_path, 1, command, tmp_path, {}), {})
    assert process.wait(60)
    process.let_go()
    assert attempt.log_path(tmp_path, 1).read_text() == "first\nlast\n"


def test_whoever_shows_the_log_goes_on_after_a_cut(tmp_path: Path) -> None:
    """A file that is shorter than what was shown is shown from its new end on."""
    path = tmp_path / "log"
    path.write_text("x" * 1000)
    shown = FollowText(path)
    assert len(shown.new()) == 1000
    path.write_text("short\n")
    assert shown.new() == ""
    with path.open("a") as log:
        log.write("next\n")
    assert shown.new() == "next\n"
