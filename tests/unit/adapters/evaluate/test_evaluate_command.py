"""Evaluate kind `command`: any program that leaves results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from assay.adapters.evaluate.command import Adapter, Options
from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.ports import Endpoint, Target
from assay.core.vocabulary import FailureClass, Provenance
from assay.testing.session import make_session

RECORDED = Path(__file__).parents[3] / "recorded" / "results" / "lm_eval_chat"
WRITES = "import json,sys; open(sys.argv[1] + '/scores.json', 'w').write(json.dumps({'arc': 0.5, 'x': len(sys.argv[2])}))"


def served() -> Target:
    """A served candidate."""
    endpoint = Endpoint(
        base_url="http://127.0.0.1:9/v1", model="m", engine="vllm", engine_version="1", facts={"a": 1}
    )
    return Target(name="w4", path="/ckpt", endpoint=endpoint)


def run(tmp_path: Path, *command: str, target: Target | None = None, **more: Any) -> Any:
    """What the adapter makes of a Python one-liner."""
    options = Options(command=(sys.executable, "-c", *command), **more)
    return Adapter(options).evaluate(target or served(), make_session(tmp_path))


def test_placeholders_are_filled_and_results_read(tmp_path: Path) -> None:
    """The command gets its folder and the endpoint; what it says of itself is self-reported."""
    results = run(tmp_path, WRITES, "{out}", "{base_url}", results="scores.json")
    assert [(t.task, t.score) for t in results.tasks] == [("arc", 0.5), ("x", 21.0)]
    assert results.provenance is Provenance.SELF_REPORTED
    assert results.protocol["serve.a"] == 1
    assert results.subject == "w4"


def test_a_glob_finds_a_named_harness(tmp_path: Path) -> None:
    """A known harness below the folder is read as its own, with the counts that were asked for."""
    copy = f"import shutil,sys; shutil.copytree({str(RECORDED)!r}, sys.argv[1] + '/run-7')"
    results = run(tmp_path, copy, "{out}", results="run-*", harness="lm_eval", expected={"skills_add": 350})
    assert results.harness == "lm_eval"
    assert results.task("skills_add").expected == 350


@pytest.mark.parametrize(
    ("code", "results", "said"),
    [
        ("import sys; sys.exit(3)", ".", "exit code 3"),
        ("pass", "scores.json", "no such file"),
        ("import sys; open(sys.argv[1] + '/s.json', 'w').write('{')", "s.json", "no JSON"),
        ("pass", "*.json", "0 files match"),
    ],
)
def test_failures_say_what_happened(tmp_path: Path, code: str, results: str, said: str) -> None:
    """Exit codes, absent and unreadable results."""
    with pytest.raises(ComponentFailed, match=said):
        run(tmp_path, code, "{out}", results=results)


def test_an_endpoint_that_is_named_must_be_served(tmp_path: Path) -> None:
    """`{base_url}` without a server is the spec's mistake; without it no server is needed."""
    unserved = Target(name="w4", path="/ckpt")
    with pytest.raises(ComponentFailed) as caught:
        run(tmp_path, WRITES, "{out}", "{base_url}", target=unserved)
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR
    assert run(tmp_path, WRITES, "{out}", "{path}", target=unserved, results="scores.json").tasks


def test_time_limits_end_it(tmp_path: Path) -> None:
    """The class is the budget's."""
    with pytest.raises(ComponentFailed) as caught:
        run(tmp_path, "import time; time.sleep(60)", timeout_s=0.4)
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED


def test_check_and_missing_programs(tmp_path: Path) -> None:
    """A program that is not there is missing before and while it runs."""
    adapter = Adapter(Options(command=("no-such-harness",)))
    assert adapter.check().state == "missing"
    assert Adapter(Options(command=(sys.executable,))).check().state == "ready"
    with pytest.raises(ComponentMissing):
        adapter.evaluate(served(), make_session(tmp_path))
    assert adapter.protocol()["command"] == "no-such-harness"
