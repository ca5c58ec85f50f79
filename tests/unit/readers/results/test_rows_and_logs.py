"""Columns of rows, the two parsers, the words of logs, and the summary that `assay show-results` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.cli.results import show_results
from assay.core.results import Results, RunStatus, Samples, SampleState, TaskResult
from assay.readers.results.harness import Damaged
from assay.readers.results.logs import scan
from assay.readers.results.rows import Columns, parse_row

GOOD = Path(__file__).parents[3] / "known_good" / "results"


def test_absent_columns_leave_no_trace_in_the_document() -> None:
    """Evidence that was stored before a column existed keeps its digest and reads back."""
    columns = Columns()
    columns.add("a", score=1.0)
    old = Results(
        subject="x", harness="h", tasks=(TaskResult(task="t", metric="m", samples=columns.samples()),)
    )
    stored = old.to_json()["tasks"][0]["samples"]
    assert set(stored) == {"id", "repeat", "prompt", "score", "state", "output"}
    assert Results.from_json(json.loads(json.dumps(old.to_json()))) == old


def test_a_column_that_starts_late_is_filled() -> None:
    """A row without a word has none; a column has one cell a row or none at all."""
    columns = Columns()
    columns.add("a", score=1.0)
    columns.add("b", score=None, tokens=3, cluster="x")
    columns.add("c", score=0.0, finish_reason="stop")
    columns.add("d", score=0.5, state=SampleState.INFRA_FAILURE)
    samples = columns.samples()
    assert samples.tokens == (None, 3, None, None)
    assert samples.finish_reason == ("", "", "stop", "")
    assert samples.cluster == ("", "x", "", "")
    assert samples.state[1] is SampleState.MISSING
    assert samples.score == (1.0, None, 0.0, None)
    with pytest.raises(ValueError, match="different length"):
        Samples(**{**samples.model_dump(), "tokens": (1,)})


@pytest.mark.parametrize(
    ("word", "status"),
    [("Success", RunStatus.SUCCESS), ("CANCELLED", RunStatus.KILLED), ("node fail", RunStatus.KILLED),
     ("started", RunStatus.RUNNING), ("PREEMPTED", RunStatus.PENDING), ("not-found", RunStatus.UNKNOWN),
     (None, RunStatus.UNKNOWN), (1, RunStatus.UNKNOWN)],
)  # fmt: skip
def test_status_words(word: object, status: RunStatus) -> None:
    """Spellings of launchers, case-blind."""
    assert RunStatus.of(word) is status


def test_a_row_that_is_none_is_damaged() -> None:
    """Lists, texts and torn lines are no rows; a bare NaN is a value."""
    for line in (b"[1]", b'"x"', b"{", b"\xff"):
        assert isinstance(parse_row(line), Damaged)
    assert repr(parse_row(b'{"a": NaN}')) == "{'a': nan}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ERROR judge call failed: 401 Unauthorized", True),
        ("openai.AuthenticationError: Error code: 401 - Incorrect API key", True),
        ("CRITICAL server died", True),
        ("slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***", True),
        ("RuntimeError: CUDA error: no kernel image is available", True),
        ("Killed", True),
        ("ERROR 404 The model `x` does not exist", True),
        ("INFO the author of the judge's handbook", False),
        ("ERROR the author is missing", False),
        ("WARNING rate limit, will retry: 429", False),
        ("ERROR 401 from the judge, retrying (attempt 1/5)", False),
        ("INFO judge answered 401 times", False),
        ("ERROR could not draw the progress bar", False),
        ("authoritative errors: none", False),
    ],
)
def test_logs_tell_of_real_failures_alone(tmp_path: Path, line: str, found: bool) -> None:
    """An error by its level or shape, of a kind that spoils scores, and not one that was tried again."""
    file = tmp_path / "client.log"
    file.write_text(f"INFO start\n{line}\n{line}\n")
    (tmp_path / "notes.txt").write_text(line)
    told, telling = scan([file, tmp_path / "notes.txt", tmp_path / "absent.log"])
    assert bool(told) is found
    if found:
        assert (told[0]["count"], telling) == (2, [file])


def test_show_results_for_people_and_scripts() -> None:
    """One prints what was found, the other is `results/1` without the rows."""
    people = CliRunner().invoke(show_results, [str(GOOD / "nemo_bundle")])
    assert people.exit_code == 0
    assert "mini_gpqa" in people.output
    assert "24 scored" in people.output
    scripts = CliRunner().invoke(show_results, [str(GOOD / "nemo_bundle"), "--json"])
    value = json.loads(scripts.output)
    assert (value["schema"], value["harness"], value["tasks"][0]["rows"]) == ("results/1", "nemo_bundle", 24)
    assert value["tasks"][0]["states"] == {"scored": 24}
    assert "samples" not in value["tasks"][0]
