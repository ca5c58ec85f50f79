"""Draining: a real service behind a manager of our own goes and comes back, whatever becomes of Assay."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.runtime import drain, listeners

MANAGER = """
import os, signal, socket, subprocess, sys, time
from pathlib import Path
home = Path(__file__).parent
verb = sys.argv[1]
with (home / "calls").open("a") as calls:
    calls.write(verb + "\\n")
pid = home / "pid"

def alive():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int((home / "port").read_text()))) == 0

if verb == "is-active":
    sys.exit(0 if alive() else 3)
if verb == "start":
    if (home / "broken").exists():
        sys.exit("cannot start: broken")
    if not alive():
        port = (home / "port").read_text()
        script = (
            "import os, socket, sys, time; s = socket.socket(); "
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
            f"s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(120)"
        )
        child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pid.write_text(str(child.pid))
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.05)
if verb == "stop":
    if (home / "stubborn").exists():
        sys.exit("refusing to stop")
    if alive():
        os.kill(int(pid.read_text()), signal.SIGTERM)
"""


class Managed:
    """A service, its manager, and what was asked of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = listeners.free_port()
        (home / "port").write_text(str(self.port))
        self.ctl = home / "ctl.py"
        self.ctl.write_text(MANAGER)
        self.state = home / "state" / "service.drain.json"

    @property
    def service(self) -> drain.Service:
        """As `runtime.drain` sees it."""
        line = (sys.executable, str(self.ctl))
        return drain.Service("our.service", (*line, "is-active"), (*line, "stop"), (*line, "start"))

    def ask(self, verb: str) -> int:
        """One command of the manager."""
        return subprocess.run([sys.executable, self.ctl, verb], check=False).returncode

    def listens(self) -> bool:
        """Whether the service answers."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def calls(self) -> list[str]:
        """What the manager was asked to do, without the questions."""
        return [c for c in (self.home / "calls").read_text().split() if c != "is-active"]

    def word(self) -> str:
        """How the drain stands by its file."""
        return str(json.loads(self.state.read_text())["state"])


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Managed]:
    """A running service; whatever a test left of it is ended."""
    made = Managed(tmp_path)
    made.ask("start")
    assert made.listens()
    yield made
    for name in ("stubborn", "broken"):
        (tmp_path / name).unlink(missing_ok=True)
    made.ask("stop")


def until(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Wait for something."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_a_named_service_makes_room_and_comes_back(managed: Managed) -> None:
    """While the place is lent the port is free; afterwards the service answers again, and the file says so."""
    told: list[str] = []
    with drain.drained(managed.service, managed.state, port=managed.port, note=told.append) as was_active:
        assert was_active
        assert not managed.listens()
        assert managed.word() == "drained"
        assert list(drain.left_over(managed.state.parent)) == []
    assert managed.listens()
    assert managed.word() == "restored"
    assert managed.calls() == ["start", "stop", "start"]
    assert told == [
        "our.service is stopped; it comes back when this study ends",
        "our.service runs again",
    ]


@pytest.mark.slow
def test_it_comes_back_after_an_error_inside(managed: Managed) -> None:
    """A study that fails gives the place back as well."""
    with pytest.raises(RuntimeError, match="inside"), drain.drained(managed.service, managed.state):
        raise RuntimeError("inside")
    assert managed.listens()


@pytest.mark.slow
def test_a_service_that_does_not_run_is_neither_stopped_nor_started(managed: Managed) -> None:
    """What was down stays down."""
    managed.ask("stop")
    assert until(lambda: not managed.listens())
    with drain.drained(managed.service, managed.state) as was_active:
        assert not was_active
    assert managed.calls() == ["start", "stop"]
    assert not managed.listens()
    assert not managed.state.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_service_comes_back_when_assay_is_killed(managed: Managed, number: signal.Signals) -> None:
    """Kill -9 of Assay in the middle of a study: the guard notices and starts the service."""
    script = f"""
import sys, time
from pathlib import Path
from assay.runtime import drain
line = ({sys.executable!r}, {str(managed.ctl)!r})
service = drain.Service("our.service", (*line, "is-active"), (*line, "stop"), (*line, "start"))
with drain.drained(service, Path({str(managed.state)!r}), port={managed.port}):
    print("drained", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "drained\n"
    assert not managed.listens()
    child.send_signal(number)
    child.wait()
    child.stdout.close()
    assert until(managed.listens)
    assert until(lambda: managed.word() == "restored")


@pytest.mark.slow
def test_a_killed_guard_is_mended_by_the_next_assay(managed: Managed) -> None:
    """Even the guard may be killed: its file says what is down, and how to start it."""
    lent = drain.drained(managed.service, managed.state)
    lent.__enter__()
    os.kill(json.loads(managed.state.read_text())["guard_pid"], signal.SIGKILL)
    assert until(lambda: list(drain.left_over(managed.state.parent)) == [managed.state])
    with pytest.raises(ComponentFailed, match="guard was killed"):
        lent.__exit__(None, None, None)
    assert not managed.listens()
    assert drain.restore_left_over(managed.state) == "our.service"
    assert managed.listens()
    assert list(drain.left_over(managed.state.parent)) == []


@pytest.mark.slow
def test_a_service_that_does_not_stop_is_never_killed(managed: Managed) -> None:
    """The study is refused; the service goes on as it was."""
    (managed.home / "stubborn").touch()
    process = psutil.Process(int((managed.home / "pid").read_text()))
    with (
        pytest.raises(ComponentFailed, match="refusing to stop"),
        drain.drained(managed.service, managed.state, grace_s=0.5),
    ):
        pytest.fail("the place was not free")
    assert process.is_running()
    assert managed.listens()


@pytest.mark.slow
def test_a_port_that_stays_taken_ends_the_study_and_brings_the_service_back(managed: Managed) -> None:
    """Somebody else holds the port: nothing is lent, the service is started again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(ComponentFailed, match=f"port {port} is still taken"),
            drain.drained(managed.service, managed.state, port=port, grace_s=0.5),
        ):
            pytest.fail("the place was not free")
    assert managed.listens()


@pytest.mark.slow
def test_a_service_that_does_not_come_back_is_told(managed: Managed) -> None:
    """The error names the service, the manager's own words and the command; the file keeps it for the next one."""
    lent = drain.drained(managed.service, managed.state, grace_s=0.5)
    lent.__enter__()
    (managed.home / "broken").touch()
    with pytest.raises(ComponentFailed, match=r"cannot start: broken.*start") as failed:
        lent.__exit__(None, None, None)
    assert failed.value.where == "our.service"
    assert managed.word() == "lost"
    (managed.home / "broken").unlink()
    assert list(drain.left_over(managed.state.parent)) == [managed.state]
    drain.restore_left_over(managed.state)
    assert managed.listens()


def test_commands_of_the_managers(tmp_path: Path) -> None:
    """Only the named unit or job, by its manager's own words; nothing is killed."""
    found = drain.systemd("ollama", user=True)
    assert found.stop == ("systemctl", "--user", "stop", "ollama.service")
    assert found.start[-2:] == ("start", "ollama.service")
    plist = tmp_path / "com.example.server.plist"
    plist.touch()
    job = drain.launchd("com.example.server", plist, domain="gui/501")
    assert job.stop == ("launchctl", "bootout", "gui/501/com.example.server")
    assert job.start == ("launchctl", "bootstrap", "gui/501", str(plist))
    assert not any("kill" in word for s in (found, job) for c in (s.stop, s.start) for word in c)


@pytest.mark.parametrize("name", ["", "--all", "a b", "../x", "*", "-x.service"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    """A name never becomes a flag or a pattern of the manager."""
    with pytest.raises(UsageError, match="no name of a service"):
        drain.systemd(name)
    with pytest.raises(UsageError):
        drain.launchd(name, tmp_path / "none.plist")


@given(data=st.binary(max_size=200))
def test_any_state_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A damaged file starts nothing."""
    path = tmp_path_factory.mktemp("s") / "x.drain.json"
    path.write_bytes(data)
    assert list(drain.left_over(path.parent)) == []
    with pytest.raises(UnreadableInput):
        drain.restore_left_over(path)
