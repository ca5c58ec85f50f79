"""Process floor: ports, listeners, and text out of any log."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UsageError
from assay.runtime import guard, listeners, logs, process


@pytest.fixture
def listener() -> socket.socket:
    """A socket of this process that listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_a_free_port_is_free() -> None:
    """What is handed out can be listened on."""
    assert listeners.port_is_free("127.0.0.1", listeners.free_port())


def test_a_taken_port_names_its_owner(listener: socket.socket) -> None:
    """Our own listener is seen as taken and as ours."""
    port = listener.getsockname()[1]
    assert not listeners.port_is_free("127.0.0.1", port)
    assert listeners.listener_pids(port) == (os.getpid(),)
    assert listeners.owns_listener(os.getpid(), port)
    assert not listeners.owns_listener(os.getppid() or 1, port) or os.getpid() in {
        p.pid for p in listeners.tree(os.getppid())
    }


def test_an_address_that_is_not_ours_is_a_usage_error() -> None:
    """A host of another machine cannot be listened on."""
    with pytest.raises(UsageError, match="cannot listen there"):
        listeners.port_is_free("192.0.2.1", 8000)


def test_a_pid_is_known_with_its_start_time() -> None:
    """The same pid with another start time is another process."""
    ticks = guard.start_ticks(os.getpid())
    assert process.alive(os.getpid(), ticks)
    assert not process.alive(os.getpid(), ticks + 1)
    assert not process.alive(None, ticks)
    assert not process.alive(2**22 + 1, 0)


def test_a_progress_bar_leaves_only_its_last_state(tmp_path: Path) -> None:
    """A thousand rewritten lines are one line of the tail."""
    log = tmp_path / "log"
    log.write_bytes(b"start\r\n" + b"".join(b"\rload %d%%" % i for i in range(100)) + b"\nend\n")
    assert logs.log_tail(log) == "start\nload 99%\nend"


def test_no_log_is_no_text(tmp_path: Path) -> None:
    """A server that never wrote has an empty tail."""
    assert logs.log_tail(tmp_path / "none") == ""
    assert logs.log_text(tmp_path / "none") == ""


@given(data=st.binary(max_size=2000), offset=st.integers(0, 3000))
def test_any_bytes_give_a_tail(tmp_path_factory: pytest.TempPathFactory, data: bytes, offset: int) -> None:
    """Logs of vendors are not always text."""
    log = tmp_path_factory.getbasetemp() / "any.log"
    log.write_bytes(data)
    tail = logs.log_tail(log, offset, lines=5, limit_bytes=100)
    assert len(tail.split("\n")) <= 5
    assert isinstance(logs.log_text(log, min(offset, len(data)), limit_bytes=500), str)
    tail.encode()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": "other/1"}', b"\xff"])
def test_a_broken_status_file_is_no_status(tmp_path: Path, content: bytes) -> None:
    """Half a status never stands for a run."""
    path = tmp_path / "status.json"
    path.write_bytes(content)
    assert process.read_status(path) is None
