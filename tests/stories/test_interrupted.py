"""Story: SIGKILL, SIGINT and SIGTERM in the middle of an evaluation, and a second Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from twin_project import ASSAY, Project, finished_once, published_right

from assay.core.events import EventType
from assay.runtime.listeners import free_port
from assay.testing import servers

pytestmark = pytest.mark.slow

IN_A_TERMINAL = """import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])"""
"""Makes the terminal ours, so that its end is told to us, and becomes the command."""


def in_the_middle(project: Project) -> subprocess.Popen[str]:
    """A run whose harness has asked its first question and waits."""
    project.hold.touch()
    run = project.start("run", "release.yaml", "--no-report")
    project.asking()
    return run


def resumed(project: Project) -> None:
    """`assay resume` comes to the end that an undisturbed run comes to."""
    project.hold.unlink()
    again = project.run("resume", "twin-1", "--no-report")
    assert again.returncode == 0, again.stderr
    assert [d.outcome.value for d in project.history().decisions] == ["REGRESSION", "ACCEPT"]
    finished_once(project.events())
    project.nothing_left()
    published_right(project)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_ends_cleanly(project: Project, number: signal.Signals) -> None:
    """Exit 130, an interrupted Decision, a line that says how to go on, nothing left; resuming gives the same end."""
    run = in_the_middle(project)
    run.send_signal(number)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert f"assay: twin-1: interrupted by {number.name}" in err
    assert "`assay resume twin-1`" in err
    assert "Traceback" not in err
    assert project.left() == []
    history = project.history()
    assert history.interrupted
    decision = history.trials["twin-1-1"].decision
    assert decision is not None
    assert decision.interrupted
    assert not decision.keeps
    assert history.events[-1].type is EventType.STUDY_INTERRUPTED
    resumed(project)


def test_second_signal_leaves_at_once(project: Project) -> None:
    """Two Ctrl-C: exit 130 without waiting for anything, and the guards clean up; resuming gives the same end."""
    run = in_the_middle(project)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGTERM)  # two equal signals may arrive as one
    started = time.monotonic()
    _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert "Traceback" not in err
    assert time.monotonic() - started < 10.0  # a hang, not a measure of speed
    project.nothing_left()
    resumed(project)


def test_a_terminal_that_is_closed_ends_cleanly(project: Project) -> None:
    """The window goes away under a live display: SIGHUP, and a stderr that takes nothing; the end is recorded."""
    project.hold.touch()
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *ASSAY, "run", "release.yaml", "--no-report"],
        cwd=project.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    reader = threading.Thread(target=_drain, args=(ours,), daemon=True)
    reader.start()
    project.asking()
    os.set_blocking(ours, False)
    _hang_up(ours, reader)
    assert run.wait(timeout=30) == 130
    assert project.history().events[-1].type is EventType.STUDY_INTERRUPTED
    assert project.left() == []
    resumed(project)


def _drain(ours: int) -> None:
    """Read what is shown, as a terminal does, until it is closed."""
    with contextlib.suppress(OSError):
        while select.select([ours], [], [], 30.0)[0] and os.read(ours, 65536):
            pass


def _hang_up(ours: int, reader: threading.Thread) -> None:
    """Close the window."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, ours)  # closes the terminal under the reader
    reader.join(40)
    os.close(null)
    os.close(ours)


def test_nohup_goes_on(project: Project) -> None:
    """Whoever asked to go on without a terminal is not stopped by its end."""
    project.hold.touch()
    run = project.start("run", "release.yaml", "--no-report", via=("nohup", *ASSAY))
    project.asking()
    run.send_signal(signal.SIGHUP)
    project.hold.unlink()
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, (out, err)


def test_a_reader_that_left_is_no_reason_to_stop(project: Project) -> None:
    """`assay run ... 2>&1 | head -1`: the study goes to its end, and 0 is not said to those who read no verdict."""
    run = project.start("run", "release.yaml", "--no-report")
    assert run.stdout is not None
    assert run.stderr is not None
    run.stderr.readline()
    run.stderr.close()
    run.stdout.close()
    assert run.wait(timeout=120) == 128 + signal.SIGPIPE
    assert project.history().closed is not None
    assert [d.outcome.value for d in project.history().decisions] == ["REGRESSION", "ACCEPT"]
    published_right(project)


def test_kill_while_the_server_answers(project: Project) -> None:
    """SIGKILL with server and harness at work: the guards end both, and resuming at once meets none of them."""
    run = in_the_middle(project)
    run.kill()
    run.communicate()
    resumed(project)


def test_kill_with_a_deaf_server(project: Project) -> None:
    """A server that ignores SIGTERM holds its fixed port until its guard kills it: resuming waits for that."""
    port = free_port()
    fake = servers.command("deaf")
    spec = [
        *("--set", f"serve={{kind: command, port: {port}, command: {list(fake)!r}}}"),
        *("--set", "recipes=[{name: same, build: {kind: identity}}]"),
    ]
    project.hold.touch()
    run = project.start("run", "release.yaml", "--no-report", *spec)
    project.asking()
    run.kill()
    run.communicate()
    project.hold.unlink()
    again = project.run("resume", "twin-1", "--no-report")
    sentences = [d.sentence for d in project.history().decisions]
    assert "taken" not in again.stderr + again.stdout + str(sentences)
    assert "score exactly 0" in str(sentences)  # the fake knows nothing, and it was served to the end
    project.nothing_left()
