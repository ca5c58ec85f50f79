"""lm-eval's files as it writes them, and as crashes, appends and edits leave them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import UnreadableInput
from assay.core.results import SampleState
from assay.core.vocabulary import Direction, Provenance
from assay.readers.results import read_results
from assay.readers.results.lm_eval import NULL_CONTENT

RECORDED = Path(__file__).parents[3] / "recorded" / "results"
STAMP = "2026-11-20T09-22-33.139497"


def read(folder: Any, **more: Any) -> Any:
    """The results of the whole folder."""
    return read_results(folder.path, subject="candidate", **more)


def test_a_recorded_run_is_read_whole(folder: Any) -> None:
    """Scores, counts, rows, pins and protocol come from the files as lm-eval wrote them."""
    results = read(folder)
    assert [t.task for t in results.tasks] == ["skills_add", "skills_tool"]
    add = results.task("skills_add")
    assert (add.metric, add.score, add.expected, add.scored) == ("exact_match", 0.75, 4, 4)
    assert add.samples.score == (1.0, 1.0, 1.0, 0.0)
    assert add.samples.id[0] == "b410bc2040ace49927d4aa634f4201bc473f3598278518a176463381c1c51d2d"
    assert (add.low, add.high, add.direction, add.scale_source) == (0, 1, Direction.HIGHER, "table")
    assert results.provenance is Provenance.MEASURED
    assert len(results.artifacts) == 3
    assert results.protocol["lm_eval_version"] == "0.4.13"
    assert results.protocol["task.skills_add.version"] == 1.0
    assert results.protocol["limit"] is None
    assert type(results).from_json(results.to_json()) == results


def test_protocol_holds_neither_paths_nor_ports(folder: Any) -> None:
    """Two runs that differ in folders and ports alone have one protocol."""
    before = read(folder).protocol

    def move(document: dict[str, Any]) -> None:
        document["config"]["model_args"]["base_url"] = "http://127.0.0.1:9/v1/chat/completions"
        for config in document["configs"].values():
            config["dataset_kwargs"]["data_files"] = {"test": "/elsewhere/x.jsonl"}
            config["metadata"]["config_source"] = "/elsewhere/x.yaml"

    folder.edit(move)
    assert read(folder).protocol == before


def test_a_changed_task_changes_the_protocol(folder: Any) -> None:
    """A generation setting of a task is part of how it was measured."""
    before = read(folder).protocol["task.skills_add.config"]

    def change(document: dict[str, Any]) -> None:
        document["configs"]["skills_add"]["generation_kwargs"]["max_gen_toks"] = 8

    folder.edit(change)
    assert read(folder).protocol["task.skills_add.config"] != before


def test_the_chat_and_hf_routes_share_ids_and_not_prompts() -> None:
    """`doc_hash` pairs two routes; their prompt digests tell that they were not asked the same."""
    chat, hf = (
        read_results(RECORDED / name, subject="x").task("skills_add")
        for name in ("lm_eval_chat", "lm_eval_hf")
    )
    assert chat is not None
    assert hf is not None
    assert chat.samples.id == hf.samples.id
    assert not set(chat.samples.prompt) & set(hf.samples.prompt)
    assert chat.samples.score == hf.samples.score


def test_the_newest_run_of_a_folder_is_read(folder: Any) -> None:
    """Of several runs of one model the one with the latest time in its name counts, with its own samples."""
    for task in ("skills_add", "skills_tool"):
        shutil.copy(folder.samples(task), folder.path / f"samples_{task}_2027-01-01T00-00-00.jsonl")
    document = json.loads(folder.results.read_text())
    document["results"]["skills_add"]["exact_match,none"] = 0.5
    (folder.path / "results_2027-01-01T00-00-00.json").write_text(json.dumps(document))
    results = read(folder)
    assert results.task("skills_add").score == 0.5
    assert all("2027" in a.path for a in results.artifacts)


def test_runs_of_two_models_are_not_chosen_between(folder: Any) -> None:
    """A folder above two model folders is refused with the names of both."""
    shutil.copytree(folder.path, folder.path.parent / "other")
    with pytest.raises(UnreadableInput, match="several models: other, run"):
        read_results(folder.path.parent, subject="x", harness="lm_eval")


def test_an_appended_run_shows_as_samples_twice(folder: Any) -> None:
    """Rows of the same document keep one key, so that the results gate sees them twice."""
    folder.edit_rows("skills_add", lambda rows: rows + rows)
    task = read(folder).task("skills_add")
    assert len(task.samples) == 8
    assert len(set(task.samples.id)) == 4
    assert "scored twice" in task.errors[0]


def test_one_document_twice_in_the_data_set_is_two_samples(folder: Any) -> None:
    """Equal documents with different `doc_id` get different keys, in the order of the file."""

    def double(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*rows, {**rows[0], "doc_id": 4}]

    folder.edit_rows("skills_add", double)
    task = read(folder).task("skills_add")
    assert len(set(task.samples.id)) == 5
    assert task.samples.id[4] == f"{task.samples.id[0]}#2"
    assert task.errors == ()


def test_a_lost_samples_file_leaves_no_count(folder: Any) -> None:
    """Where other tasks logged samples, a task without a file has no number of scored samples."""
    folder.samples("skills_tool").unlink()
    task = read(folder).task("skills_tool")
    assert (task.scored, task.errors) == (None, ("its samples file is missing",))


def test_without_logged_samples_the_counts_remain(folder: Any) -> None:
    """`--log_samples` off: scores without rows, and no error."""
    for task in ("skills_add", "skills_tool"):
        folder.samples(task).unlink()
    task = read(folder).task("skills_add")
    assert (task.scored, len(task.samples), task.errors) == (4, 0, ())


def test_a_limit_makes_the_limited_number_expected(folder: Any) -> None:
    """With `--limit` the effective number was asked for, and the protocol says so."""

    def limit(document: dict[str, Any]) -> None:
        document["config"]["limit"] = 4.0
        document["n-samples"]["skills_add"] = {"original": 250, "effective": 4}

    folder.edit(limit)
    results = read(folder)
    assert results.task("skills_add").expected == 4
    assert results.protocol["limit"] == 4.0


@pytest.mark.parametrize("value", [float("nan"), None, True, "N/A", [1], {}])
def test_a_score_that_is_no_number_becomes_none(folder: Any, value: Any) -> None:
    """Whatever stands in the score's place, it is never 0.0 and says what it was."""
    folder.edit(lambda d: d["results"]["skills_add"].update({"exact_match,none": value}))
    results = read(folder)
    task = results.task("skills_add")
    assert task.score is None
    assert "not a finite number" in task.errors[-1]
    assert results.measurements[0].value is None


@pytest.mark.parametrize(
    ("answer", "score", "state"),
    [
        ([""], 0.0, SampleState.MODEL_FAILURE),
        ([None], 0.0, SampleState.MODEL_FAILURE),
        ([NULL_CONTENT], 0.0, SampleState.MODEL_FAILURE),
        ([], 0.0, SampleState.MODEL_FAILURE),
        ([""], 1.0, SampleState.SCORED),
        (["12"], 0.0, SampleState.SCORED),
        (["12"], None, SampleState.MISSING),
        (["12"], float("nan"), SampleState.MISSING),
        (["12"], "1.0", SampleState.MISSING),
        (["12"], True, SampleState.SCORED),
    ],
)
def test_the_state_of_a_sample(folder: Any, answer: Any, score: Any, state: SampleState) -> None:
    """An empty answer is the model's failure; a row without a score is missing; a boolean row is 0 or 1."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0] |= {"filtered_resps": answer, "exact_match": score}
        return rows

    folder.edit_rows("skills_add", change)
    samples = read(folder).task("skills_add").samples
    assert samples.state[0] is state
    assert (samples.score[0] is None) == (state is SampleState.MISSING)


@pytest.mark.parametrize(
    "junk", [b"{", b"\xff\xfe\n", b"null\n", b"[1,2]\n", b"\x00", b'{"doc_id": 1e999}\n']
)
def test_a_damaged_row_is_an_error_and_no_crash(folder: Any, junk: bytes) -> None:
    """A torn line is named; the other rows are kept."""
    with folder.samples("skills_add").open("ab") as file:
        file.write(junk)
    task = read(folder).task("skills_add")
    assert len(task.samples) >= 4
    assert task.errors or None in task.samples.score


def several_filters(folder: Any) -> None:
    """Make it look as gsm8k does: one metric under two filters."""
    both = ("strict-match", "flexible-extract")

    def change(document: dict[str, Any]) -> None:
        document["results"]["skills_add"] = {
            "alias": "x",
            "exact_match,flexible-extract": 1.0,
            "exact_match_stderr,flexible-extract": 0.0,
            "exact_match,strict-match": 0.75,
            "exact_match_stderr,strict-match": "N/A",
        }
        document["configs"]["skills_add"]["filter_list"] = [{"name": f} for f in both]

    folder.edit(change)
    folder.edit_rows(
        "skills_add",
        lambda rows: [
            {**r, "filter": f, "exact_match": 1.0 if f in both[1] else r["exact_match"]}
            for f in both
            for r in rows
        ],
    )


def test_of_several_filters_the_first_declared_one_counts(folder: Any) -> None:
    """One row per document: those of the chosen filter; the choice is part of the protocol."""
    several_filters(folder)
    results = read(folder)
    task = results.task("skills_add")
    assert (task.metric, task.score, len(task.samples)) == ("exact_match,strict-match", 0.75, 4)
    assert results.protocol["task.skills_add.metric"] == "exact_match,strict-match"
    assert results.facts["other_metrics"] == {"skills_add": ["exact_match,flexible-extract"]}


def test_another_filter_can_be_asked_for(folder: Any) -> None:
    """The caller's metric wins; one that was not computed is refused with those that were."""
    several_filters(folder)
    task = read(folder, metrics={"skills_add": "exact_match,flexible-extract"}).task("skills_add")
    assert (task.score, set(task.samples.score)) == (1.0, {1.0})
    with pytest.raises(UnreadableInput, match="flexible-extract"):
        read(folder, metrics={"skills_add": "f1"})


def test_a_corpus_metric_has_no_rows(folder: Any) -> None:
    """Rows that hold lists (f1, bleu) have no score of their own and do not count as missing."""
    folder.edit_rows("skills_add", lambda rows: [{**r, "exact_match": [1, 0]} for r in rows])
    task = read(folder).task("skills_add")
    assert (len(task.samples), task.errors, task.scored) == (0, (), 4)


def test_lower_is_better_is_taken_from_the_file(folder: Any) -> None:
    """`higher_is_better: false` turns the direction, whatever the table says."""
    folder.edit(lambda d: d["higher_is_better"]["skills_add"].update({"exact_match": False}))
    assert read(folder).task("skills_add").direction is Direction.LOWER


def test_an_unknown_metric_is_inferred_and_marked(folder: Any) -> None:
    """A metric that no table knows gets 0..1 or 0..100 by its score, and the mark `inferred`."""

    def change(document: dict[str, Any]) -> None:
        document["results"]["skills_add"] = {"mystery,none": 37.5}
        document["configs"]["skills_add"]["metric_list"] = []

    folder.edit(change)
    task = read(folder).task("skills_add")
    assert (task.low, task.high, task.scale_source) == (0, 100, "inferred")


def test_a_perplexity_has_no_range(folder: Any) -> None:
    """Low equal to high says that no finite range is known; nothing is invented."""

    def change(document: dict[str, Any]) -> None:
        document["results"]["skills_add"] = {"word_perplexity,none": 12.5}

    folder.edit(change)
    task = read(folder).task("skills_add")
    assert task.low == task.high
    assert task.direction is Direction.LOWER


def test_a_folder_of_a_crashed_run_says_so(folder: Any) -> None:
    """Samples without a results file: lm-eval writes it last."""
    folder.results.unlink()
    with pytest.raises(UnreadableInput, match="crashed or still goes on"):
        read(folder, harness="lm_eval")


def test_one_results_file_can_be_named(folder: Any) -> None:
    """The path of the file does as well as that of its folder."""
    assert STAMP in folder.results.name
    assert read_results(folder.results, subject="candidate") == read(folder)
