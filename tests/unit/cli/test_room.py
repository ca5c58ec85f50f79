"""Room for a study: refused by default, drained by name, given back; with a service manager of our own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from service_manager import runs

from assay.cli.room import FOLDER, room
from assay.core.errors import UsageError
from assay.runtime import listeners


@pytest.mark.slow
def test_a_study_is_refused_while_an_engine_runs(manager: Path, tmp_path: Path) -> None:
    """The default: who it is is told, and nothing is stopped."""
    with pytest.raises(UsageError, match=r"llama\.cpp runs already: pid"), room(tmp_path):
        pytest.fail("there was room")
    assert runs(manager)


@pytest.mark.slow
def test_a_named_service_makes_room_and_comes_back(manager: Path, tmp_path: Path) -> None:
    """The engine is gone while the study has the machine, and runs again when it ends."""
    with room(tmp_path, drains=("our-engine",)):
        assert not runs(manager)
    assert runs(manager)
    (state,) = (tmp_path / FOLDER).iterdir()
    assert json.loads(state.read_text())["state"] == "restored"


@pytest.mark.slow
def test_another_engine_in_the_way_brings_the_named_one_back(manager: Path, tmp_path: Path) -> None:
    """Draining one is no licence for the other: the study is refused and the service runs as before."""
    env = {k: v for k, v in os.environ.items() if k != "ASSAY_RUN_ID"}
    other = subprocess.Popen([manager / "llama-server", "60"], env=env)
    try:
        with pytest.raises(UsageError, match=f"pid {other.pid}"), room(tmp_path, drains=("our-engine",)):
            pytest.fail("there was room")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert runs(manager)


@pytest.mark.slow
def test_an_unknown_service_is_refused_before_anything_stops(manager: Path, tmp_path: Path) -> None:
    """A name that no manager knows is a slip, not a licence."""
    with pytest.raises(UsageError), room(tmp_path, drains=("other",)):
        pytest.fail("there was room")
    assert runs(manager)


@pytest.mark.slow
def test_what_a_killed_study_left_down_is_started_by_the_next(
    manager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state file of a guard that is gone is found and mended before anything else."""
    program = str(manager / "systemctl")
    subprocess.run([program, "stop", "our-engine.service"], check=True)
    (tmp_path / FOLDER).mkdir()
    state = {
        "schema": "assay.drain/1",
        "state": "drained",
        "guard_pid": 2**22 + 1,
        "name": "our-engine.service",
        **{
            k: [program, v, "our-engine.service"]
            for k, v in (("active", "is-active"), ("stop", "stop"), ("start", "start"))
        },
        "grace_s": 5.0,
        "command_s": 5.0,
    }
    (tmp_path / FOLDER / "x.drain.json").write_text(json.dumps(state))
    deadline = time.monotonic() + 5
    while runs(manager) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(UsageError, match="runs already"), room(tmp_path):
        pytest.fail("there was room")
    assert runs(manager)
    assert "it runs again" in capsys.readouterr().err


@pytest.mark.slow
def test_a_foreign_listener_is_never_drained(tmp_path: Path) -> None:
    """A port that somebody holds is refused, whatever is named."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not listeners.port_is_free("127.0.0.1", port)
        with pytest.raises(UsageError, match=f"listens on port {port}"), room(tmp_path, port=port):
            pytest.fail("there was room")


@pytest.mark.slow
def test_warned_or_not_looked_at(manager: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever says so measures beside it: told who it is, or without a look."""
    with room(tmp_path, conflicts="warn"):
        assert "llama.cpp runs already" in capsys.readouterr().err
    with room(tmp_path, conflicts="ignore"):
        assert not capsys.readouterr().err
    assert runs(manager)
