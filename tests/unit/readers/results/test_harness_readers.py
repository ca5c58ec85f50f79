"""What each reader makes of its harness's words, beyond what the corpus of real files shows."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import UnreadableInput
from assay.core.results import RunStatus, SampleState
from assay.core.vocabulary import Direction
from assay.readers.results import archive, harness, read_results
from assay.readers.results.harness import MAX_VALUES, Lines, parse_json, row_digest
from assay.readers.results.inspect_ai import GRADE_LOST

GOOD = Path(__file__).parents[3] / "known_good" / "results"
BAD = Path(__file__).parents[3] / "known_bad" / "results"
JUDGE, INFRA, MISSING = SampleState.JUDGE_FAILURE, SampleState.INFRA_FAILURE, SampleState.MISSING


def log(tmp_path: Path, samples: list[Any], scorer: str = "match", **changes: Any) -> Path:
    """A log of inspect_ai."""
    document = {
        "version": 2,
        "status": "success",
        "eval": {"task": "t", "run_id": "r", "dataset": {"samples": len(samples)}, "config": {"epochs": 1}},
        "results": {
            "scores": [
                {
                    "name": scorer,
                    "scorer": scorer,
                    "metrics": {"accuracy": {"value": 0.5}, "stderr": {"value": 0.1}},
                }
            ]
        },
        "samples": samples,
        **changes,
    }
    file = tmp_path / "log.json"
    file.write_text(json.dumps(document))
    return file


def sample(value: Any, scorer: str = "match", **more: Any) -> dict[str, Any]:
    """A sample of inspect_ai."""
    return {
        "id": "a", "epoch": 1, "input": "q", "target": "t", "scores": {scorer: {"value": value}},
        "output": {"model": "m", "choices": [{"stop_reason": "stop"}], "completion": "x", "usage": {"output_tokens": 2}},
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "score"),
    [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), (True, 1.0), (0.25, 0.25), ("yes", 1.0), ("0.5", 0.5),
     (float("nan"), None), ("wat", None), ([1], None), (None, None)],
)  # fmt: skip
def test_inspect_values(tmp_path: Path, value: Any, score: float | None) -> None:
    """Letters, words, booleans and numbers are scores; a bare NaN is unscored."""
    samples = read_results(log(tmp_path, [sample(value)]), subject="x").tasks[0].samples
    assert samples.score == (score,)
    assert samples.state == (SampleState.SCORED if score is not None else MISSING,)


@pytest.mark.parametrize(
    ("changes", "scorer", "state"),
    [
        ({"error": {"message": "boom"}}, "match", INFRA),
        ({"error": {"message": "boom"}, "output": {}}, "model_graded_qa", INFRA),
        ({"error": {"message": "401"}}, "model_graded_qa", JUDGE),
        (
            {"limit": {"type": "token"}, "scores": {"match": {"value": "I"}}},
            "match",
            SampleState.MODEL_FAILURE,
        ),
        ({"limit": {"type": "token"}, "scores": {"match": {"value": "C"}}}, "match", SampleState.SCORED),
        (
            {"scores": {"model_graded_qa": {"value": "I", "explanation": f"{GRADE_LOST}: eh"}}},
            "model_graded_qa",
            JUDGE,
        ),
        ({"scores": {}}, "model_graded_qa", JUDGE),
        ({"scores": {}}, "match", MISSING),
        ({"scores": {"another": {"value": "C"}}}, "match", MISSING),
        ({"scores": {"group": {"value": {"match": 1, "style": 0}}}}, "match", SampleState.SCORED),
    ],
)
def test_inspect_states(tmp_path: Path, changes: dict[str, Any], scorer: str, state: SampleState) -> None:
    """Who is at fault: the model for its limits, the judge for its grades, the machine for what was raised."""
    task = read_results(log(tmp_path, [sample("C", scorer, **changes)], scorer), subject="x").tasks[0]
    assert task.samples.state == (state,)
    assert (task.samples.score[0] is None) == (state in (JUDGE, INFRA, MISSING))


def test_inspect_metric_can_be_asked_for(tmp_path: Path) -> None:
    """By scorer and metric, or metric alone; one that is not there is refused with those that are."""
    file = log(tmp_path, [sample("C")])
    assert read_results(file, subject="x", metrics={"t": "match/stderr"}).tasks[0].score == 0.1
    with pytest.raises(UnreadableInput, match="match/accuracy, match/stderr"):
        read_results(file, subject="x", metrics={"t": "f1"})


def test_inspect_says_who_answered_and_what_was_invalidated(tmp_path: Path) -> None:
    """Two models in one run are a fact for the gate; so are an invalidated log and the run's own error."""
    other = sample("C", id="b", output={**sample("C")["output"], "model": "n"})
    file = log(
        tmp_path, [sample("C"), other], invalidated=True, error={"message": "it broke"}, status="error"
    )
    results = read_results(file, subject="x")
    assert results.facts["answered_by"] == ["m", "n"]
    assert results.tasks[0].status is RunStatus.FAILED
    assert len([e for e in results.tasks[0].errors if "it broke" in e or "invalidated" in e]) == 2


def test_of_two_logs_of_a_task_the_newest_counts(tmp_path: Path) -> None:
    """A retry stands beside the log of the run that it repeats."""
    for name, created, score in (("a", "2026-01-01", 0.1), ("b", "2026-01-02", 0.9)):
        file = log(tmp_path, [sample("C")])
        document = json.loads(file.read_text())
        document["eval"]["created"] = created
        document["results"]["scores"][0]["metrics"]["accuracy"]["value"] = score
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        file.unlink()
    results = read_results(tmp_path, subject="x", harness="inspect_ai")
    assert (results.tasks[0].score, results.facts["older_runs"]) == (0.9, ["a.json"])


def test_an_archive_and_a_document_are_one(tmp_path: Path) -> None:
    """The same log zipped with deflate, as older versions did."""
    document = json.loads(log(tmp_path, [sample("C"), sample("I", id="b")]).read_text())
    plain = read_results(tmp_path / "log.json", subject="x")
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as opened:
        for one in document.pop("samples"):
            opened.writestr(f"samples/{one['id']}_epoch_1.json", json.dumps(one))
        opened.writestr("header.json", json.dumps(document))
    zipped = read_results(tmp_path / "log.eval", subject="x")
    assert zipped.tasks == plain.tasks
    assert zipped.protocol == plain.protocol


def test_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One member, and all members together, may expand only so far."""
    file = tmp_path / "bomb.eval"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("header.json", b"{}" + b" " * 10_000)
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 1000)
    with archive.Archive(file) as bomb, pytest.raises(UnreadableInput, match="expands to more"):
        bomb.read("header.json")
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 100_000)
    monkeypatch.setattr(archive, "FREE_BYTES", 100)
    monkeypatch.setattr(archive, "MAX_RATIO", 2)
    with archive.Archive(file) as bomb, pytest.raises(UnreadableInput, match="no log of an evaluation"):
        bomb.read("header.json")


def test_documents_are_bounded() -> None:
    """A document of more values than fit into memory is refused before it is parsed."""
    with pytest.raises(UnreadableInput, match="more than 8,000,000 values"):
        parse_json(b"[" * (MAX_VALUES + 2), "x")


def test_lines_are_bounded_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that span chunks are joined, one that is too long is damaged, and the pin is that of the bytes."""
    monkeypatch.setattr(harness, "CHUNK_BYTES", 7)
    monkeypatch.setattr(harness, "MAX_LINE_BYTES", 20)
    data = b"\n{1}\n\n" + b"x" * 18 + b"\n" + b"y" * 40 + b"\nend"
    (tmp_path / "f").write_bytes(data)
    lines = Lines(tmp_path / "f")
    found = list(lines)
    assert found[0] == (2, b"{1}")
    assert found[1] == (4, b"x" * 18)
    assert isinstance(found[2][1], harness.Damaged)
    assert found[3] == (6, b"end")
    assert lines.artifact.digest == "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "value", [["a", "b"], ['"', "b"], ['", "'], ["é"], ["\n"], [], [""], [1], [None], ["\\"], "a", {"a": 1}]
)
def test_the_quick_way_to_a_digest_is_the_same_digest(value: Any) -> None:
    """Plain lists are written by hand; what comes out is what the encoder writes."""
    written = json.dumps(value, sort_keys=True, default=str).encode()
    assert row_digest(value) == hashlib.sha256(written).hexdigest()[:32]


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a good case that can be changed."""

    def make(case: str) -> Path:
        return Path(shutil.copytree(GOOD / case, tmp_path / case))

    return make


def bundle_row(copy: Callable[[str], Path], **changes: Any) -> tuple[SampleState, float | None]:
    """State and score of the first row of a bundle after a change."""
    file = copy("nemo_bundle") / "results.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *rest]))
    samples = read_results(file.parent, subject="x").tasks[0].samples
    return samples.state[0], samples.score[0]


@pytest.mark.parametrize(
    ("category", "state"),
    [("infra_error", INFRA), ("system", INFRA), ("graceful", INFRA), ("solve_timeout", INFRA), ("rate_limit", INFRA),
     ("server_error", INFRA), ("model_timeout", INFRA), ("something_new", INFRA), ("judge_error", JUDGE),
     ("turn_budget_exhausted", SampleState.MODEL_FAILURE), ("budget_exceeded", SampleState.MODEL_FAILURE),
     ("context_window_exceeded", SampleState.MODEL_FAILURE)],
)  # fmt: skip
def test_bundle_error_categories(copy: Any, category: str, state: SampleState) -> None:
    """All of them stand as reward 0.0; only the model's own count as wrong."""
    found = bundle_row(copy, reward=0.0, scoring_details={"error_category": category})
    assert found == (state, 0.0 if state is SampleState.MODEL_FAILURE else None)


def test_bundle_judges(copy: Any) -> None:
    """A judge with an error, or none at all, gave no verdict; one that answered did."""
    judged = {"method": "judge", "judge": {"error": None, "total": 5}}
    assert bundle_row(copy, reward=1.0, scoring_details=judged) == (SampleState.SCORED, 1.0)


def test_a_second_bundle_beside_the_rows_is_refused(copy: Any) -> None:
    """Nobody can tell whose rows they are."""
    place = copy("nemo_bundle")
    file = next(place.glob("eval-*.json"))
    shutil.copy(file, place / "eval-other.json")
    with pytest.raises(UnreadableInput, match="several bundles"):
        read_results(place, subject="x")


def test_nemo_skills_takes_the_agreed_mean(copy: Any) -> None:
    """Never the best of the repeats; another can be asked for."""
    place = copy("nemo_skills")
    task = read_results(place, subject="x").tasks[0]
    assert (task.metric, task.score, task.high) == ("pass@1[avg-of-2]/judge_correct", 75.0, 100.0)
    assert set(task.samples.score) == {0.0, 100.0}
    asked = read_results(place, subject="x", metrics={"mini_judged": "pass@2/symbolic_correct"}).tasks[0]
    assert (asked.metric, asked.score) == ("pass@2/symbolic_correct", 100.0)


def test_the_launcher_knows_the_flat_names(copy: Any) -> None:
    """`gpqa_pass_at_1_avg-of-16_symbolic_correct` finds its row of the table: range and samples."""
    place = copy("nemo_launcher_without_rows")
    file = next(place.rglob("results.yml"))
    text = (
        file.read_text()
        .replace("mini_gpqa", "gpqa")
        .replace("avg-of-2", "avg-of-16")
        .replace("num_repeats: 2", "num_repeats: 16")
    )
    file.write_text(text)
    task = read_results(place, subject="x").tasks[0]
    assert task.metric == "pass_at_1_avg-of-16_symbolic_correct"
    assert (task.expected, task.low, task.high, task.scale_source) == (198 * 16, 0, 100, "table")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("0", RunStatus.SUCCESS),
        ("1", RunStatus.FAILED),
        ("137", RunStatus.KILLED),
        ("143", RunStatus.KILLED),
        ("what", RunStatus.FAILED),
    ],
)
def test_the_launchers_exit_codes(copy: Any, code: str, status: RunStatus) -> None:
    """A job is what its process ended with."""
    place = copy("nemo_launcher")
    next(place.rglob("stage.exit")).write_text(f"2026-11-20T10:00:00Z {code}\n")
    assert read_results(place, subject="x").tasks[0].status is status


def test_a_yaml_bomb_is_refused(copy: Any) -> None:
    """Aliases of aliases would be a tree of a billion values."""
    place = copy("nemo_launcher")
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    next(place.rglob("results.yml")).write_text("results:\n  tasks: {}\n" + "\n".join(lines))
    with pytest.raises(UnreadableInput, match="more than 1,000,000 values"):
        read_results(place, subject="x")


def test_helm_names_its_task_without_the_model() -> None:
    """Both sides of a comparison must have the same task."""
    task = read_results(GOOD / "helm", subject="x").tasks[0]
    assert (task.task, task.metric, task.expected) == ("mmlu:subject=anatomy", "exact_match", 24)


def test_helm_without_its_scenario_state_has_rows(copy: Any) -> None:
    """Token counts and finish reasons come from the statistics; answers and prompts are unknown."""
    place = copy("helm")
    next(place.rglob("scenario_state.json")).unlink()
    task = read_results(place, subject="x").tasks[0]
    assert (len(task.samples), set(task.samples.output), set(task.samples.finish_reason)) == (
        24,
        {""},
        {"stop"},
    )
    assert task.expected == 24


def test_promptfoo_finds_what_its_rows_contradict(copy: Any) -> None:
    """Success counts and double scores are held against each other."""
    file = copy("promptfoo") / "results.json"
    document = json.loads(file.read_text())
    document["results"]["results"][0]["score"] = 1.0
    document["results"]["stats"]["successes"] += 1
    file.write_text(json.dumps(document))
    errors = " ".join(read_results(file, subject="x").tasks[0].errors)
    assert "another score than their grading" in errors
    assert "successes" in errors


def test_junit_states() -> None:
    """A failure is a wrong answer; an error and a skipped test are none."""
    task = read_results(BAD / "junit_errors", subject="x").tasks[0]
    assert (task.samples.state.count(INFRA), task.samples.state.count(MISSING), task.expected) == (1, 1, 6)
    assert task.score == 0.75


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "Sample ID,Score,Output\n1,1,x\n2,0.5,y\n"),
        ("a.csv", 'sample-id;score;output\n1;1;x\n2;0,5;"y;z"\n'),
        ("a.tsv", "SAMPLE_ID\tSCORE\tOUTPUT\n1\t1\tx\n2\t0.5\ty, z\n"),
        ("a.csv", '"sample id";"score"\n"1";"1"\n"2";"0,5"\n'),
    ],
)
def test_csv_of_other_programs_is_read(tmp_path: Path, name: str, text: str) -> None:
    """Semicolons and decimal commas of office programs, tabs, and headers as people write them."""
    (tmp_path / name).write_text(text)
    task = read_results(tmp_path / name, subject="x").tasks[0]
    assert (task.samples.id, task.samples.score) == (("1", "2"), (1.0, 0.5))


def test_a_csv_without_the_columns_says_which(tmp_path: Path) -> None:
    """And does not complain that it is no JSON."""
    (tmp_path / "a.csv").write_text("name,mark\na,1\n")
    with pytest.raises(UnreadableInput, match=r"no column of ids .* or none of scores"):
        read_results(tmp_path / "a.csv", subject="x")


def test_csv_and_jsonl_are_one(tmp_path: Path) -> None:
    """Words, numbers and quotes of a CSV file are what they are in JSON; a torn row is damaged."""
    (tmp_path / "a.csv").write_text('\ufeffid,score,output,repeat\n1,yes,"a, b",0\n1,0.5,,1\n2,,x,0\n3,1\n')
    task = read_results(tmp_path / "a.csv", subject="x").tasks[0]
    assert task.samples.id == ("1", "1", "2")
    assert task.samples.score == (1.0, 0.5, None)
    assert task.samples.repeat == (0, 1, 0)
    assert "2 cells under 4 names" in task.errors[0]


def test_rows_tell_their_state_and_error(tmp_path: Path) -> None:
    """A row may say what became of it; one with an error and no state is nobody's answer."""
    rows = [
        {"id": 1, "score": 0, "state": "judge failure"},
        {"id": 2, "score": 0, "error": "boom"},
        {"id": 3, "correct": True, "score": 1},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    task = read_results(tmp_path / "r.jsonl", subject="x").tasks[0]
    assert task.samples.state == (JUDGE, INFRA, SampleState.SCORED)


def test_an_own_metric_table_wins(tmp_path: Path) -> None:
    """The user's rows are asked first; what they do not know the shipped table does."""
    (tmp_path / "t.yaml").write_text(
        "schema: metrics/1\nmetrics:\n  - {metric: loss, low: 0, high: 9, direction: lower, samples: 2}\n"
    )
    (tmp_path / "r.jsonl").write_text(
        '{"id": 1, "score": 3, "task": "t"}\n{"id": 2, "score": 4, "task": "t"}\n'
    )
    (tmp_path / "s.yaml").write_text(
        "schema: metrics/1\nmetrics:\n"
        "  - {metric: score, task: t, unit: points, low: 0, high: 9, direction: lower, samples: 2}\n"
    )
    task = read_results(tmp_path / "r.jsonl", subject="x", metric_table=tmp_path / "s.yaml").tasks[0]
    assert (task.low, task.high, task.direction, task.expected, task.scale_source) == (
        0,
        9,
        Direction.LOWER,
        2,
        "table",
    )
    for bad, words in (
        ("metrics: []", "schema: metrics/1"),
        ("schema: metrics/1\nmetrics: [{metric: a, low: 1, high: 0}]", "row 1"),
        ("schema: metrics/1\nmetrics: [{metric: a, colour: red}]", "colour"),
        ("[", "no metric table"),
    ):
        (tmp_path / "t.yaml").write_text(bad)
        with pytest.raises(UnreadableInput, match=words):
            read_results(tmp_path / "r.jsonl", subject="x", metric_table=tmp_path / "t.yaml")
