"""The simulated engine as a process: it is as fast as its truth says, and fails as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from assay.core.load import PointPlan, Workload
from assay.core.vocabulary import FailureClass
from assay.load.client import LoadClient, LoadTarget
from assay.runtime import signatures
from assay.testing.engine import MODES, QUIRKS, command, main
from assay.testing.truth import Truth

BASE = [sys.executable, "-m", "assay.testing.engine", "--port", "0"]


def started(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A running engine and its address."""
    process = subprocess.Popen([*BASE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[2]


def ended(process: subprocess.Popen[str]) -> str:
    """End it; returns what it said on stderr."""
    process.terminate()
    _, said = process.communicate(timeout=10)
    return said


@pytest.mark.parametrize(("flavour", "words"), [("llama_cpp", "KV cache"), ("vllm", "out of memory")])
def test_out_of_memory_at_load_reads_like_the_real_one(flavour: str, words: str) -> None:
    """Exit code 1, and a log that Assay's signatures know as infeasible."""
    done = subprocess.run(
        [*BASE, "--memory-bytes", "1000000", "--flavour", flavour],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    found = signatures.find(done.stderr)
    assert found is not None
    assert found.failure_class is FailureClass.POINT_INFEASIBLE
    assert words in found.what


def test_it_dies_out_of_memory_while_it_runs() -> None:
    """After so many answers, with the log of it."""
    process, url = started("--ttft-ms", "0", "--oom-after", "1", "--flavour", "vllm")
    httpx.post(f"{url}/completions", json={"prompt": "a", "max_tokens": 2}, timeout=5)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "CUDA out of memory" in said


def test_slow_start_and_wrong_model() -> None:
    """503 until it is ready; another id in its list."""
    process, url = started("--ready-after-s", "0.5", "--mode", "wrong_model")
    try:
        assert httpx.get(f"{url.removesuffix('/v1')}/health").status_code == 503
        for _ in range(100):
            if httpx.get(f"{url}/models").status_code == 200:
                break
        else:
            pytest.fail("never ready")
        assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "another-model"
    finally:
        ended(process)


def test_launches_are_counted_for_noise_between_them(tmp_path: Path) -> None:
    """Each start is another launch of the same machine."""
    state = tmp_path / "state.json"
    for expected in (1, 2):
        ended(started("--state", str(state))[0])
        assert json.loads(state.read_text()) == {"launches": expected}


def test_it_ends_at_once_and_quietly() -> None:
    """SIGTERM with a request under way: exit code 0, nothing on stderr."""
    process, url = started("--mode", "hangs")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/completions", json={"prompt": "a"}, timeout=0.2)
    assert ended(process) == ""
    assert process.returncode == 0


def test_answers_without_stream_are_documents() -> None:
    """As a readiness check asks for them."""
    process, url = started()
    try:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
        answer = httpx.post(f"{url}/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"].split() == ["time", "people", "way"]
        assert answer["usage"]["completion_tokens"] == 3
        assert httpx.post(f"{url}/chat/completions", content=b"{").status_code == 400
        assert httpx.get(f"{url}/nothing").status_code == 404
    finally:
        ended(process)


def test_unknown_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the usual exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", "--quirks", "nonsense"])
    assert caught.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_its_command_is_a_template() -> None:
    """For the serve kind `command`."""
    made = command(slots=2, quirks=["crlf", "close"], prefix_cache=True)
    assert made[1:4] == ("-m", "assay.testing.engine", "--model")
    assert "{port}" in made
    assert "crlf,close" in made
    assert made[-1] == "--prefix-cache"


def test_every_quirk_and_mode_is_told() -> None:
    """A sentence each."""
    assert all(text for text in (*QUIRKS.values(), *MODES.values()))


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "concurrency"), [(1, 1), (4, 4), (4, 8), (8, 4)])
def test_measured_throughput_is_the_truth(slots: int, concurrency: int) -> None:
    """The client's figure within 6 % of the closed form."""
    process, url = started("--slots", str(slots))
    try:
        workload = Workload.model_validate({"prompt_tokens": 100, "output_tokens": 40})
        plan = PointPlan.model_validate(
            {"arrivals": {"concurrency": concurrency}, "requests": 20 * concurrency}
        )
        with LoadClient(LoadTarget(url), workload) as client:
            point, _ = client.measure(plan)
    finally:
        ended(process)
    assert point.output_tps == pytest.approx(
        Truth(slots=slots).throughput_tps(100, 40, concurrency), rel=0.06
    )
