"""The contract of the `serve` port: every adapter's manners, and the whole life of a server."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import assay.adapters.serve
from assay.adapters.serve import command, openai
from assay.core.canon import digest
from assay.core.errors import AssayError, ComponentFailed, UsageError
from assay.core.ports import Component, Endpoint, Target
from assay.core.vocabulary import FailureClass
from assay.runtime import listeners, process
from assay.testing import servers
from assay.testing.session import RecordingSession, make_session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "release" / "model"
KINDS = sorted(
    p.stem for p in Path(assay.adapters.serve.__file__).parent.glob("*.py") if p.stem != "__init__"
)
OPTIONS: dict[str, dict[str, Any]] = {
    "command": {"command": ("server", "{port}")},
    "openai": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
}
TARGET = Target(name="candidate", path="/tmp")


def adapter_of(kind: str, **options: Any) -> Any:
    """An adapter with the options that its kind cannot do without."""
    module: Any = importlib.import_module(f"assay.adapters.serve.{kind}")
    return module.Adapter(module.Options(**{**OPTIONS.get(kind, {}), **options}))


def fake(mode: str, delay_s: float = 0.0, **options: Any) -> command.Adapter:
    """The `command` adapter over the fake server."""
    wanted = {"ready_timeout_s": 20.0, **options}
    return command.Adapter(command.Options(command=servers.command(mode, delay_s), **wanted))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[RecordingSession]:
    """A session; when the test ends nothing that it started may be left."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield make_session(tmp_path)
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    for item in left:
        item.kill()
    assert not left


def port_of(endpoint: Endpoint) -> int:
    """The port of an endpoint."""
    return int(endpoint.base_url.rsplit(":", 1)[1].removesuffix("/v1"))


def is_open(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(endpoint: Endpoint, prompt: str) -> str:
    """One greedy answer."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 8,
        "temperature": 0,
    }
    with httpx.Client(trust_env=False, timeout=60) as http:
        answer = http.post(f"{endpoint.base_url}/chat/completions", json=body)
    return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])


def failure(adapter: command.Adapter, session: RecordingSession, target: Target = TARGET) -> AssayError:
    """The error with which serving ends."""
    with pytest.raises(AssayError) as caught, adapter.serve(target, session):
        time.sleep(0.3)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_how_it_stands_and_what_must_be_equal(kind: str) -> None:
    """`check` gives a component, `protocol` the same plain JSON each time, both without starting anything."""
    adapter = adapter_of(kind)
    found = adapter.check()
    assert isinstance(found, Component)
    assert (found.verb, found.kind) == ("serve", kind)
    assert found.state in ("ready", "missing", "unsupported", "broken")
    assert found.detail or found.state == "ready"
    assert digest(dict(adapter.protocol())) == digest(dict(adapter_of(kind).protocol()))
    assert "engine" in adapter.protocol()


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_explained(kind: str) -> None:
    """A docstring stands under each field, and every kind says what it is."""
    module: Any = importlib.import_module(f"assay.adapters.serve.{kind}")
    source = Path(module.__file__).read_text()
    assert module.__doc__.startswith(f"Kind `{kind}`")
    own = module.Options.__annotations__
    for name in own:
        after = source.split(f"\n    {name}: ", 1)[1]
        assert '\n    """' in after.split("\n    def ")[0][:400], name


def test_checking_imports_no_vendor() -> None:
    """`assay doctor` must answer quickly: versions come from metadata."""
    script = f"""
import importlib, sys
for kind in {KINDS!r}:
    module = importlib.import_module("assay.adapters.serve." + kind)
    adapter = module.Adapter(module.Options(**{OPTIONS!r}.get(kind, {{}})))
    adapter.check(), adapter.protocol()
heavy = {{"torch", "transformers", "vllm", "sglang", "xllamacpp", "gguf", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_server_lives_as_long_as_the_block(session: RecordingSession) -> None:
    """It answers inside; afterwards the port is closed and the log is kept."""
    with fake("ok").serve(TARGET, session) as endpoint:
        assert endpoint.model == "candidate"
        assert ask(endpoint, "Add 12 and 5.") == "17"
    assert not is_open(port_of(endpoint))
    assert "fake server: ok" in (session.workdir / "server.log").read_text()
    assert any("ready after" in message for message, _ in session.notes)


def test_an_error_inside_the_block_ends_the_server_and_goes_on(session: RecordingSession) -> None:
    """The harness's own failure is not hidden."""
    with pytest.raises(ZeroDivisionError), fake("ok").serve(TARGET, session) as endpoint:
        raise ZeroDivisionError
    assert not is_open(port_of(endpoint))


def test_a_server_that_loads_slowly_is_waited_for(session: RecordingSession) -> None:
    """503 on an open port is not readiness."""
    with fake("slow", 1.0).serve(TARGET, session) as endpoint:
        assert ask(endpoint, "1 2") == "3"


@pytest.mark.parametrize("mode", ["lists_nothing", "completions_only"])
def test_servers_with_routes_missing_are_still_ready(mode: str, session: RecordingSession) -> None:
    """No list of models, or no chat template: the token decides."""
    with fake(mode).serve(TARGET, session) as endpoint:
        assert is_open(port_of(endpoint))


def test_a_server_of_another_model_is_refused_with_both_ids(session: RecordingSession) -> None:
    """Otherwise the wrong model would be measured."""
    error = failure(fake("wrong_model"), session)
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED
    assert "another-model" in error.what
    assert "candidate" in error.what


def test_a_server_that_dies_while_loading_is_told_at_once_with_its_cause(session: RecordingSession) -> None:
    """Nobody waits for the time-out of a dead server."""
    started = time.monotonic()
    error = failure(fake("dies_while_loading", 0.2, ready_timeout_s=60), session)
    assert time.monotonic() - started < 20
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.POINT_INFEASIBLE
    assert "out of memory" in error.what
    assert "CUDA out of memory" in error.log_tail
    assert "server.log" in str(error)


def test_a_server_killed_without_a_word_is_not_called_out_of_memory(session: RecordingSession) -> None:
    """SIGKILL has many senders."""
    error = failure(fake("dies_silently"), session)
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.INFRA_TRANSIENT
    assert "memory" not in error.what


def test_a_server_that_dies_in_use_is_the_cause_of_what_follows(session: RecordingSession) -> None:
    """The harness's broken connection is only the consequence."""

    def use() -> None:
        with fake("dies_after_ready").serve(TARGET, session) as endpoint:
            assert until(lambda: not is_open(port_of(endpoint)), 5.0)
            ask(endpoint, "1 2")

    with pytest.raises(ComponentFailed, match="while it was used") as caught:
        use()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize("mode", ["never_ready", "never_listens"])
def test_a_server_that_is_never_ready_is_given_up(mode: str, session: RecordingSession) -> None:
    """After the limit, with what it said last."""
    error = failure(fake(mode, ready_timeout_s=1.0), session)
    assert "not ready after 1 s" in str(error)
    assert "ready_timeout_s" in error.next


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "told"), [("http_500", "answered 500"), ("empty_token", "without any text")]
)
def test_health_is_not_believed_without_a_token(mode: str, told: str, session: RecordingSession) -> None:
    """A server may say 200 on /health and answer nothing."""
    error = failure(fake(mode), session)
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED
    assert told in error.what


def test_the_budget_limits_the_waiting(tmp_path: Path) -> None:
    """A study out of time does not wait for a server."""
    session = make_session(tmp_path, limit_s=1.0)
    assert "not ready after" in str(failure(fake("never_ready", ready_timeout_s=300), session))


def test_a_taken_port_names_its_owner_who_is_left_alone(session: RecordingSession) -> None:
    """Whatever listens there is somebody else's."""
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        error = failure(fake("ok", port=port), session)
        assert isinstance(error, UsageError)
        assert f"port {port} is taken" in error.what
        assert f"pid {os.getpid()}" in error.what
        assert is_open(port)


def test_a_port_that_is_lost_between_choice_and_start_is_chosen_again(session: RecordingSession) -> None:
    """Another process may be faster; three ports are tried, each with a log of its own."""
    error = failure(fake("port_taken"), session)
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.INFRA_TRANSIENT
    assert len(list(session.workdir.glob("server*.log"))) == 3


def test_an_answer_from_somebody_elses_server_is_not_ours(
    session: RecordingSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign server on the very port, with the very model id, does not make ours ready."""
    with fake("ok").serve(TARGET, session) as endpoint:
        other = make_session(tmp_path / "other")
        liar = ("sh", "-c", "sleep 30")
        adapter = command.Adapter(
            command.Options(command=(*liar, "{port}"), port=0, ready_timeout_s=5, model_id="candidate")
        )
        # Between choice and start another process took the port: that moment cannot be met on purpose.
        monkeypatch.setattr(listeners, "free_port", lambda _host: port_of(endpoint))
        error = failure(adapter, other)
        assert "another process listens on this port" in error.what
        assert ask(endpoint, "1 1") == "2"


@pytest.mark.parametrize("mode", ["deaf", "daemonizes"])
@pytest.mark.slow
def test_servers_that_will_not_go_are_killed(mode: str, session: RecordingSession) -> None:
    """SIGTERM, grace, SIGKILL: also for what hid in a session of its own."""
    with fake(mode).serve(TARGET, session) as endpoint:
        assert is_open(port_of(endpoint))
    assert not is_open(port_of(endpoint))


def test_an_endpoint_that_already_runs_is_lent_and_left_alone(
    session: RecordingSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`openai` checks model and token, names the key's variable, never the key, and ends nothing."""
    monkeypatch.setenv("THE_KEY", "sk-do-not-store-me")
    with fake("ok").serve(TARGET, session) as running:
        options = openai.Options(base_url=running.base_url, model="candidate", api_key_env="THE_KEY")
        with openai.Adapter(options).serve(TARGET, make_session(tmp_path / "b")) as endpoint:
            assert ask(endpoint, "2 3") == "5"
        assert "sk-do-not" not in str(endpoint)
        assert endpoint.facts["api_key_env"] == "THE_KEY"
        assert is_open(port_of(running))
        wrong = openai.Options(base_url=running.base_url, model="other")
        with (
            pytest.raises(ComponentFailed, match="it serves 'candidate', not 'other'"),
            openai.Adapter(wrong).serve(TARGET, make_session(tmp_path / "c")),
        ):
            raise AssertionError


HOLDER = """
import importlib, sys, time
from pathlib import Path
from assay.core.ports import Target
from assay.testing import servers
from assay.testing.session import make_session
kind, model, folder = sys.argv[1:4]
module = importlib.import_module("assay.adapters.serve." + kind)
options = {"command": servers.command("daemonizes")} if kind == "command" else {}
with module.Adapter(module.Options(**options)).serve(
    Target(name="m", path=model), make_session(Path(folder))
) as endpoint:
    print(endpoint.base_url, flush=True)
    time.sleep(600)
"""


def until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    "kind",
    [
        "command",
        pytest.param("llama_cpp", marks=pytest.mark.slow),
        pytest.param("transformers", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_its_assay(kind: str, number: int, tmp_path: Path) -> None:
    """Assay is killed while it serves: within 3 s the port is closed and no descendant is left."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, str(MODEL), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert holder.stdout
    url = holder.stdout.readline().strip()
    holder.stdout.close()
    assert url, "the server did not start"
    port = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
    family = psutil.Process(holder.pid).children(recursive=True)
    assert is_open(port)
    assert len(family) >= 2
    holder.send_signal(number)
    holder.wait()
    gone = until(lambda: not is_open(port) and not any(process.runs(p.pid) for p in family), 3.0)
    left = [p for p in family if process.runs(p.pid)]
    for item in left:
        item.kill()
    assert gone, left


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama_cpp", "transformers"])
def test_real_servers_serve_the_demo_model(kind: str, session: RecordingSession) -> None:
    """The shipped model adds, behind a real server that leaves nothing behind."""
    adapter = adapter_of(kind)
    assert adapter.check().state == "ready", adapter.check().detail
    with adapter.serve(Target(name="source", path=str(MODEL)), session) as endpoint:
        assert ask(endpoint, "Add 12 and 5.") == "17"
        assert endpoint.engine == kind
        assert endpoint.engine_version
    assert not is_open(port_of(endpoint))


@pytest.mark.slow
def test_a_real_server_whose_options_clash_says_which(session: RecordingSession) -> None:
    """llama.cpp's own words about a quantized KV cache without flash attention become the user's remedy."""
    adapter = adapter_of("llama_cpp", kv_type="q8_0", flash_attention="off")
    with (
        pytest.raises(ComponentFailed, match="quantized V cache requires flash_attn") as caught,
        adapter.serve(Target(name="source", path=str(MODEL)), session),
    ):
        raise AssertionError
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR
    assert "flash_attention" in caught.value.next


@pytest.mark.slow
def test_a_real_server_that_ignores_the_quantization_is_refused(
    session: RecordingSession, tmp_path: Path
) -> None:
    """Transformers only warns about a quantization that it does not know, and would answer nonsense."""
    folder = tmp_path / "modelopt"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "FP8"}
    (folder / "config.json").write_text(json.dumps(config))
    with (
        pytest.raises(ComponentFailed, match="ignores the quantization") as caught,
        adapter_of("transformers").serve(Target(name="trap", path=str(folder)), session),
    ):
        raise AssertionError
    assert caught.value.failure_class is FailureClass.MODEL_UNSUPPORTED
