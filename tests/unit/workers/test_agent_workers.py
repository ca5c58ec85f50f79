"""The prompt agent and the judge, against a real server that answers, refuses, talks nonsense or is not there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.agent import AgentCommand, AgentOutcome
from assay.core.suite import Fixture, Task, Verifier
from assay.readers.texts import read_text
from assay.runtime.agents import AgentRunner
from assay.workers.judge import COULD_NOT_JUDGE, FAIL, PASS, Judgement, parse_judgement

pytestmark = pytest.mark.slow

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


class Server:
    """An OpenAI-compatible server that answers as told."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answer: Answer = lambda body: said("ok")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.keys.append(self.headers.get("Authorization", ""))
                status, data = outer.answer(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


def said(text: str, **more: Any) -> tuple[int, bytes]:
    """A chat completion."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    return 200, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage, **more}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    """One server for a test."""
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever)
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


TASK = Task(
    task_id="t",
    prompt="What is red?",
    verifier=Verifier(equals=(Fixture(path="answer.txt", content="A colour."),)),
)


def prompted(tmp_path: Path, url: str, text: str = "Be brief.", **more: Any) -> Any:
    """One run of the preset `prompt`."""
    path = tmp_path / "prompt.md"
    path.write_text(text)
    made = AgentCommand(preset="prompt", base_url=url, model="m", isolation="none", retries=0, **more)
    return AgentRunner(made, read_text(path), tmp_path / "work").run(
        TASK, text, arm="baseline", rep=1, seed=11
    )


def test_the_text_is_the_system_message(tmp_path: Path, server: Server) -> None:
    """The answer is in answer.txt, tokens and price are counted, the seed is passed on."""
    server.answer = lambda body: said("A colour.")
    run = prompted(tmp_path, server.url, options={"input_price": 2.0, "output_price": 4, "temperature": 0.5})
    assert (run.outcome, run.said) == (AgentOutcome.PASS, "A colour.")
    assert (run.input_tokens, run.output_tokens, run.cost) == (1000, 500, pytest.approx(0.004))
    assert server.asked[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is red?"},
    ]
    assert (server.asked[0]["seed"], server.asked[0]["temperature"]) == (11, 0.5)


def test_the_text_is_a_template(tmp_path: Path, server: Server) -> None:
    """The task takes the place of {task}; without prices the cost is unknown."""
    run = prompted(tmp_path, server.url, "Q: {task}\nA:", options={"as": "template"})
    assert run.outcome is AgentOutcome.TASK_FAIL
    assert run.cost is None
    assert server.asked[0]["messages"] == [{"role": "user", "content": "Q: What is red?\nA:"}]


def test_the_key_goes_by_name(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is sent where `env` names it, and not otherwise."""
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    prompted(tmp_path, server.url)
    prompted(tmp_path, server.url, env=("OPENAI_API_KEY",))
    assert server.keys == ["", "Bearer k1"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((429, b'{"error": "slow down"}'), AgentOutcome.INFRA_ERROR),
        ((500, b"oops"), AgentOutcome.INFRA_ERROR),
        ((401, b"no key"), AgentOutcome.INFRA_ERROR),
        ((404, b"no such model"), AgentOutcome.INFRA_ERROR),
        ((400, b"context length exceeded"), AgentOutcome.AGENT_ERROR),
        ((200, b"\xff\xfe"), AgentOutcome.INFRA_ERROR),
        ((200, b"[]"), AgentOutcome.INFRA_ERROR),
        ((200, b'{"choices": []}'), AgentOutcome.INFRA_ERROR),
        ((200, b'{"choices": [{"message": {"content": null}}], "usage": 3}'), AgentOutcome.INFRA_ERROR),
    ],
)
def test_whose_fault_it_is(
    tmp_path: Path, server: Server, answer: tuple[int, bytes], outcome: AgentOutcome
) -> None:
    """A server's failure says nothing about a text; a request that is refused for its content may."""
    server.answer = lambda body: answer
    assert prompted(tmp_path, server.url).outcome is outcome


def test_nobody_listens(tmp_path: Path) -> None:
    """An infra error, with the reason."""
    run = prompted(tmp_path, f"http://127.0.0.1:{closed_port()}/v1")
    assert run.outcome is AgentOutcome.INFRA_ERROR
    assert "refused" in run.reason


# -- judge ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ('{"verdict": "pass", "reason": "good"}', Judgement(True, "good")),
        ('```json\n{"verdict": "FAIL", "reason": "{no}"}\n```', Judgement(False, "{no}")),
        ('I think so. {"verdict": " pass "}', Judgement(True, "")),
        ('{"verdict": "pass"} {"verdict": "fail"}', None),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": 0.5}', None),
        ('{"verdict": true}', None),
        ('{"score": 1}', None),
        ("pass", None),
        ("", None),
        ('{"verdict": "pass"', None),
        ("{" * 50_000, None),
    ],
)
def test_replies_of_a_judge(reply: str, found: Judgement | None) -> None:
    """One verdict, or none: never half a point."""
    assert parse_judgement(reply) == found


@given(reply=st.text())
def test_any_reply_is_survived(reply: str) -> None:
    """Text without a verdict is no verdict."""
    if "verdict" not in reply:
        assert parse_judgement(reply) is None


def judged(
    tmp_path: Path, url: str, *more: str, answer: str | None = "the work"
) -> subprocess.CompletedProcess[str]:
    """Run the judge as a verifier does."""
    (tmp_path / "rubric.md").write_text("Is it good?")
    if answer is not None:
        (tmp_path / "answer.txt").write_text(answer)
    where = ("--rubric", "rubric.md", "--answer", "answer.txt", "--backoff-s", "0.01")
    command = (
        sys.executable,
        "-P",
        "-m",
        "assay.workers.judge",
        "--base-url",
        url,
        "--model",
        "m",
        *where,
        *more,
    )
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)


def test_pass_and_fail(tmp_path: Path, server: Server) -> None:
    """Exit codes 0 and 1, with the reason."""
    server.answer = lambda body: said('{"verdict": "pass", "reason": "fine"}')
    good = judged(tmp_path, server.url)
    assert (good.returncode, good.stdout) == (PASS, "fine\n")
    server.answer = lambda body: said('{"verdict": "fail", "reason": "poor"}')
    assert judged(tmp_path, server.url).returncode == FAIL
    messages = server.asked[0]["messages"]
    mark = messages[1]["content"].splitlines()[0]
    assert messages[1]["content"] == f"{mark}\nthe work\n{mark}"
    assert mark in messages[0]["content"]
    assert "Is it good?" in messages[0]["content"]


def test_unreadable_verdicts_are_asked_for_again(tmp_path: Path, server: Server) -> None:
    """A second reply may be readable; none at all is 75."""
    replies = iter(["hm", '{"verdict": "pass"}'])
    server.answer = lambda body: said(next(replies))
    assert judged(tmp_path, server.url).returncode == PASS
    server.answer = lambda body: said("hm")
    none = judged(tmp_path, server.url, "--retries", "1")
    assert none.returncode == COULD_NOT_JUDGE
    assert "no readable verdict" in none.stdout
    assert len(server.asked) == 4


def test_failures_of_the_judge_are_no_failures_of_the_work(tmp_path: Path, server: Server) -> None:
    """No server, a refused request, a missing rubric, wrong arguments: 75. A missing answer: 1."""
    nobody = f"http://127.0.0.1:{closed_port()}/v1"
    assert judged(tmp_path, nobody, "--retries", "0").returncode == COULD_NOT_JUDGE
    server.answer = lambda body: (400, b"x")
    assert judged(tmp_path, server.url, "--retries", "0").returncode == COULD_NOT_JUDGE
    assert judged(tmp_path, server.url, "--nonsense").returncode == COULD_NOT_JUDGE
    assert judged(tmp_path, server.url, "--rubric", "none.md").returncode == COULD_NOT_JUDGE
    (tmp_path / "answer.txt").unlink()
    assert judged(tmp_path, server.url, answer=None).returncode == FAIL


def test_no_defect_of_the_judge_fails_the_work(tmp_path: Path, server: Server) -> None:
    """A reason that no terminal can print, and a file that cannot be read, are no verdict against the work."""
    server.answer = lambda body: said('{"verdict": "pass", "reason": "half \\ud800"}')
    assert judged(tmp_path, server.url).returncode == PASS
    assert judged(tmp_path, server.url, "--rubric", "rub\udcff.md").returncode == COULD_NOT_JUDGE
    assert judged(tmp_path, "http://[", "--retries", "0").returncode == COULD_NOT_JUDGE


def test_the_judge_tells_what_all_its_requests_cost(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the prices given; unknown without prices or tokens, and nothing where nobody answered."""
    bill = tmp_path / "bill.json"
    monkeypatch.setenv("ASSAY_JUDGE_RESULT", str(bill))
    prices = ("--input-price", "2", "--output-price", "4")

    def told(*more: str) -> Any:
        bill.unlink(missing_ok=True)
        code = judged(tmp_path, server.url, *more).returncode
        return code, json.loads(bill.read_text())["cost_usd"] if bill.exists() else "nothing"

    replies = iter(["hm", '{"verdict": "pass"}'])
    server.answer = lambda body: said(next(replies))
    assert told(*prices) == (PASS, pytest.approx(2 * (1000 * 2 + 500 * 4) / 1e6))
    server.answer = lambda body: said('{"verdict": "fail"}')
    assert told() == (FAIL, None)
    server.answer = lambda body: said('{"verdict": "fail"}', usage={"prompt_tokens": -5})
    assert told(*prices) == (FAIL, None)
    server.answer = lambda body: (503, b"")
    assert told(*prices, "--retries", "0") == (COULD_NOT_JUDGE, "nothing")
    monkeypatch.setenv("ASSAY_JUDGE_RESULT", str(tmp_path / "no" / "bill.json"))
    server.answer = lambda body: said('{"verdict": "pass"}')
    assert judged(tmp_path, server.url).returncode == COULD_NOT_JUDGE, "a cost that cannot be told is not 0"


def test_what_the_agent_left_is_not_loaded(tmp_path: Path, server: Server) -> None:
    """A module in the judged folder does not take the judge's place."""
    (tmp_path / "assay").mkdir()
    (tmp_path / "assay" / "__init__.py").write_text("import sys; sys.exit(0)")
    (tmp_path / "json.py").write_text("import sys; sys.exit(0)")
    server.answer = lambda body: said('{"verdict": "fail"}')
    assert judged(tmp_path, server.url).returncode == FAIL


def test_a_judge_as_verifier(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: the key reaches the judge by name, and a judge that is down is an infra error."""
    monkeypatch.setenv("JUDGE_KEY", "jk")
    path = tmp_path / "rules.txt"
    path.write_text("x")
    command = ("{python}", "-P", "-m", "assay.workers.judge", "--base-url", server.url, "--model", "j")
    more = ("--rubric", "rubric.md", "--answer", "answer.txt", "--key-env", "JUDGE_KEY", "--retries", "0")
    task = Task(
        task_id="t",
        prompt="p",
        verifier=Verifier(command=(*command, *more), files=(Fixture(path="rubric.md", content="r"),)),
    )
    made = AgentCommand(
        command=("sh", "-c", "echo done > answer.txt"),
        isolation="none",
        retries=0,
        options={"verifier_env": ["JUDGE_KEY"]},
    )
    runner = AgentRunner(made, read_text(path), tmp_path / "work")
    server.answer = lambda body: said('{"verdict": "pass"}')
    assert runner.run(task, "x", arm="a", rep=1, seed=1).passed
    assert server.keys == ["Bearer jk"]
    server.answer = lambda body: (503, b"")
    down = runner.run(task, "x", arm="a", rep=2, seed=1)
    assert (down.outcome, down.score) == (AgentOutcome.INFRA_ERROR, None)
    assert "503" in down.reason
    assert os.environ["JUDGE_KEY"] not in str(down.to_json())
