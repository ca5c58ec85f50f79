"""Evaluate kind `lm_eval`: its command, what its failures become, and one real run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assay.adapters.evaluate.lm_eval import Adapter, Options
from assay.core.errors import ComponentFailed, ComponentMissing
from assay.core.ports import Endpoint, Target
from assay.core.results import SampleState
from assay.core.vocabulary import FailureClass, Status
from assay.gates.results import ResultsGate
from assay.testing.session import make_session

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parents[3] / "recorded" / "results" / "lm_eval_chat"
DATA = [{"question": f"Add {a} and {a + 1}.", "answer": str(2 * a + 1)} for a in range(40)]
YAML = """\
task: sums
dataset_path: json
dataset_kwargs:
  data_files:
    test: data/sums.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
generation_kwargs: {until: ["<|end|>"], max_gen_toks: 32, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


def target(base_url: str = "http://127.0.0.1:9/v1") -> Target:
    """A served candidate."""
    facts = {"dtype": "bfloat16", "context": {"tokens": 128}}
    return Target(
        name="w4",
        path="/nowhere",
        endpoint=Endpoint(base_url=base_url, model="a/b c", engine="stub", engine_version="1", facts=facts),
    )


def interpreter(tmp_path: Path, body: str) -> str:
    """A stand-in for the interpreter that has lm-eval: it gets the arguments of `python`."""
    program = tmp_path / "python-with-lm-eval"
    program.write_text(
        f"#!{sys.executable}\nimport json, pathlib, shutil, sys, time\n{textwrap.dedent(body)}"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def tasks_folder(tmp_path: Path) -> Path:
    """A folder of tasks whose YAML names its data relative to itself."""
    folder = tmp_path / "tasks"
    (folder / "data").mkdir(parents=True)
    (folder / "sums.yaml").write_text(YAML)
    (folder / "data" / "sums.jsonl").write_text("".join(json.dumps(d) + "\n" for d in DATA))
    return folder


COPIES = f"""
    out = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1]) / "model"
    pathlib.Path("argv.json").write_text(json.dumps(sys.argv[1:]))
    for n in (0, 20, 40):
        print(f"Requesting API:  {{n}}%|##  | {{n}}/40 [00:01<00:01, 9.9it/s]", end="\\r", flush=True)
        time.sleep(0.6)
    shutil.copytree({str(RECORDED)!r}, out)
"""


def test_the_command_and_what_becomes_of_its_files(tmp_path: Path) -> None:
    """Options become flags, progress becomes notes, the server's facts join the protocol."""
    options = Options(
        tasks=("skills_add", "skills_tool"),
        num_fewshot=2,
        gen_kwargs={"temperature": 0.5},
        limit=4,
        model_args={"max_length": 99},
        expected={"skills_add": 350},
        python=interpreter(tmp_path, COPIES),
    )
    session = make_session(tmp_path)
    results = Adapter(options).evaluate(target(), session)
    arguments = json.loads((session.workdir / "argv.json").read_text())
    given = dict(itertools.pairwise(arguments))
    assert arguments[:3] == ["-m", "lm_eval", "run"]
    assert given["--model"] == "local-chat-completions"
    assert given["--tasks"] == "skills_add,skills_tool"
    assert (given["--num_fewshot"], given["--limit"]) == ("2", "4")
    assert json.loads(given["--gen_kwargs"]) == {"temperature": 0.5}
    model_args = json.loads(given["--model_args"])
    assert model_args["base_url"] == "http://127.0.0.1:9/v1/chat/completions"
    assert (model_args["model"], model_args["max_length"]) == ("a/b c", 99)
    assert {"--log_samples", "--apply_chat_template"} <= set(arguments)
    assert ("20 of 40 answers", 0.5) in session.notes
    assert results.subject == "w4"
    assert results.protocol["engine"] == "stub"  # type: ignore[attr-defined]
    assert results.protocol["serve.context.tokens"] == 128  # type: ignore[attr-defined]
    assert results.task("skills_add").expected == 350  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host",
            FailureClass.DEPLOYMENT_HEALTH_FAILED,
        ),
        ("ServerDisconnectedError: Server disconnected", FailureClass.DEPLOYMENT_HEALTH_FAILED),
        ("API request failed! Status code: 500, Response text: x", FailureClass.DEPLOYMENT_HEALTH_FAILED),
        ("API request failed! Status code: 401, Response text: x", FailureClass.USER_CONFIG_ERROR),
        ("API request failed! Status code: 429, Response text: x", FailureClass.INFRA_TRANSIENT),
        ("ValueError: Tasks not found: nonesuch.", FailureClass.USER_CONFIG_ERROR),
        ("FileNotFoundError: Unable to find '/x/data.jsonl'", FailureClass.USER_CONFIG_ERROR),
        (
            "NotImplementedError: Loglikelihood is not supported for chat completions.",
            FailureClass.USER_CONFIG_ERROR,
        ),
        ("OSError: [Errno 28] No space left on device", FailureClass.SYSTEMIC),
        ("TimeoutError", FailureClass.INFRA_TRANSIENT),
        ("ValueError: something else", FailureClass.UNKNOWN),
    ],
)
def test_a_failure_gets_the_class_of_its_log(tmp_path: Path, said: str, expected: FailureClass) -> None:
    """What lm-eval printed decides what the engine does, and the line is quoted."""
    python = interpreter(tmp_path, f"print({said!r}); sys.exit(1)")
    with pytest.raises(ComponentFailed) as caught:
        Adapter(Options(tasks=("t",), python=python)).evaluate(target(), make_session(tmp_path))
    assert caught.value.failure_class is expected
    assert said.split(":", maxsplit=1)[0] in caught.value.what or "Status code" in said
    assert said in caught.value.log_tail


def test_a_missing_package_names_the_extra(tmp_path: Path) -> None:
    """An interpreter without lm-eval, or without its API part, is a missing component."""
    for said in ("python: No module named lm_eval", "Please install via `pip install lm-eval[api]`"):
        python = interpreter(tmp_path, f"print({said!r}); sys.exit(1)")
        with pytest.raises(ComponentMissing, match=r"assay\[lm-eval\]"):
            Adapter(Options(tasks=("t",), python=python)).evaluate(target(), make_session(tmp_path))
    with pytest.raises(ComponentMissing):
        Adapter(Options(tasks=("t",), python="/nowhere/python")).evaluate(target(), make_session(tmp_path))


def test_a_run_without_results_fails(tmp_path: Path) -> None:
    """lm-eval swallows errors of saving: exit code 0 alone proves nothing."""
    python = interpreter(tmp_path, "print('Could not save results aggregated')")
    with pytest.raises(ComponentFailed, match="no results_"):
        Adapter(Options(tasks=("t",), python=python)).evaluate(target(), make_session(tmp_path))


def test_time_limits_end_it(tmp_path: Path) -> None:
    """The smaller of the option and the study's budget; the class is the budget's."""
    python = interpreter(tmp_path, "time.sleep(60)")
    with pytest.raises(ComponentFailed) as caught:
        Adapter(Options(tasks=("t",), python=python)).evaluate(target(), make_session(tmp_path, limit_s=0.5))
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED


def test_an_unserved_target_is_a_configuration_error(tmp_path: Path) -> None:
    """It speaks HTTP and nothing else."""
    with pytest.raises(ComponentFailed) as caught:
        Adapter(Options(tasks=("t",))).evaluate(Target(name="x", path="/x"), make_session(tmp_path))
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR


def test_relative_data_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the YAML, beside its folder, or where the user stands: the run starts where they are."""
    folder = tasks_folder(tmp_path)
    adapter = Adapter(Options(tasks=("sums",), include_path=str(folder)))
    assert adapter._working_folder() == folder
    shutil.move(folder / "data", tmp_path / "data")
    assert adapter._working_folder() == tmp_path
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(tmp_path / "data", elsewhere / "data")
    monkeypatch.chdir(elsewhere)
    assert adapter._working_folder() == elsewhere
    with pytest.raises(ComponentFailed, match="include_path"):
        Adapter(Options(tasks=("sums",), include_path=str(tmp_path / "nowhere")))._working_folder()


def test_the_protocol_follows_the_questions(tmp_path: Path) -> None:
    """Changed data or options change it; speed, folders and interpreters' leftovers do not."""
    folder = tasks_folder(tmp_path)
    options = Options(tasks=("sums",), include_path=str(folder))
    before = dict(Adapter(options).protocol())
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__" / "x.pyc").write_text("x")
    same = Options(tasks=("sums",), include_path=str(moved), num_concurrent=1, timeout_s=9)
    assert dict(Adapter(same).protocol()) == before
    assert dict(Adapter(Options(tasks=("sums",), include_path=str(folder), limit=3)).protocol()) != before
    (moved / "data" / "sums.jsonl").write_text("{}\n")
    assert dict(Adapter(same).protocol()) != before
    json.dumps(before)


def test_check_is_quick_and_imports_nothing(tmp_path: Path) -> None:
    """The version comes from the package's metadata; another interpreter is only looked for."""
    ready = Adapter(Options(tasks=("t",))).check()
    assert (ready.state, ready.verb, ready.kind) == ("ready", "evaluate", "lm_eval")
    assert ready.vendor["lm_eval"]
    assert Adapter(Options(tasks=("t",), python="/nowhere/python")).check().state == "missing"
    assert Adapter(Options(tasks=("t",), python=sys.executable)).check().state == "ready"


def test_options_refuse_what_they_do_not_know() -> None:
    """Unknown keys, no tasks and impossible numbers."""
    for bad in ({}, {"tasks": []}, {"tasks": ["t"], "limits": 3}, {"tasks": ["t"], "limit": 0}):
        with pytest.raises(ValidationError):
            Options.model_validate(bad)


@pytest.mark.slow
def test_a_real_run(tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval itself over HTTP: every sample comes back, a null answer is the model's failure."""
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "hf"))
    stub.wrong = frozenset({DATA[1]["question"]})
    stub.null = frozenset({DATA[2]["question"]})
    options = Options(tasks=("sums",), include_path=str(tasks_folder(tmp_path)))
    session = make_session(tmp_path)
    results: Any = Adapter(options).evaluate(target(stub.base_url), session)
    sums = results.task("sums")
    assert (sums.score, sums.expected, sums.scored, len(sums.samples)) == (0.95, 40, 40, 40)
    assert [s for s in sums.samples.state if s is not SampleState.SCORED] == [SampleState.MODEL_FAILURE]
    assert ResultsGate().judge({"results": results}).status is Status.PASS
    assert {b["model"] for b in stub.asked} == {"a/b c"}
    assert len(stub.asked) == 40


@pytest.mark.slow
def test_a_real_run_against_a_dead_server(tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: the deployment failed, not the model."""
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "hf"))
    stub.close()
    options = Options(tasks=("sums",), include_path=str(tasks_folder(tmp_path)), max_retries=1)
    with pytest.raises(ComponentFailed) as caught:
        Adapter(options).evaluate(target(stub.base_url), make_session(tmp_path))
    assert caught.value.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED
