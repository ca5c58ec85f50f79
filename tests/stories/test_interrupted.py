"""Story: SIGKILL, SIGINT and SIGTERM in the middle of an evaluation, and a second Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from twin_project import Project, finished_once, published_right

from assay.core.events import EventType
from assay.runtime.listeners import free_port
from assay.testing import servers

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
