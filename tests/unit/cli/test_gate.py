"""`assay gate`: the source system's summaries and real files, and whatever else may lie there."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli_call import MODEL, ROOT, Call, Said

KEYS = {"gate", "status", "pass", "failure_class", "decision", "detail", "reasons", "provenance", "schema"}
CODES = {0, 1, 2, 4, 5}
NO, CONFIG = "QUANT_COVERAGE_FAILURE", "USER_CONFIG_ERROR"
ACCOUNTING, JUDGE, INFRA, UNKNOWN = (
    "SAMPLE_ACCOUNTING_FAILED",
    "EVAL_JUDGE_FAILED",
    "INFRA_TRANSIENT",
    "UNKNOWN",
)
NAN = math.nan


def no_constant(word: str) -> None:
    """NaN and Infinity are no JSON: whoever reads the verdict may be strict."""
    pytest.fail(f"{word} on stdout")


def verdict(said: Said) -> dict[str, Any]:
    """The one JSON verdict of a call, checked for its form."""
    value: dict[str, Any] = json.loads(said.out, parse_constant=no_constant)
    assert value.keys() >= KEYS
    assert value["schema"] == "verdict/1"
    assert value["pass"] is (value["status"] == "PASS")
    assert value["pass"] is (said.code == 0)
    assert said.code in CODES
    assert value["pass"] or value["decision"] != "ACCEPT"
    return value


def put(folder: Path, name: str, value: Any) -> Path:
    """A JSON file."""
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


# -- checkpoint --summary: facts/release.md §1.2, §1.8 -------------------------------------------------

COUNTS = {
    "NVFP4": 0,
    "FP8": 196,
    "INT4": 0,
    "BF16_or_excluded": 1,
    "unexpected_unquantized": 0,
    "declaration_mismatch": 0,
}
SUMMARY = {
    "source_bytes": 1_503_300_000,
    "output_bytes": 751_600_000,
    "recipe": "fp8",
    "layer_precision_counts": COUNTS,
    "metadata_diffs": [],
}


def summary(**changes: Any) -> dict[str, Any]:
    """The summary of the source's own run, changed; a lower-case key is the summary's, another a count."""
    counts = {**COUNTS, **{k: v for k, v in changes.items() if k in COUNTS}}
    rest = {k: v for k, v in changes.items() if k not in COUNTS}
    return {**SUMMARY, "layer_precision_counts": counts, **rest}


NVFP4 = {"recipe": "nvfp4", "output_bytes": 500_000_000, "NVFP4": 196, "FP8": 0}
SUMMARIES: dict[str, tuple[Any, str | None]] = {
    "as it should be": (summary(), None),
    "upper case": (summary(recipe="FP8"), None),
    "nvfp4": (summary(**NVFP4), None),
    "nvfp4_mlp_only": (summary(**{**NVFP4, "recipe": "nvfp4_mlp_only", "BF16_or_excluded": 112}), None),
    "nvfp4_experts_only": (summary(**{**NVFP4, "recipe": "nvfp4_experts_only"}), None),
    "nvfp4_omlp_only": (summary(**{**NVFP4, "recipe": "nvfp4_omlp_only"}), None),
    "int4_awq": (summary(recipe="int4_awq", output_bytes=480_000_000, INT4=196, FP8=0), None),
    "source_bytes missing": (summary(source_bytes=None), CONFIG),
    "output_bytes missing": ({k: v for k, v in summary().items() if k != "output_bytes"}, CONFIG),
    "not smaller": (summary(output_bytes=1_503_300_000), NO),
    "larger": (summary(output_bytes=2_000_000_000), NO),
    "recipe unknown": (summary(recipe="w4a16"), CONFIG),
    "recipe missing": (summary(recipe=None), CONFIG),
    "bucket empty": (summary(recipe="nvfp4_experts_only"), "MODEL_UNSUPPORTED"),
    "unquantized": (summary(unexpected_unquantized=3), NO),
    "mismatch": (summary(declaration_mismatch=1), NO),
    "metadata": (summary(metadata_diffs=["rope_scaling lost"]), NO),
    "unsupported before coverage": (summary(FP8=0, unexpected_unquantized=196), "MODEL_UNSUPPORTED"),
    "coverage before configuration": (summary(source_bytes=None, declaration_mismatch=1), NO),
    "hole: output 0": (summary(output_bytes=0), CONFIG),
    "hole: output negative": (summary(output_bytes=-1), CONFIG),
    "hole: output false": (summary(output_bytes=False), CONFIG),
    "hole: source NaN": (summary(source_bytes=NAN), CONFIG),
    "hole: ratio 0.99": (summary(output_bytes=1_488_000_000), NO),
    "hole: 1 covered, 226 excluded": (summary(**{**NVFP4, "NVFP4": 1, "BF16_or_excluded": 226}), NO),
    "hole: bucket as text": (summary(FP8="196"), CONFIG),
    "hole: count as text": (summary(unexpected_unquantized="many"), CONFIG),
    "hole: counts as a list": (summary(layer_precision_counts=[1, 2]), CONFIG),
    "hole: a list": ([1, 2], CONFIG),
    "nothing": ({}, CONFIG),
    "null": (None, CONFIG),
}


@pytest.mark.parametrize("label", SUMMARIES)
def test_checkpoint_summary(assay: Call, tmp_path: Path, label: str) -> None:
    """The seed's verdicts stay, its holes are closed, and it is marked as told by somebody."""
    value, failure = SUMMARIES[label]
    found = verdict(assay("gate", "checkpoint", "--summary", put(tmp_path, "s.json", value)))
    assert (found["pass"], found["failure_class"]) == (failure is None, failure)
    assert found["provenance"] == "self_reported"


def test_recipe_overrides_the_recorded_one(assay: Call, tmp_path: Path) -> None:
    """`--recipe` says what was wanted, whatever the summary recorded."""
    file = put(tmp_path, "s.json", summary())
    found = verdict(assay("gate", "checkpoint", "--summary", file, "--recipe", "nvfp4"))
    assert found["failure_class"] == "MODEL_UNSUPPORTED"


# -- results --run: §1.3, §1.7, §1.8 -------------------------------------------------------------------


def run_of(**changes: Any) -> dict[str, Any]:
    """A run of one good task and one that is changed."""
    good = {"status": "SUCCESS", "expected_samples": 300, "scored_samples": 300, "score": 54.0, "errors": []}
    return {"tasks": {"good": good, "task": {**good, **changes}}}


RUNS: dict[str, tuple[Any, str | None]] = {
    "as it should be": (run_of(), None),
    "launcher's spelling": (run_of(status="success"), None),
    "judge": (run_of(status="FAILED", errors=["judge timed out"]), JUDGE),
    "rate limit": (run_of(errors=["Rate limit reached"]), JUDGE),
    "unauthorized": (run_of(errors=["401 Unauthorized"]), JUDGE),
    "judge before accounting": (run_of(scored_samples=1, errors=["judge failed"]), JUDGE),
    "timeout": (run_of(status="TIMEOUT"), INFRA),
    "resuming": (run_of(status="RESUMING"), INFRA),
    "running": (run_of(status="RUNNING"), INFRA),
    "pending": (run_of(status="PENDING", score=None), INFRA),
    "counts differ": (run_of(scored_samples=299), ACCOUNTING),
    "no score": (run_of(score=None), ACCOUNTING),
    "NaN": (run_of(score=NAN), ACCOUNTING),
    "infinite": (run_of(score=math.inf), ACCOUNTING),
    "score as text": (run_of(score="54"), ACCOUNTING),
    "score as bool": (run_of(score=True), ACCOUNTING),
    "failed": (run_of(status="FAILED"), UNKNOWN),
    "other error": (run_of(errors=["segmentation fault"]), UNKNOWN),
    "no tasks": ({"tasks": {}}, CONFIG),
    "tasks missing": ({}, CONFIG),
    "hole: counts null": (run_of(expected_samples=None, scored_samples=None), ACCOUNTING),
    "hole: counts zero": (run_of(expected_samples=0, scored_samples=0), ACCOUNTING),
    "hole: counts negative": (run_of(expected_samples=-3, scored_samples=-3), ACCOUNTING),
    "hole: counts bool": (run_of(expected_samples=True, scored_samples=True), ACCOUNTING),
    "hole: author is no auth": (run_of(status="FAILED", errors=["author not found"]), UNKNOWN),
    "hole: server unhealthy": (
        run_of(status="FAILED", scored_samples=0, errors=["server health check failed"]),
        "DEPLOYMENT_HEALTH_FAILED",
    ),
    "hole: null task": ({"tasks": {"task": None}}, ACCOUNTING),
    "hole: killed": (run_of(status="KILLED"), INFRA),
    "a list": ([], CONFIG),
    "tasks as a list": ({"tasks": []}, CONFIG),
}


@pytest.mark.parametrize("label", RUNS)
def test_run_summary(assay: Call, tmp_path: Path, label: str) -> None:
    """One bad task fails the run, with the class that says what to do."""
    value, failure = RUNS[label]
    said = assay("gate", "results", "--run", put(tmp_path, "r.json", value))
    found = verdict(said)
    assert (found["pass"], found["failure_class"]) == (failure is None, failure)
    if label in {"running", "pending", "resuming"}:  # not yet is not bad
        assert said.code == 4


# -- compare: §1.4, §1.7, §1.8, §7 ---------------------------------------------------------------------

COMPARED: dict[str, tuple[Any, Any, tuple[str, ...], str, str | None]] = {
    "within": ({"a": 57.0}, {"a": 56.5}, (), "ACCEPT", None),
    "boundary, percent": ({"a": 90}, {"a": 89}, (), "ACCEPT", None),
    "boundary, fraction": ({"a": 0.90}, {"a": 0.89}, (), "ACCEPT", None),
    "beyond": ({"a": 57.0}, {"a": 54.0}, (), "REGRESSION", None),
    "one of two": ({"a": 0.9, "b": 0.9}, {"a": 0.9, "b": 0.8}, (), "REGRESSION", None),
    "threshold": ({"a": 57.0}, {"a": 54.0}, ("--threshold", "0.05"), "ACCEPT", None),
    "relative": ({"a": 0.20}, {"a": 0.195}, ("--relative",), "REGRESSION", None),
    "absolute": ({"a": 0.20}, {"a": 0.195}, (), "ACCEPT", None),
    "tau2 falls": ({"a": 1.0}, {"a": 0.0}, (), "REGRESSION", None),
    "declared scale": ({"a": 0.9}, {"a": 0.5}, ("--scales", '{"a": 100}'), "ACCEPT", None),
    "hard task in percent": ({"a": 0.9}, {"a": 0.5}, (), "REGRESSION", None),
    "gain": ({"a": 0.50}, {"a": 0.56}, (), "ANOMALOUS", UNKNOWN),
    "gain of five points": ({"a": 0.50}, {"a": 0.55}, (), "ACCEPT", None),
    "text": ({"a": "x"}, {"a": 0.5}, (), "ANOMALOUS", UNKNOWN),
    "bool": ({"a": True}, {"a": 1.0}, (), "ANOMALOUS", UNKNOWN),
    "null": ({"a": 0.5}, {"a": None}, (), "ANOMALOUS", UNKNOWN),
    "NaN": ({"a": 0.5}, {"a": NAN}, (), "ANOMALOUS", UNKNOWN),
    "above 100": ({"a": 50}, {"a": 101}, (), "ANOMALOUS", None),
    "other tasks": ({"a": 0.5}, {"b": 0.5}, (), "ANOMALOUS", ACCOUNTING),
    "task lost": ({"a": 0.5, "b": 0.5}, {"a": 0.5}, (), "ANOMALOUS", ACCOUNTING),
    "nothing": ({}, {}, (), "ANOMALOUS", CONFIG),
    "anomaly before regression": ({"a": 0.9, "b": 0.1}, {"a": 0.1, "b": None}, (), "ANOMALOUS", UNKNOWN),
    "hole: zero and zero": ({"a": 0.0}, {"a": 0.0}, (), "ANOMALOUS", UNKNOWN),
    "hole: negative, declared": (
        {"omniscience": -12.0},
        {"omniscience": -13.0},
        ("--ranges", '{"omniscience": [-100, 100]}'),
        "ACCEPT",
        None,
    ),
    "hole: negative, falls": (
        {"omniscience": -12.0},
        {"omniscience": -22.0},
        ("--ranges", '{"omniscience": [-100, 100]}'),
        "REGRESSION",
        None,
    ),
    "negative, undeclared": ({"a": -12.0}, {"a": -13.0}, (), "ANOMALOUS", None),
    "hole: lower is better, rises": (
        {"hallucination": 0.10},
        {"hallucination": 0.20},
        ("--directions", '{"hallucination": "lower"}'),
        "REGRESSION",
        None,
    ),
    "hole: lower is better, falls": (
        {"hallucination": 0.13},
        {"hallucination": 0.10},
        ("--directions", '{"hallucination": "lower"}'),
        "ACCEPT",
        None,
    ),
    "no threshold": ({"a": 0.5}, {"a": 0.5}, ("--threshold", "null"), "INCONCLUSIVE", None),
    "no threshold, worse": ({"a": 0.9}, {"a": 0.1}, ("--threshold", "null"), "INCONCLUSIVE", None),
    "no threshold, anomalous": ({"a": 0.9}, {"a": None}, ("--threshold", "null"), "ANOMALOUS", UNKNOWN),
    "bad scale": ({"a": 0.5}, {"a": 0.5}, ("--scales", '{"a": 0}'), "ANOMALOUS", CONFIG),
    "bad range": ({"a": 0.5}, {"a": 0.5}, ("--ranges", '{"a": [1, 0]}'), "ANOMALOUS", CONFIG),
    "bad direction": ({"a": 0.5}, {"a": 0.5}, ("--directions", '{"a": "up"}'), "ANOMALOUS", CONFIG),
    "bad threshold": ({"a": 0.5}, {"a": 0.5}, ("--threshold", "much"), "ANOMALOUS", CONFIG),
    "NaN threshold": ({"a": 0.5}, {"a": 0.5}, ("--threshold", "nan"), "ANOMALOUS", CONFIG),
    "no JSON": ({"a": 0.5}, {"a": 0.5}, ("--scales", "{"), "ANOMALOUS", CONFIG),
    "paired without pairs": ({"a": 0.5}, {"a": 0.5}, ("--policy", "paired"), "ANOMALOUS", CONFIG),
    "unknown policy": ({"a": 0.5}, {"a": 0.5}, ("--policy", "hope"), "ANOMALOUS", CONFIG),
    "two lists": ([1], [1], (), "ANOMALOUS", CONFIG),
}
EXIT = {"ACCEPT": {0}, "REGRESSION": {1}, "INCONCLUSIVE": {4}, "ANOMALOUS": {2, 5}}


@pytest.mark.parametrize("label", COMPARED)
def test_compare_scores(assay: Call, tmp_path: Path, label: str) -> None:
    """The source's rule, in decimal, with declared scale, range and direction."""
    baseline, candidate, options, decision, failure = COMPARED[label]
    files = put(tmp_path, "b.json", baseline), put(tmp_path, "c.json", candidate)
    said = assay("gate", "compare", "--baseline", files[0], "--candidate", files[1], *options)
    found = verdict(said)
    assert found["decision"] == decision, found["detail"]
    assert failure is None or found["failure_class"] == failure
    assert said.code in EXIT[decision]


def test_regression_carries_no_failure_class(assay: Call, tmp_path: Path) -> None:
    """Worse is not broken."""
    files = put(tmp_path, "b.json", {"a": 0.9}), put(tmp_path, "c.json", {"a": 0.1})
    found = verdict(assay("gate", "compare", "--baseline", files[0], "--candidate", files[1]))
    assert found["failure_class"] is None


def test_options_may_be_files(assay: Call, tmp_path: Path) -> None:
    """`--ranges FILE` reads the JSON from there."""
    files = put(tmp_path, "b.json", {"a": -5}), put(tmp_path, "c.json", {"a": -5})
    ranges = put(tmp_path, "ranges.json", {"a": [-100, 100]})
    found = verdict(
        assay("gate", "compare", "--baseline", files[0], "--candidate", files[1], "--ranges", ranges)
    )
    assert found["decision"] == "ACCEPT"


# -- what is missing or cannot be read ------------------------------------------------------------------

MISSING = (
    ("checkpoint",),
    ("checkpoint", "DIR"),
    ("checkpoint", "nowhere", "--source", "nowhere"),
    ("checkpoint", "--summary", "nowhere"),
    ("checkpoint", "--summary", "."),
    ("checkpoint", "--no-such-option"),
    ("results",),
    ("results", "nowhere"),
    ("results", "--run", "nowhere"),
    ("results", ".", "--expect", "a"),
    ("results", ".", "--expect", "=3"),
    ("results", ".", "--harness", "nobody"),
    ("results", "a", "b"),
    ("compare",),
    ("compare", "--baseline", "nowhere"),
    ("compare", "--baseline", "nowhere", "--candidate", "nowhere"),
    ("compare", "--baseline", ".", "--candidate", "."),
    ("compare", "--baseline", ".", "--candidate", ".", "--margin", "x"),
    ("compare", "--baseline", "\0", "--candidate", "\0"),
    ("results", "\0"),
    ("checkpoint", "\0", "--source", "\0"),
)


@pytest.mark.parametrize("arguments", MISSING)
def test_missing_file_or_option(assay: Call, arguments: tuple[str, ...]) -> None:
    """A JSON verdict, `pass: false`, USER_CONFIG_ERROR, exit 2, nothing on stderr."""
    said = assay("gate", *arguments)
    found = verdict(said)
    assert (said.code, found["failure_class"], said.err) == (2, CONFIG, "")
    assert found["detail"]


def test_key_twice(assay: Call, tmp_path: Path) -> None:
    """Two values under one key: nobody knows which is meant."""
    (tmp_path / "b.json").write_text('{"a": 0.1, "a": 0.9}')
    said = assay("gate", "compare", "--baseline", "b.json", "--candidate", "b.json")
    assert (said.code, verdict(said)["failure_class"]) == (2, CONFIG)


# -- anything at all ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TASKS = st.dictionaries(
    st.sampled_from(["a", "b", "status", "score", "tasks", "expected_samples", "scored_samples", "errors"]),
    JSON,
    max_size=6,
)
SUMMARYLIKE = st.dictionaries(st.sampled_from([*SUMMARY, *COUNTS]), JSON, max_size=8)
LIKELY = (
    TASKS
    | SUMMARYLIKE
    | TASKS.map(lambda t: {"tasks": {"a": t}})
    | SUMMARYLIKE.map(lambda t: {**SUMMARY, **t})
    | TASKS.map(
        lambda t: {
            "results": {"a": t},
            "configs": {"a": t},
            "higher_is_better": {"a": t},
            "n-samples": {"a": t},
        }
    )
)
BYTES = st.binary(max_size=64) | (JSON | LIKELY).map(lambda v: json.dumps(v).encode("utf-8", "surrogatepass"))
CALLS = (
    ("checkpoint", "--summary", "{0}"),
    ("checkpoint", "--summary", "{0}", "--recipe", "fp8"),
    ("checkpoint", "{0}", "--source", "{1}"),
    ("checkpoint", "{0}", "--source", str(MODEL)),
    ("results", "--run", "{0}"),
    ("results", "{0}"),
    ("compare", "--baseline", "{0}", "--candidate", "{1}"),
    ("compare", "--baseline", "{0}", "--candidate", "{0}", "--policy", "point", "--threshold", "null"),
    ("compare", "--baseline", "{s}", "--candidate", "{s}", "--scales", "{0}"),
    ("compare", "--baseline", "{s}", "--candidate", "{s}", "--ranges", "{0}", "--directions", "{1}"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(call=st.sampled_from(CALLS), first=BYTES, second=BYTES)
def test_any_bytes_give_a_verdict(
    assay: Call, tmp_path: Path, call: tuple[str, ...], first: bytes, second: bytes
) -> None:
    """Whatever lies in the files: one JSON verdict on stdout, a known exit code, no traceback."""
    (tmp_path / "0").write_bytes(first)
    (tmp_path / "1").write_bytes(second)
    put(tmp_path, "s", {"a": 0.5})
    words = [w.format(tmp_path / "0", tmp_path / "1", s=tmp_path / "s") for w in call]
    verdict(assay("gate", *words))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=BYTES, rows=BYTES)
def test_any_bytes_in_a_results_folder(assay: Call, tmp_path: Path, data: bytes, rows: bytes) -> None:
    """A folder that looks like lm-eval's and holds anything."""
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    (folder / "results_2026-01-01.json").write_bytes(data)
    (folder / "samples_a_2026-01-01.jsonl").write_bytes(rows)
    verdict(assay("gate", "results", folder))
    verdict(assay("gate", "compare", "--baseline", folder, "--candidate", folder))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=BYTES, config=BYTES, name=st.sampled_from(["model.safetensors", "model.gguf"]))
def test_any_bytes_in_a_checkpoint(
    assay: Call, tmp_path: Path, data: bytes, config: bytes, name: str
) -> None:
    """A folder that looks like a checkpoint and holds anything."""
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / name).write_bytes(data)
    (folder / "config.json").write_bytes(config)
    verdict(assay("gate", "checkpoint", folder, "--source", MODEL))


# -- real files -----------------------------------------------------------------------------------------

RECORDED = ROOT / "tests" / "recorded" / "results" / "lm_eval_chat"
TRAPS = ROOT / "examples" / "traps"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two whole evaluations, made of the few rows of a recorded one that are kept here."""
    (file,) = RECORDED.glob("results_*.json")
    document = json.loads(file.read_text())
    samples = {f.name.split("_2026")[0].removeprefix("samples_"): f for f in RECORDED.glob("samples_*.jsonl")}
    document |= {"groups": {}, "group_subtasks": {}, "config": {**document["config"], "limit": None}}
    document["results"] = {task: row for task, row in document["results"].items() if task in samples}
    for task, rows in samples.items():
        scores = [json.loads(line)["exact_match"] for line in rows.read_text().splitlines()]
        document["results"][task]["exact_match,none"] = sum(scores) / len(scores)
        document["n-samples"][task] = {"original": len(scores), "effective": len(scores)}
    made = tmp_path / "baseline", tmp_path / "candidate"
    for folder in made:
        folder.mkdir()
        put(folder, file.name, document)
        for rows in samples.values():
            shutil.copy(rows, folder)
    return made


def test_compare_folders(assay: Call, folders: tuple[Path, Path]) -> None:
    """Two folders are paired by default; a handful of pairs decides nothing, and it says how many would."""
    said = assay("gate", "compare", "--baseline", folders[0], "--candidate", folders[1])
    found = verdict(said)
    assert (found["decision"], found["provenance"]) == ("INCONCLUSIVE", "measured"), found["detail"]
    assert found["needed"] > 100
    assert found["policy"] == "paired"
    assert said.code == 4


def test_compare_folders_by_point(assay: Call, folders: tuple[Path, Path]) -> None:
    """The same folders by the source's rule: equal numbers are accepted."""
    options = ("--policy", "point", "--threshold", "0.01")
    said = assay("gate", "compare", "--baseline", folders[0], "--candidate", folders[1], *options)
    assert (said.code, verdict(said)["decision"]) == (0, "ACCEPT")


def test_no_threshold_decides_nothing_for_pairs_either(assay: Call, folders: tuple[Path, Path]) -> None:
    """`--threshold null` over folders shows the figures and invents no word; with a margin it decides."""
    line = ("gate", "compare", "--baseline", folders[0], "--candidate", folders[1], "--threshold", "null")
    said = assay(*line)
    found = verdict(said)
    assert (said.code, found["decision"]) == (4, "INCONCLUSIVE")
    assert "no threshold" in found["detail"]
    assert {e["margin"] for e in found["estimates"]} == {None}
    assert verdict(assay(*line, "--margin", "0.9"))["decision"] == "ACCEPT"


def test_lost_rows_fail_the_results_gate(assay: Call, folders: tuple[Path, Path]) -> None:
    """A harness that left rows out is not compared at all."""
    file = next(folders[1].glob("samples_skills_add*.jsonl"))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    found = verdict(assay("gate", "compare", "--baseline", folders[0], "--candidate", folders[1]))
    assert (found["gate"], found["failure_class"]) == ("results", ACCOUNTING)


def test_expected_counts(assay: Call, folders: tuple[Path, Path]) -> None:
    """`--expect TASK=N` holds the run against what was asked for."""
    assert verdict(assay("gate", "results", folders[0], "--expect", "skills_add=4"))["pass"]
    found = verdict(assay("gate", "results", folders[0], "--expect", "skills_add=350"))
    assert found["failure_class"] == ACCOUNTING


@pytest.mark.parametrize(
    ("trap", "options"),
    [
        ("four-bit-in-name-only", ()),
        ("head-quantized", ("--recipe", "W4A16")),
        ("modelopt-without-scales", ("--engine", "transformers")),
        ("nf4-after-forward", ()),
        ("tokenizer-leak", ()),
    ],
)
def test_traps_are_caught(assay: Call, trap: str, options: tuple[str, ...]) -> None:
    """Each silent defect of the examples is refused, measured and not told."""
    said = assay("gate", "checkpoint", TRAPS / trap / "checkpoint", "--source", MODEL, *options)
    found = verdict(said)
    assert said.code == 1
    assert found["provenance"] == "measured"
    assert found["reads"].keys() == {"source.checkpoint", "candidate.checkpoint"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "recipe"), [("gguf", "Q8_0"), ("compressed_tensors", "W4A16")])
def test_built_checkpoint_by_the_executable(tmp_path: Path, kind: str, recipe: str) -> None:
    """A checkpoint that a real toolkit wrote passes under its own recipe and fails under another."""
    option = {"gguf": "type", "compressed_tensors": "scheme"}[kind]
    job = {"source": str(MODEL), "out": str(tmp_path / "out"), "result": str(tmp_path / "result.json")}
    put(tmp_path, "job.json", {**job, "options": {option: recipe}, "seed": 0, "threads": 1})
    worker = ROOT / "src" / "assay" / "workers" / f"quantize_{kind}.py"
    subprocess.run([sys.executable, worker, tmp_path / "job.json"], check=True, capture_output=True)
    for wanted, code in ((recipe, 0), ("fp8", 1)):
        line = ("gate", "checkpoint", str(tmp_path / "out"), "--source", str(MODEL), "--recipe", wanted)
        done = subprocess.run(
            [sys.executable, "-m", "assay", *line], capture_output=True, text=True, check=False
        )
        found = verdict(Said(done.returncode, done.stdout, done.stderr))
        assert done.returncode == code, found["detail"]
        assert found["provenance"] == "measured"
