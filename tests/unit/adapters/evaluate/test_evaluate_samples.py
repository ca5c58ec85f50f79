"""Both evaluate kinds asked for some items of each task: `{samples}`, and lm-eval batch by batch in one process."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay.adapters.evaluate import command, lm_eval
from assay.core.errors import ComponentFailed
from assay.core.ports import Endpoint, Target
from assay.core.results import Results
from assay.core.vocabulary import FailureClass
from assay.testing.session import RecordingSession, make_session

DRAWN = {"sums": (1, 4, 7)}


def target(samples: dict[str, tuple[int, ...]] | None, base_url: str = "http://127.0.0.1:9/v1") -> Target:
    """A served candidate of which some items are asked."""
    endpoint = Endpoint(base_url=base_url, model="m", engine="stub", engine_version="1", facts={})
    return Target(name="w4", path="/nowhere", endpoint=endpoint, samples=samples)


# --- command ------------------------------------------------------------------------------------------------

TELLS = """
import json, sys
asked = json.load(open(sys.argv[1])) or {}
json.dump({"n": len(asked.get("sums", []))}, open(sys.argv[2] + "/s.json", "w"))
"""


def commanded(tmp_path: Path, samples: dict[str, tuple[int, ...]] | None, *arguments: str) -> Any:
    """What a one-liner makes of its arguments."""
    options = command.Options(command=(sys.executable, "-c", TELLS, *arguments), results="s.json")
    return command.Adapter(options).evaluate(target(samples), make_session(tmp_path))


def test_the_command_gets_a_list_of_items(tmp_path: Path) -> None:
    """`{samples}` is a JSON file: task → indices."""
    results = commanded(tmp_path, DRAWN, "{samples}", "{out}")
    assert [(t.task, t.score) for t in results.tasks] == [("n", 3.0)]
    assert json.loads((tmp_path / "work" / "samples.json").read_text()) == {"sums": [1, 4, 7]}


def test_without_a_draw_the_list_says_all(tmp_path: Path) -> None:
    """The same command serves a study that asks everything: the file holds null."""
    assert commanded(tmp_path, None, "{samples}", "{out}").tasks[0].score == 0.0
    assert json.loads((tmp_path / "work" / "samples.json").read_text()) is None


def test_a_command_that_cannot_be_told_the_items_is_refused(tmp_path: Path) -> None:
    """It would ask all of them at every look: a mistake of the spec, and nothing is run."""
    with pytest.raises(ComponentFailed, match="does not say which items") as caught:
        commanded(tmp_path, DRAWN, "/dev/null", "{out}")
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR
    assert "{samples}" in (caught.value.next or "")
    assert not (tmp_path / "work" / "evaluate.log").exists()


def test_the_items_are_not_part_of_the_protocol(tmp_path: Path) -> None:
    """Both batches of a side were measured in the same way; which items it were is the draw's."""
    results = [commanded(tmp_path, {"sums": items}, "{samples}", "{out}") for items in ((1, 2), (3,))]
    assert results[0].protocol == results[1].protocol


# --- lm-eval, played ----------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Iterator[RecordingSession]:
    """A session; what is kept in it ends with the test."""
    made = make_session(tmp_path)
    with made.kept:
        yield made


PLAYED = """
    folder = pathlib.Path(sys.argv[2])
    number = 1
    while True:
        batch = folder / f"batch-{number}.json"
        if not batch.exists():
            time.sleep(0.02)
            continue
        flags = json.loads(batch.read_text())
        given = dict(zip(flags, flags[1:]))
        asked = json.loads(given["--samples"])
        print(f"batch {number}", flush=True)
        PLAY
        out = pathlib.Path(given["--output_path"])
        out.mkdir(parents=True, exist_ok=True)
        tasks = {t: {"alias": t, "acc,none": 0.5} for t in EXTRA + list(asked)}
        (out / "results_2026-01-01T00-00-00.000000.json").write_text(json.dumps({
            "results": tasks, "configs": {t: {"metric_list": [{"metric": "acc"}]} for t in tasks},
            "versions": dict.fromkeys(tasks, 1.0), "n-shot": dict.fromkeys(tasks, 0),
            "higher_is_better": {t: {"acc": True} for t in tasks},
            "n-samples": {t: {"original": 9, "effective": len(asked.get(t, range(9)))} for t in tasks},
            "config": {"model": "local-chat-completions", "model_args": {"model": "m"}, "limit": None},
            "lm_eval_version": "0.4.13"}))
        for t in tasks:
            rows = [{"doc_id": i, "doc": {"q": i}, "target": "x", "resps": [["x"]], "filtered_resps": ["x"],
                     "filter": "none", "metrics": ["acc"], "doc_hash": f"{t}{i}", "prompt_hash": f"{i}",
                     "target_hash": "x", "acc": 1.0} for i in asked.get(t, range(9))]
            text = "".join(json.dumps(r) + "\\n" for r in rows)
            (out / f"samples_{t}_2026-01-01T00-00-00.000000.jsonl").write_text(text)
        batch.with_suffix(".done").touch()
        number += 1
"""


def played(tmp_path: Path, play: str = "pass", extra: str = "[]", **options: Any) -> lm_eval.Adapter:
    """An interpreter that plays the worker of batches."""
    program = tmp_path / "python-with-lm-eval"
    body = textwrap.dedent(PLAYED).replace("PLAY", play).replace("EXTRA", extra)
    program.write_text(f"#!{sys.executable}\nimport json, pathlib, sys, time\n{body}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return lm_eval.Adapter(lm_eval.Options(tasks=("sums",), python=str(program), **options))


def test_batches_go_to_one_process(tmp_path: Path, session: RecordingSession) -> None:
    """Each batch has its own items and its own results; the process is started once and ends with the trial."""
    adapter = played(tmp_path)
    first = adapter.evaluate(target({"sums": (0, 2)}), session)
    second = adapter.evaluate(target({"sums": (5,)}), session)
    assert isinstance(first, Results)
    assert isinstance(second, Results)
    assert [t.samples.id for r in (first, second) for t in r.tasks] == [("sums0", "sums2"), ("sums5",)]
    assert len(first.extended(second).tasks[0].samples) == 3
    worker = next(p for p in psutil.process_iter() if str(tmp_path / "python-with-lm-eval") in _words(p))
    session.kept.close()
    worker.wait(5)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_batch_that_fails_is_told_in_lm_evals_words(tmp_path: Path, session: RecordingSession) -> None:
    """The process ends; the class is that of its log, in the second batch too."""
    said = "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host"
    adapter = played(tmp_path, f"number == 2 and sys.exit({said!r})")
    adapter.evaluate(target(DRAWN), session)
    with pytest.raises(ComponentFailed, match="the server went away") as caught:
        adapter.evaluate(target(DRAWN), session)
    assert caught.value.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED


def test_a_time_limit_ends_the_batch(tmp_path: Path, session: RecordingSession) -> None:
    """A batch that hangs is the budget's, and the process does not stay."""
    with pytest.raises(ComponentFailed) as caught:
        played(tmp_path, "time.sleep(60)", timeout_s=0.6).evaluate(target(DRAWN), session)
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED
    assert not [p for p in psutil.process_iter() if str(tmp_path / "python-with-lm-eval") in _words(p)]


def test_a_task_that_was_asked_in_full_is_refused(tmp_path: Path, session: RecordingSession) -> None:
    """lm-eval asks all items of a task that is not drawn: that is no batch of the plan."""
    with pytest.raises(ComponentFailed, match="asked all of more") as caught:
        played(tmp_path, extra='["more"]').evaluate(target(DRAWN), session)
    assert caught.value.failure_class is FailureClass.USER_CONFIG_ERROR


# --- lm-eval, real ------------------------------------------------------------------------------------------

DATA = [{"question": f"Add {a} and {a + 1}.", "answer": str(2 * a + 1)} for a in range(12)]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
generation_kwargs: {{until: ["<|end|>"], max_gen_toks: 32, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks of twelve sums."""
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("sums", "more"):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in DATA))
    return folder


@pytest.mark.slow
def test_real_batches(tasks: Path, stub: Any, session: RecordingSession) -> None:
    """Only the items drawn are asked; two batches make up what one run of all gives; one process, in the end none."""
    stub.wrong = frozenset({DATA[3]["question"]})
    adapter = lm_eval.Adapter(lm_eval.Options(tasks=("sums", "more"), include_path=str(tasks)))
    drawn: list[dict[str, tuple[int, ...]]] = [
        {"sums": (0, 3, 5), "more": (11,)},
        {"sums": (1, 2, 4, *range(6, 12)), "more": tuple(range(11))},
    ]
    batches: list[Results] = []
    for samples in drawn:
        stub.asked.clear()
        results = adapter.evaluate(target(samples, stub.base_url), session)
        assert isinstance(results, Results)
        asked = sorted(b["messages"][-1]["content"] for b in stub.asked)
        assert asked == sorted(DATA[i]["question"] for items in samples.values() for i in items)
        assert {t.task: len(t.samples) for t in results.tasks} == {t: len(i) for t, i in samples.items()}
        batches.append(results)
    worker = next(p for p in psutil.process_iter() if any("lm_eval_batches.py" in w for w in _words(p)))
    session.kept.close()
    worker.wait(10)
    whole = adapter.evaluate(target(None, stub.base_url), session)
    assert isinstance(whole, Results)
    joined = batches[0].extended(batches[1])
    for name in ("sums", "more"):
        one, other = joined.task(name), whole.task(name)
        assert one is not None
        assert other is not None
        assert _rows(one.samples) == _rows(other.samples)
        assert (one.score, one.metric) == (pytest.approx(other.score), other.metric)
    differing = {k for k in joined.protocol if joined.protocol[k] != whole.protocol.get(k)}
    assert differing <= {"task.more.samples", "task.sums.samples"}


def _rows(samples: Any) -> list[tuple[Any, ...]]:
    return sorted(zip(samples.id, samples.prompt, samples.score, samples.output, strict=True))


@pytest.mark.slow
def test_a_real_batch_without_an_item_of_a_task_is_refused(
    tasks: Path, stub: Any, session: RecordingSession
) -> None:
    """What lm-eval really does with a task that has no samples: all of it, which is told."""
    adapter = lm_eval.Adapter(lm_eval.Options(tasks=("sums", "more"), include_path=str(tasks)))
    with pytest.raises(ComponentFailed, match="asked all of more"):
        adapter.evaluate(target({"sums": (0, 1)}, stub.base_url), session)


@pytest.mark.slow
def test_a_real_batch_against_a_dead_server(tasks: Path, stub: Any, session: RecordingSession) -> None:
    """The server dies between two batches: the deployment failed, and the worker is over."""
    options = lm_eval.Options(tasks=("sums",), include_path=str(tasks), max_retries=1)
    adapter = lm_eval.Adapter(options)
    adapter.evaluate(target({"sums": (0, 1)}, stub.base_url), session)
    stub.close()
    with pytest.raises(ComponentFailed) as caught:
        adapter.evaluate(target({"sums": (2,)}, stub.base_url), session)
    assert caught.value.failure_class is FailureClass.DEPLOYMENT_HEALTH_FAILED
    here = str(tasks.parent)
    deadline = time.monotonic() + 5
    while left := [shlex.join(_words(p)) for p in psutil.process_iter() if here in " ".join(_words(p))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
