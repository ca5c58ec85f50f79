"""Which reader reads what, and that no bytes bring a traceback."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput, UsageError
from assay.core.results import Results, RunStatus
from assay.core.vocabulary import Direction, Provenance, State
from assay.readers.results import read_results
from assay.readers.results.metrics import scale_of

STAMP = "2026-11-20T09-22-33.139497"


def write(path: Path, value: Any) -> Path:
    """Write text as it is, anything else as JSON."""
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_score_file_is_self_reported(tmp_path: Path) -> None:
    """Numbers with nothing behind them; what is no number keeps its state."""
    file = write(tmp_path / "s.json", '{"a": 0.9, "b": null, "c": true, "d": NaN, "e": "high"}')
    results = read_results(file, subject="source")
    assert results.harness == "scores"
    assert results.provenance is Provenance.SELF_REPORTED
    assert [t.score for t in results.tasks] == [0.9, None, None, None, None]
    states = [m.state for m in results.measurements]
    assert states == [State.MEASURED, State.MISSING, State.ERRORED, State.NONFINITE, State.ERRORED]
    assert all(t.scale_source == "inferred" for t in results.tasks)


def test_a_run_summary_is_self_reported_and_literal(tmp_path: Path) -> None:
    """Counts that are none become None; the status words stay as they were written."""
    entry = {
        "status": "success",
        "expected_samples": True,
        "scored_samples": 300.0,
        "score": 57,
        "errors": None,
    }
    file = write(tmp_path / "run.json", {"tasks": {"arc": entry, "x": None}})
    results = read_results(file, subject="source")
    assert (results.harness, results.provenance) == ("run_summary", Provenance.SELF_REPORTED)
    arc, x = results.tasks
    assert (arc.expected, arc.scored, arc.score, arc.errors) == (None, 300, 57, ())
    assert results.facts["status_words"] == {"arc": "success", "x": None}
    assert x.status is RunStatus.UNKNOWN


def test_expected_counts_win_and_absent_tasks_appear(folder: Any) -> None:
    """A task that was asked for and is not there becomes an entry without a score."""
    results = read_results(folder.path, subject="x", expected={"skills_add": 350, "skills_sort": 350})
    add, sort = results.task("skills_add"), results.task("skills_sort")
    assert add is not None
    assert add.expected == 350
    assert sort is not None
    assert (sort.score, sort.scored, sort.expected) == (None, None, 350)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"{",
        b"[1, 2]",
        b'"x"',
        b"3",
        b"\xff\xfe{}",
        b"PK\x03\x04",
        b'{"results": 1, "configs": {}}x',
    ],
)
def test_other_bytes_are_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    """What is no results file is refused in one line that names it."""
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(UnreadableInput) as caught:
        read_results(file, subject="x")
    assert "\n" not in str(caught.value)
    assert "x.json" in str(caught.value)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """A document nested beyond the parser's depth is unreadable, not a crash."""
    for depth in (900, 100_000):
        file = write(tmp_path / "deep.json", '{"results": {}, "configs": ' + "[" * depth + "]" * depth + "}")
        try:
            read_results(file, subject="x")
        except UnreadableInput:
            continue


def test_absent_paths_and_unknown_harnesses(tmp_path: Path) -> None:
    """Both say what would have been right."""
    with pytest.raises(UnreadableInput, match="no such file"):
        read_results(tmp_path / "nowhere", subject="x")
    with pytest.raises(UnreadableInput):
        read_results("bad\0path", subject="x")
    with pytest.raises(UsageError, match=r"lm_eval, inspect_ai, .*run_summary, scores, rows"):
        read_results(tmp_path, subject="x", harness="nemo")
    with pytest.raises(UnreadableInput, match="no results that Assay knows"):
        read_results(tmp_path, subject="x")


@given(st.binary(max_size=200))
def test_no_bytes_bring_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes are Results or UnreadableInput."""
    file = tmp_path_factory.mktemp("any") / "x.json"
    file.write_bytes(content)
    with contextlib.suppress(UnreadableInput):
        assert isinstance(read_results(file, subject="x"), Results)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "results",
        "configs",
        "n-samples",
        "groups",
        "group_subtasks",
        "higher_is_better",
        "config",
        "versions",
        "n-shot",
    ]
)


@given(st.dictionaries(keys, st.dictionaries(st.sampled_from(["a", "b"]), json_values, max_size=2)))
def test_no_json_brings_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    """Any JSON in the shape of lm-eval's, with wrong types inside, is Results that can be digested."""
    folder = tmp_path_factory.mktemp("any")
    document = {"results": {}, "configs": {}, **document}
    (folder / f"results_{STAMP}.json").write_text(json.dumps(document))
    results = read_results(folder, subject="x")
    assert results.content_digest.startswith("sha256:")


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.booleans())
def test_no_summary_brings_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], as_tasks: bool
) -> None:
    """Any JSON object as a score file or a run summary is Results that can be digested, or refused."""
    file = tmp_path_factory.mktemp("any") / "x.json"
    file.write_text(json.dumps({"tasks": document} if as_tasks else document))
    try:
        assert read_results(file, subject="x").content_digest.startswith("sha256:")
    except UnreadableInput:
        assert any(isinstance(v, dict) for v in document.values())


@pytest.mark.parametrize(
    ("metric", "low", "high", "direction"),
    [
        ("exact_match", 0, 1, Direction.HIGHER),
        ("mcc", -1, 1, Direction.HIGHER),
        ("gpqa_pass_at_1_avg-of-16_symbolic_correct", 0, 100, Direction.HIGHER),
        ("omniscience_pass_at_1_avg-of-10_judge_omni_index", -100, 100, Direction.HIGHER),
        ("omniscience_hallucination_rate", 0, 100, Direction.LOWER),
        ("tau2_bench_telecom_pass_at_1", 0, 1, Direction.HIGHER),
        ("AIME_2025_score_micro_avg_of_64", 0, 1, Direction.HIGHER),
    ],
)
def test_the_metric_table(metric: str, low: float, high: float, direction: Direction) -> None:
    """Known metrics have their declared range, whatever the score is."""
    scale = scale_of(metric, 0.5)
    assert (scale.low, scale.high, scale.direction, scale.source) == (low, high, direction, "table")
