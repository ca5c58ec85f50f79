"""The contract of the `execute` port, over every adapter that runs work on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from assay.adapters.execute import local
from assay.core.errors import ComponentFailed, ComponentMissing, UsageError
from assay.core.ports import Execute
from assay.core.run import Work
from assay.runtime import process
from assay.runtime.logs import TAIL_BYTES, TAIL_LINES

pytestmark = pytest.mark.slow

FAST = local.Options(grace_s=0.4, orphan_grace_s=0.3)


@pytest.fixture(params=["local"])
def execute(request: pytest.FixtureRequest) -> Iterator[Execute]:
    """Each adapter; nothing of it may be left when the test ends."""
    before = set(psutil.Process().children(recursive=True))
    yield local.Adapter(FAST)
    left = [p for p in psutil.Process().children(recursive=True) if p not in before]
    for item in left:
        item.kill()
    assert not left


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., Work]:
    """Makes work of a shell line."""

    def make(line: str, label: str = "work", **more: object) -> Work:
        return Work(
            label=label, command=("sh", "-c", line), cwd=str(tmp_path), log=str(tmp_path / "work.log"), **more
        )

    return make


def until(condition: Callable[[], bool], limit_s: float = 5.0) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pids_of(mark: str) -> list[int]:
    """Living processes with exactly that command line, which only the test uses."""
    return [
        item.pid
        for item in psutil.process_iter(["cmdline", "status"])
        if item.info["cmdline"] == mark.split() and item.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_a_run_is_recorded_whole(execute: Execute, work: Callable[..., Work], tmp_path: Path) -> None:
    """Exit code, times and log tail, with both streams in the log."""
    run = execute.poll(execute.submit(work("echo out; echo err >&2; exit 3")), 10)
    assert run.exit_code == 3
    assert run.log_tail.splitlines() == ["out", "err"]
    assert run.wall_s is not None
    assert 0 <= run.wall_s < 10
    assert run.pid
    assert run.started.endswith("Z")
    assert not run.timed_out
    assert not run.cancelled
    assert (tmp_path / "work.log").read_text() == "out\nerr\n"


def test_the_environment_is_added_to_ours(
    execute: Execute, work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inherited variables stay, the work's own win, and standard input is empty."""
    monkeypatch.setenv("INHERITED", "a")
    monkeypatch.setenv("BOTH", "ours")
    line = 'read x; echo "$INHERITED $BOTH $?"'
    assert execute.poll(execute.submit(work(line, env={"BOTH": "works"})), 10).log_tail == "a works 1"


def test_a_missing_program_is_told_before_anything_runs(execute: Execute, tmp_path: Path) -> None:
    """Neither on the path, nor as a file, nor a folder to run it in."""
    for command, cwd in (
        (("no-such-program-x",), tmp_path),
        (("./nothing",), tmp_path),
        (("sh",), tmp_path / "no"),
    ):
        with pytest.raises(ComponentMissing):
            execute.submit(Work(label="x", command=command, cwd=str(cwd), log=str(tmp_path / "log")))


def test_a_file_that_is_no_program_is_told(execute: Execute, tmp_path: Path) -> None:
    """Exec refuses what has no known format."""
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01\x02")
    script.chmod(0o755)
    with pytest.raises(ComponentMissing, match="cannot execute"):
        execute.submit(Work(label="x", command=("./script",), cwd=str(tmp_path), log=str(tmp_path / "log")))


def test_a_signal_is_a_negative_exit_code(execute: Execute, work: Callable[..., Work]) -> None:
    """As `subprocess` reports it; it was not us, so it is not cancelled."""
    run = execute.poll(execute.submit(work("kill -SEGV $$")), 10)
    assert run.exit_code == -signal.SIGSEGV
    assert not run.cancelled


def test_polling_does_not_wait_longer_than_asked(execute: Execute, work: Callable[..., Work]) -> None:
    """A run that goes on has no exit code."""
    handle = execute.submit(work("sleep 60"))
    started = time.monotonic()
    assert execute.poll(handle, 0.2).exit_code is None
    assert time.monotonic() - started < 2
    execute.cancel(handle)


def test_work_that_takes_too_long_is_ended(execute: Execute, work: Callable[..., Work]) -> None:
    """The limit counts without anybody polling."""
    run = execute.poll(execute.submit(work("sleep 60", timeout_s=0.3)), 10)
    assert run.timed_out
    assert run.exit_code == -signal.SIGTERM


def test_cancel_ends_the_whole_group_and_says_so(execute: Execute, work: Callable[..., Work]) -> None:
    """The shell's children go too, and cancelling twice is cancelling once."""
    handle = execute.submit(work("sleep 61.25 & sleep 61.25"))
    assert until(lambda: len(pids_of("sleep 61.25")) >= 2)
    run = execute.cancel(handle)
    assert run.cancelled
    assert run.exit_code == -signal.SIGTERM
    assert pids_of("sleep 61.25") == []
    assert execute.cancel(handle) == run


def test_cancelling_what_has_ended_changes_nothing(execute: Execute, work: Callable[..., Work]) -> None:
    """Its own exit code stands."""
    handle = execute.submit(work("exit 4"))
    assert execute.poll(handle, 10).exit_code == 4
    run = execute.cancel(handle)
    assert run.exit_code == 4
    assert not run.cancelled


def test_what_ignores_sigterm_is_killed_after_the_grace(execute: Execute, work: Callable[..., Work]) -> None:
    """Grace is bounded."""
    handle = execute.submit(work("trap '' TERM; echo armed; while :; do sleep 0.05; done"))
    assert until(lambda: "armed" in execute.poll(handle).log_tail)
    assert execute.cancel(handle).exit_code == -signal.SIGKILL


def test_daemons_in_sessions_of_their_own_are_found(execute: Execute, work: Callable[..., Work]) -> None:
    """Forked twice into another session and deaf to SIGTERM: still ours to end."""
    line = "(setsid sh -c 'trap \"\" TERM; sleep 62.25; sleep 62.25' &) ; sleep 0.2; exit 0"
    run = execute.poll(execute.submit(work(line)), 10)
    assert run.exit_code == 0
    assert pids_of("sleep 62.25") == []


def test_the_same_label_attaches_to_what_still_runs(execute: Execute, work: Callable[..., Work]) -> None:
    """There is never a second copy; another command under that label is refused."""
    first = execute.submit(work("sleep 63.25"))
    pid = execute.poll(first).pid
    assert execute.submit(work("sleep 63.25")) == first
    assert execute.poll(first).pid == pid
    with pytest.raises(UsageError, match="another command"):
        execute.submit(work("sleep 1"))
    execute.cancel(first)


def test_an_ended_label_runs_again_and_its_log_is_kept(execute: Execute, work: Callable[..., Work]) -> None:
    """A run is never reused silently; the tail is the new run's own."""
    assert execute.poll(execute.submit(work("echo first")), 10).log_tail == "first"
    run = execute.poll(execute.submit(work("echo second")), 10)
    assert run.log_tail == "second"
    assert Path(run.log).read_text() == "first\nsecond\n"


def test_labels_that_look_alike_are_two(execute: Execute, work: Callable[..., Work]) -> None:
    """The handle does not confuse what a file name cannot tell apart."""
    assert execute.submit(work("true", label="a b")) != execute.submit(work("true", label="a/b"))
    for label in ("a b", "a/b"):
        execute.poll(execute.submit(work("true", label=label)), 10)


def test_an_unknown_handle_is_refused(execute: Execute, tmp_path: Path) -> None:
    """Nothing is invented about a run that never was."""
    with pytest.raises(UsageError, match="no such run"):
        execute.poll(str(tmp_path / "nothing.json"))


def test_a_finished_run_can_be_read_by_another_process(execute: Execute, work: Callable[..., Work]) -> None:
    """What the guard wrote is enough to tell a resumed study how the work ended."""
    handle = execute.submit(work("echo done; exit 5"))
    first = execute.poll(handle, 10)
    assert local.Adapter().poll(handle) == first


def test_long_logs_keep_their_end(execute: Execute, work: Callable[..., Work]) -> None:
    """At most 60 lines and 8,000 bytes, whatever was printed."""
    run = execute.poll(
        execute.submit(work("seq 1 5000; head -c 20000 /dev/zero | tr '\\0' 'x'; seq 1 100")), 20
    )
    assert run.log_tail.splitlines()[-1] == "100"
    assert len(run.log_tail.splitlines()) == TAIL_LINES
    run = execute.poll(execute.submit(work("head -c 200000 /dev/urandom", label="noise")), 20)
    assert len(run.log_tail.encode("utf-8", "replace")) <= 4 * TAIL_BYTES


def test_secrets_are_blanked_out_of_the_tail(
    execute: Execute, work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor that prints its key must not put it into the ledger."""
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-value")
    run = execute.poll(execute.submit(work('echo "using $SOME_API_KEY now"')), 10)
    assert run.log_tail == "using <SOME_API_KEY> now"


def test_work_that_cannot_be_recorded_does_not_start(execute: Execute, tmp_path: Path) -> None:
    """On a full disk the error names the place, and nothing runs unseen."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        with contextlib.suppress(OSError):
            (place / "filler").write_bytes(bytes(200_000))
        with pytest.raises(ComponentFailed, match="no space left"):
            execute.submit(
                Work(label="x", command=("sleep", "67.25"), cwd=str(tmp_path), log=str(place / "log"))
            )
        assert pids_of("sleep 67.25") == []
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


SUBMITTER = """
import sys, time
from assay.adapters.execute import local
from assay.core.run import Work
execute = local.Adapter(local.Options(grace_s=0.4, orphan_grace_s=0.3))
work = Work(label="work", command=("sh", "-c", sys.argv[1]), cwd=sys.argv[2], log=sys.argv[2] + "/work.log")
print(execute.submit(work), flush=True)
time.sleep(600)
"""


def submitted_elsewhere(line: str, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Another Assay that submitted work and holds it; its handle."""
    other = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, line, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    handle = other.stdout.readline().strip()
    other.stdout.close()
    assert handle
    return other, handle


def test_nothing_outlives_an_assay_that_was_killed(execute: Execute, tmp_path: Path) -> None:
    """After kill -9 of Assay, the tree is gone within 3 s, daemons included, and the status file says orphaned."""
    line = "(setsid sh -c 'trap \"\" TERM; sleep 64.25; sleep 64.25' &) ; sleep 64.25"
    other, handle = submitted_elsewhere(line, tmp_path)
    assert until(lambda: len(pids_of("sleep 64.25")) >= 2)
    other.kill()
    other.wait()
    assert until(lambda: pids_of("sleep 64.25") == [], 3.0)
    assert until(lambda: (process.read_status(Path(handle)) or {}).get("ended") is not None)
    run = execute.poll(handle)
    assert run.cancelled
    assert run.exit_code == -signal.SIGTERM


def test_work_of_a_living_assay_is_left_alone(
    execute: Execute, work: Callable[..., Work], tmp_path: Path
) -> None:
    """Two runs at once: the second is refused with the owner's pid, the first goes on."""
    other, handle = submitted_elsewhere("sleep 65.25", tmp_path)
    try:
        with pytest.raises(UsageError, match=f"another Assay, pid {other.pid}"):
            execute.submit(work("sleep 65.25"))
        assert execute.poll(handle).exit_code is None
    finally:
        other.kill()
        other.wait()
    assert until(lambda: pids_of("sleep 65.25") == [], 3.0)


def test_a_killed_guard_takes_its_command_along(
    execute: Execute, work: Callable[..., Work], tmp_path: Path
) -> None:
    """Should the guard itself be killed, the command goes by itself and its orphans are swept up by their mark."""
    handle = execute.submit(work("(setsid sleep 66.25 &) ; sleep 66.25"))
    assert until(lambda: len(pids_of("sleep 66.25")) == 2)
    status = process.read_status(Path(handle))
    assert status is not None
    os.kill(status["guard_pid"], signal.SIGKILL)
    run = execute.poll(handle, 5)
    assert run.cancelled
    assert run.exit_code == -signal.SIGKILL
    assert pids_of("sleep 66.25") == []
    assert execute.poll(execute.submit(work("echo again")), 10).log_tail == "again"
