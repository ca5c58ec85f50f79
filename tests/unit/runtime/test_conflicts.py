"""What stands in the way of a server: foreign listeners, managed services, other engines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UsageError
from assay.runtime import conflicts
from assay.runtime.process import MARK

RECORDED = Path(__file__).parents[2] / "recorded" / "conflicts"


def text(name: str) -> str:
    """A recorded output."""
    return (RECORDED / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "unit", "manager"),
    [
        ("cgroup-v2-system.txt", "ollama.service", "systemd"),
        ("cgroup-v1-system.txt", "vllm@qwen3.service", "systemd"),
        ("cgroup-v2-user.txt", "vllm.service", "systemd-user"),
        ("cgroup-v2-terminal.txt", "", ""),
        ("cgroup-v2-login.txt", "", ""),
        ("cgroup-v2-container.txt", "", ""),
        ("cgroup-here.txt", "", ""),
    ],
)
def test_the_unit_that_holds_a_process(file: str, unit: str, manager: str) -> None:
    """A service is told from a login, a terminal and a container: only a service can be drained."""
    assert conflicts.unit_of(text(file)) == (unit, manager)


def test_running_units_of_engines() -> None:
    """By whole words of the unit's name, and only while it runs."""
    found = list(conflicts.running_units(text("systemctl-list-units.txt")))
    assert found == ["ollama.service", "vllm@qwen3.service", "llama-server.service"]


def test_jobs_of_launchd() -> None:
    """Process and label, also of those that do not run; a label may hold a blank."""
    found = list(conflicts.launchd_jobs(text("launchctl-list.txt")))
    assert (812, "com.ollama.ollama") in found
    assert (None, "com.example.provider") in found
    assert (4711, "com.example.llama server") in found
    assert len(found) == 4


@pytest.mark.parametrize(
    ("line", "engine"),
    [
        ("llama-server -m x.gguf", "llama.cpp"),
        ("/opt/llama/bin/llama-server --port 80", "llama.cpp"),
        ("python3 -m vllm.entrypoints.openai.api_server --model x", "vLLM"),
        ("/env/bin/python /env/bin/vllm serve org/model", "vLLM"),
        ("/env/bin/python /env/bin/vllm bench serve", "vLLM"),
        ("python -m sglang.launch_server --model-path x", "SGLang"),
        ("ollama serve", "Ollama"),
        ("ollama run llama3", ""),
        ("mlx_lm.server --model x", "MLX-LM"),
        ("trtllm-serve x", "TensorRT-LLM"),
        ("/env/bin/python /env/bin/transformers serve x", "transformers"),
        ("transformers chat x", ""),
        ("assay run tune-vllm.yaml", ""),
        ("python tune.py vllm serve", ""),
        ("tail -f llama-server", ""),
        ("grep serve vllm", ""),
        ("python", ""),
        ("", ""),
    ],
)
def test_an_engine_by_its_command_line(line: str, engine: str) -> None:
    """The program decides, not a word somewhere: a tuner is not mistaken for what it tunes."""
    assert conflicts.engine_of(line.split()) == engine


@given(data=st.text(max_size=200), argv=st.lists(st.text(max_size=20), max_size=5))
def test_any_output_is_read(data: str, argv: list[str]) -> None:
    """No output of a manager and no command line leads to an exception."""
    conflicts.unit_of(data)
    list(conflicts.running_units(data))
    list(conflicts.launchd_jobs(data))
    conflicts.engine_of(argv)


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that another process of ours listens on."""
    script = (
        "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield int(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_foreign_listener_is_named_and_left_alone(listener: int) -> None:
    """The refusal says who it is and on which port; the process goes on."""
    with pytest.raises(UsageError, match=f"listens on port {listener}") as refused:
        conflicts.require_none(listener)
    assert refused.value.exit_code == 2
    with socket.create_connection(("127.0.0.1", listener), timeout=2):
        pass


def test_our_own_listener_is_none(listener: int) -> None:
    """What Assay started itself does not stand in its way."""
    pids = {c.pid for c in conflicts.find(listener) if c.kind == "listener" and c.pid}
    assert [c for c in conflicts.find(listener, ours=pids) if c.kind == "listener"] == []


def test_an_engine_that_runs_is_found_unless_assay_started_it(tmp_path: Path) -> None:
    """A server in another terminal is named; one of a study is known by its mark."""
    program = tmp_path / "llama-server"
    program.symlink_to("/bin/sleep")
    for mark, found in (({}, True), ({MARK: "x"}, False)):
        child = subprocess.Popen([program, "30"], env={**os.environ, **mark})
        try:
            deadline = time.monotonic() + 5
            names = {c.pid: c.what for c in conflicts.find()}
            while (child.pid in names) is not found and time.monotonic() < deadline:
                names = {c.pid: c.what for c in conflicts.find()}
            assert (child.pid in names) is found
            if found:
                assert names[child.pid].startswith("llama.cpp runs already: pid ")
                with pytest.raises(UsageError, match=r"llama\.cpp runs already"):
                    conflicts.require_none()
            assert child.poll() is None
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def test_a_service_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a manager holds can be drained: the message says by which word."""
    unit = conflicts.Conflict("service", "systemd runs a.service", None, "a.service")
    monkeypatch.setattr(conflicts, "find", lambda port, ours: (unit,))
    with pytest.raises(UsageError, match=r"systemd runs a\.service.*--drain a\.service"):
        conflicts.require_none()
