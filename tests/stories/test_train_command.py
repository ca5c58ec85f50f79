"""Story: `assay train` over real small scripts that go wrong in the ways trainings do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay.runtime.process import runs

pytestmark = pytest.mark.slow

HEALTHY = """
import time, assay
with assay.experiment(primary_metric="val_loss", direction="min", total_steps=STEPS) as run:
    for step in range(1, STEPS + 1):
        loss = 2.0 / step ** 0.5
        FAULT
        run.log({"loss": loss}, step=step)
        if step % 10 == 0:
            run.log_evaluation({"val_loss": loss + 0.1}, step=step)
            print("step", step, flush=True)
        if run.should_stop:
            run.checkpoint({"step": step}, step=step)
            print("stopped in order", flush=True)
            break
        time.sleep(0.02)
"""
DEAF = """
import signal, time
for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def script(fault: str = "", steps: int = 60) -> str:
    """A training that logs; `fault` is a statement of its loop."""
    return HEALTHY.replace("STEPS", str(steps)).replace("FAULT", fault or "pass")


@dataclass
class World:
    """A folder in which one trains."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, name: str, text: str) -> str:
        """A script in the folder."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`assay ...` in a process of its own."""
        child = subprocess.Popen(
            [sys.executable, "-m", "assay", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    def train(self, *arguments: str, limit_s: float = 60.0) -> tuple[int, str, str]:
        """`assay train ...` to its end: exit code, stdout, stderr."""
        child = self.start("train", *arguments)
        out, err = child.communicate(timeout=limit_s)
        assert "a defect of Assay" not in err
        return child.returncode, out, err

    def events(self, name: str = "exp-001") -> list[dict[str, Any]]:
        """The record."""
        return self.lines(name, "events.jsonl")

    def lines(self, name: str, file: str) -> list[dict[str, Any]]:
        """A file of lines."""
        path = self.folder / ".assay" / "experiments" / name / file
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def ended(self, name: str = "exp-001") -> dict[str, Any]:
        """The last end of an attempt."""
        return [e for e in self.events(name) if e["event"] == "attempt_ended"][-1]

    def until(self, true: Callable[[], bool], limit_s: float = 20.0) -> None:
        """Wait for something."""
        deadline = time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)

    def pid(self, name: str = "exp-001") -> int:
        """Process of the newest attempt."""
        return int([e for e in self.events(name) if e["event"] == "attempt_started"][-1]["pid"])

    def trains(self, rows: int = 10) -> None:
        """Wait until it has written so many rows."""
        self.until(lambda: len(self.lines("exp-001", "metrics.jsonl")) >= rows)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty folder; at the end nothing that was started there may run."""
    (tmp_path / ".assay").mkdir()
    made = World(tmp_path)
    yield made
    for child in made.started:
        if child.poll() is None:
            child.kill()
        for stream in (child.stdout, child.stderr):
            if stream and not stream.closed:
                stream.close()
        child.wait()
    left = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(tmp_path) and process.pid != os.getpid():
                left.append(process.cmdline())
                process.kill()
        except psutil.Error:
            continue
    assert left == []


def test_healthy_training_is_recorded(world: World) -> None:
    """Exit 0, the output shown and kept, an attempt with its resources, a hypothesis before the start, no alert."""
    name = world.write("train.py", script())
    code, out, err = world.train(
        "--experiment", "wide", "--hypothesis", "It gets better.", "--", sys.executable, name
    )
    assert code == 0, err
    assert "step 60" in err
    assert "step 60" in (world.folder / ".assay/experiments/exp-001/log/attempt-1.log").read_text()
    assert "exited (exit 0" in out
    kinds = [e["event"] for e in world.events()]
    assert kinds.index("hypothesis") < kinds.index("attempt_started") < kinds.index("training_ended")
    assert kinds[-1] == "attempt_ended"
    assert world.ended()["resources"]["max_rss_bytes"] > 1_000_000
    assert world.ended()["resources"]["wall_s"] > 1.0
    assert [a["name"] for a in world.lines("exp-001", "alerts.jsonl") if a["severity"] == "critical"] == []


def test_nan_is_stopped_after_a_checkpoint(world: World) -> None:
    """The first NaN is found, the trainer is asked, saves, leaves; exit 1 and the reason in one line."""
    name = world.write("train.py", script("loss = float('nan') if step >= 30 else loss", steps=2000))
    code, out, err = world.train("--", sys.executable, name)
    assert code == 1, err
    assert "stopped by checker: not finite at step 30" in out
    assert "stopped in order" in err
    kinds = [e["event"] for e in world.events()]
    assert kinds.index("stop_requested") < kinds.index("checkpoint_committed") < kinds.index("training_ended")
    assert world.ended()["outcome"] == "stopped"
    assert world.ended()["signal"] is None
    alert = next(a for a in world.lines("exp-001", "alerts.jsonl") if a["name"] == "nonfinite")
    assert (alert["severity"], alert["step"]) == ("critical", 30)


def test_stop_policy_off_lets_it_go_on(world: World) -> None:
    """`--stop off` warns only: the training comes to its end, and the open alert still makes exit 1."""
    name = world.write("train.py", script("loss = float('nan') if step == 30 else loss"))
    code, _, err = world.train("--stop", "off", "--", sys.executable, name)
    assert code == 1, err
    assert "stopped in order" not in err
    assert world.ended()["outcome"] == "exited"
    assert [e for e in world.events() if e["event"] == "stop_requested"] == []


def test_hang_is_found_and_ended(world: World) -> None:
    """No row for longer than the (shortened) budget: an alert, and with the policy that asks for it an end."""
    name = world.write("train.py", script("time.sleep(600) if step == 40 else None", steps=100))
    began = time.monotonic()
    code, out, err = world.train(
        "--rule", "stall_s=1.5", "--stop", "stall=stop", "--kill-grace", "2", "--", sys.executable, name
    )
    assert code == 1, err
    assert "stopped by checker: no step for" in out
    assert time.monotonic() - began < 30
    assert world.ended()["outcome"] == "stopped"
    assert any(a["name"] == "stall" for a in world.lines("exp-001", "alerts.jsonl"))


def test_killed_child_is_recorded(world: World) -> None:
    """SIGKILL from elsewhere: outcome killed, the alert says so, exit 6, and how to go on."""
    name = world.write("train.py", script(steps=2000))
    child = world.start("train", "--", sys.executable, name)
    world.trains()
    os.kill(world.pid(), signal.SIGKILL)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 6, err
    assert (world.ended()["outcome"], world.ended()["signal"]) == ("killed", "SIGKILL")
    assert "assay train --resume exp-001" in out
    assert any(a["name"] == "process_lost" for a in world.lines("exp-001", "alerts.jsonl"))


def test_resume_takes_the_last_command(world: World) -> None:
    """`--resume` without a command starts the same one as attempt 2 of the same experiment."""
    name = world.write(
        "train.py", script("import os; os.kill(os.getpid(), 9) if run.attempt == 1 and step == 20 else None")
    )
    code, _, err = world.train("--", sys.executable, name)
    assert code == 6, err
    code, _, err = world.train("--resume", "exp-001")
    assert code == 0, err
    started = [e for e in world.events() if e["event"] == "attempt_started"]
    assert [e["attempt"] for e in started] == [1, 2]
    assert started[0]["command"] == started[1]["command"]
    assert world.ended()["outcome"] == "exited"


def test_training_survives_its_watcher(world: World) -> None:
    """Kill -9 of the watcher: the training goes on and its log says so; the next command records the true end."""
    name = world.write("train.py", script(steps=120))
    watcher = world.start("train", "--", sys.executable, name)
    world.trains()
    watcher.kill()
    watcher.communicate()
    pid = world.pid()
    assert runs(pid)
    world.until(lambda: not psutil.pid_exists(pid))
    log = (world.folder / ".assay/experiments/exp-001/log/attempt-1.log").read_text()
    assert "is gone; the training goes on. `assay train --attach exp-001` watches it again" in log
    assert "step 120" in log
    assert [e for e in world.events() if e["event"] == "attempt_ended"] == []
    code, _, err = world.train("--", sys.executable, "-c", "pass")
    assert code == 0
    assert "exp-001 had ended unwatched; its end is recorded now" in err
    assert (world.ended()["outcome"], world.ended()["exit_code"]) == ("exited", 0)


def test_attach_takes_up_the_watch(world: World) -> None:
    """`--attach` watches a running attempt again, shows its output, ends with its end; a second watcher is refused."""
    name = world.write("train.py", script(steps=250))
    watcher = world.start("train", "--", sys.executable, name)
    world.trains()
    code, _, err = world.train("--attach", "exp-001")
    assert code == 2
    assert "another process watches it" in err
    watcher.kill()
    watcher.communicate()
    code, out, err = world.train("--attach", "exp-001")
    assert code == 0, err
    assert "step 250" in err
    assert "exited (exit 0" in out
    assert world.ended()["attempt"] == 1


def test_watcher_and_keeper_killed(world: World) -> None:
    """Nobody above it is left: the training still goes on, can be watched and stopped, and its end is `lost`."""
    name = world.write("train.py", script(steps=3000))
    watcher = world.start("train", "--", sys.executable, name)
    world.trains()
    pid = world.pid()
    keeper = psutil.Process(pid).ppid()
    watcher.kill()
    watcher.communicate()
    os.kill(keeper, signal.SIGKILL)
    attached = world.start("train", "--attach", "exp-001")
    time.sleep(1.5)
    assert runs(pid)
    attached.send_signal(signal.SIGINT)
    _, err = attached.communicate(timeout=30)
    assert attached.returncode == 130, err
    assert "stopped in order" in err
    assert world.ended()["outcome"] == "lost"


def test_interrupted_once_saves_a_checkpoint(world: World) -> None:
    """Ctrl-C once asks; the trainer saves and leaves; exit 130."""
    name = world.write("train.py", script(steps=3000))
    child = world.start("train", "--", sys.executable, name)
    world.trains()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "stopped in order" in err
    kinds = [e["event"] for e in world.events()]
    assert "checkpoint_committed" in kinds
    assert world.ended()["outcome"] == "stopped"


def test_interrupted_twice_ends_at_once(world: World) -> None:
    """A command that hears nothing is gone right after the second Ctrl-C, with all that it started."""
    name = world.write(
        "deaf.py",
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        + DEAF,
    )
    child = world.start("train", "--stop-grace", "60", "--kill-grace", "60", "--", sys.executable, name)
    log = world.folder / ".assay/experiments/exp-001/log/attempt-1.log"
    world.until(lambda: log.exists() and "deaf" in log.read_text())
    child.send_signal(signal.SIGINT)
    time.sleep(0.6)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert child.returncode == 130
    assert world.ended()["outcome"] == "stopped"
    assert world.ended()["signal"] == "SIGKILL"


def test_deaf_command_is_killed_after_its_time(world: World) -> None:
    """`--max-duration`, then a request, SIGTERM, and SIGKILL for what ignores both; exit 1."""
    name = world.write("deaf.py", DEAF)
    code, out, err = world.train(
        "--max-duration", "1", "--stop-grace", "0.5", "--kill-grace", "0.5", "--", sys.executable, name
    )
    assert code == 1, err
    assert "took longer than 1 s" in out
    assert "SIGTERM: it did not stop by itself" in err
    assert (world.ended()["outcome"], world.ended()["signal"]) == ("stopped", "SIGKILL")


def test_orphans_of_the_command_are_ended(world: World) -> None:
    """What a command leaves behind in the background does not outlive the attempt."""
    code, _, err = world.train("--", "sh", "-c", "sleep 600 & echo gone")
    assert code == 0, err


def test_failing_command(world: World) -> None:
    """A script that raises: exit 6, crashed, the end of its log is shown."""
    name = world.write("train.py", script("1 / 0 if step == 5 else None"))
    code, out, err = world.train("--", sys.executable, name)
    assert code == 6, err
    assert world.ended()["outcome"] == "crashed"
    assert world.ended()["exit_code"] == 1
    assert "ZeroDivisionError" in out
    assert "ZeroDivisionError" in world.ended()["log_tail"]


def test_a_person_asks_for_the_stop(world: World) -> None:
    """A stop.json that somebody writes is obeyed and named in the result."""
    name = world.write("train.py", script(steps=3000))
    child = world.start("train", "--json", "--", sys.executable, name)
    world.trains()
    request = {"schema": "stop/1", "by": "ada", "reason": "seen enough", "checkpoint": True}
    (world.folder / ".assay/experiments/exp-001/stop.json").write_text(json.dumps(request))
    out, err = child.communicate(timeout=30)
    assert child.returncode == 1, err
    told = json.loads(out)
    assert (told["stopped_by"], told["stop_reason"], told["outcome"]) == ("ada", "seen enough", "stopped")


def test_log_is_shown_with_bounded_memory(world: World) -> None:
    """50 MB of output in one line and many: all of it in the log, the watcher stays small, the tail is short."""
    text = "import sys\nfor i in range(500):\n    sys.stdout.write('x' * 100_000)\nsys.stdout.write('\\nlast line\\n')\n"
    name = world.write("loud.py", text)
    code, _, err = world.train("--quiet", "--", sys.executable, name)
    assert code == 0, err
    assert (world.folder / ".assay/experiments/exp-001/log/attempt-1.log").stat().st_size > 50_000_000
    assert world.ended()["log_tail"].endswith("last line")
    assert len(world.ended()["log_tail"]) < 10_000


def test_beside_a_script_that_tracks_itself(world: World) -> None:
    """`python -m assay.live DIR` finds the NaN and asks; it signals nobody, and ends with the attempt."""
    name = world.write("train.py", script("loss = float('nan') if step >= 60 else loss", steps=3000))
    training = subprocess.Popen([sys.executable, name], cwd=world.folder, stdout=subprocess.PIPE, text=True)
    world.started.append(training)
    world.trains(2)
    folder = str(world.folder / ".assay" / "experiments" / "exp-001")
    beside = subprocess.run(
        [sys.executable, "-m", "assay.live", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert beside.returncode == 0, beside.stderr
    assert "stop requested by checker: not finite at step 60" in beside.stderr
    out, _ = training.communicate(timeout=20)
    assert training.returncode == 0
    assert "stopped in order" in out
    kinds = [e["event"] for e in world.events()]
    assert (kinds.count("attempt_ended"), kinds.count("watched")) == (1, 2)


def test_a_script_brings_its_own_checker(world: World) -> None:
    """`experiment(live=True)`: the NaN is found, the stop asked for, the checker gone when the run has ended."""
    text = script("loss = float('nan') if step >= 60 else loss", steps=3000)
    name = world.write("train.py", text.replace("experiment(", "experiment(live=True, ", 1))
    world.write("psutil.py", "raise ImportError('a file of the user')")
    done = subprocess.run(
        [sys.executable, name], cwd=world.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "stopped in order" in done.stdout
    assert "stop requested by checker: not finite at step 60" in done.stderr
    (opened,) = {a["id"]: a for a in world.lines("exp-001", "alerts.jsonl")}.values()
    assert (opened["name"], opened["state"]) == ("nonfinite", "open")
    told = [(e["state"], e["by"]) for e in world.events() if e["event"] == "watched"]
    assert told == [("began", "python -m assay.live"), ("ended", "python -m assay.live")]


def test_beside_a_script_that_is_killed(world: World) -> None:
    """SIGKILL leaves nobody to write the end: who watches beside it writes `lost`, with the alert."""
    name = world.write("train.py", script(steps=3000))
    training = subprocess.Popen([sys.executable, name], cwd=world.folder, stdout=subprocess.PIPE, text=True)
    world.started.append(training)
    world.trains(5)
    folder = str(world.folder / ".assay" / "experiments" / "exp-001")
    beside = subprocess.Popen([sys.executable, "-m", "assay.live", folder], stderr=subprocess.PIPE, text=True)
    world.started.append(beside)
    time.sleep(1.5)
    training.kill()
    training.communicate()
    _, err = beside.communicate(timeout=30)
    assert beside.returncode == 0, err
    assert world.ended()["outcome"] == "lost"
    assert any(a["name"] == "process_lost" for a in world.lines("exp-001", "alerts.jsonl"))
