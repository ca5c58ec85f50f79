"""No bytes and no JSON bring a traceback: every reader answers with Results that can be stored, or UnreadableInput."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import UnreadableInput
from assay.core.results import Results
from assay.gates.results import ResultsGate
from assay.readers.results import READERS, read_results

NAMES = [reader.name for reader in READERS]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["C", "I", "success", "length", "0", 10**400, -1, 1e308])
)
WORDS = st.sampled_from(
    [
        "results", "eval", "status", "samples", "id", "score", "scores", "value", "task", "config", "epoch", "error",
        "output", "choices", "benchmark", "name", "n_results", "run_id", "problem_idx", "repeat", "reward", "stats",
        "scoring_details", "judge", "metrics", "tasks", "pass@1", "num_entries", "symbolic_correct", "epochs",
        "adapter_spec", "request_states", "instance_id", "mean", "gradingResult", "testIdx", "response", "success",
        "dataset", "sample_ids", "header", "limit", "messages", "explanation", "metadata", "usage", "output_tokens",
    ]
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(path: Path, harness: str | None = None) -> None:
    """Read it; what comes back can be stored, judged, and read back."""
    try:
        results = read_results(path, subject="x", harness=harness)
    except UnreadableInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - both endings are right
        return
    assert isinstance(results, Results)
    assert results.content_digest.startswith("sha256:")
    assert Results.from_json(json.loads(json.dumps(results.to_json()))) == results
    assert ResultsGate().judge({"results": results}).content_digest


@given(
    st.binary(max_size=300),
    st.sampled_from(NAMES),
    st.sampled_from(["x.json", "x.jsonl", "x.eval", "x.csv", "x.xml"]),
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, harness: str, name: str) -> None:
    """Arbitrary bytes, found by content or forced upon each reader."""
    file = tmp_path_factory.mktemp("any") / name
    file.write_bytes(content)
    outcome(file)
    outcome(file, harness)


def documents(shape: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Documents with the keys by which a harness is known, and anything under them."""
    return st.fixed_dictionaries(
        {k: v if isinstance(v, st.SearchStrategy) else anything for k, v in shape.items()}
    )


score = st.fixed_dictionaries(
    {"name": st.text(max_size=3), "metrics": st.dictionaries(st.text(max_size=3), anything, max_size=2)}
)
SHAPES = {
    "inspect_ai": documents({
        "status": scalars, "eval": st.fixed_dictionaries({"task": scalars, "run_id": scalars}, optional={
            "dataset": anything, "config": anything, "model_roles": anything, "packages": anything,
            "scorers": anything, "model_generate_config": anything, "created": scalars}),
        "results": st.fixed_dictionaries({"scores": st.lists(score | anything, max_size=2), "headline": anything}),
        "samples": st.lists(st.dictionaries(WORDS, anything, max_size=5) | anything, max_size=3), "error": anything,
        "plan": anything}),
    "nemo_bundle": documents({
        "run_id": scalars, "n_results": scalars, "config": anything, "sdk_version": scalars,
        "benchmark": st.fixed_dictionaries({"scores": anything}, optional={
            "name": scalars, "samples": scalars, "repeats": scalars})}),
    "nemo_skills": st.dictionaries(st.text(max_size=4), st.dictionaries(
        st.sampled_from(["pass@1", "pass@1[avg-of-2]", "majority@2", "x"]),
        st.fixed_dictionaries({"num_entries": scalars}, optional={"symbolic_correct": scalars, "judge_correct": scalars}),
        max_size=3) | anything, max_size=3),
    "promptfoo": documents({
        "results": st.fixed_dictionaries({
            "stats": anything, "prompts": anything,
            "results": st.lists(st.fixed_dictionaries({"success": scalars}, optional={
                "score": scalars, "gradingResult": anything, "response": anything, "testIdx": anything,
                "failureReason": scalars, "error": anything, "testCase": anything, "vars": anything}), max_size=3)}),
        "config": anything}),
}  # fmt: skip


@pytest.mark.parametrize("harness", SHAPES)
@given(data=st.data())
def test_any_document_in_the_shape_of_a_harness(
    tmp_path_factory: pytest.TempPathFactory, harness: str, data: st.DataObject
) -> None:
    """Wrong types anywhere inside a document of the right shape."""
    folder = tmp_path_factory.mktemp("any")
    file = folder / {"nemo_skills": "metrics.json", "nemo_bundle": "eval-1.json"}.get(harness, "x.json")
    file.write_text(json.dumps(data.draw(SHAPES[harness])))
    outcome(file)
    outcome(folder, harness)


rows = st.lists(st.dictionaries(WORDS, anything, max_size=6) | anything, max_size=4)


@given(rows, rows)
def test_any_rows(tmp_path_factory: pytest.TempPathFactory, first: list[Any], second: list[Any]) -> None:
    """Rows of any shape beside documents of the right one."""
    folder = tmp_path_factory.mktemp("any")
    bundle = {"run_id": "eval-1", "benchmark": {"name": "b", "scores": {"mean_reward": 0.5}}, "n_results": 2}
    (folder / "eval-1.json").write_text(json.dumps(bundle))
    (folder / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in first))
    (folder / "output-rs1.jsonl").write_text("".join(json.dumps(r) + "\n" for r in second))
    (folder / "metrics.json").write_text('{"t": {"pass@1": {"num_entries": 2, "symbolic_correct": 50.0}}}')
    for harness in ("nemo_bundle", "nemo_skills", "rows"):
        outcome(folder, harness)


@given(anything, anything, anything, anything)
def test_any_helm_run(
    tmp_path_factory: pytest.TempPathFactory, spec: Any, stats: Any, instances: Any, state: Any
) -> None:
    """The four files of a run hold anything."""
    folder = tmp_path_factory.mktemp("any")
    parts = {"run_spec": spec, "stats": stats, "per_instance_stats": instances, "scenario_state": state}
    for name, value in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    outcome(folder)


yaml_text = st.recursive(
    st.sampled_from(
        [
            "1",
            "a",
            "null",
            "2026-01-01",
            "!!python/object:os.system x",
            "&a [1]",
            "*a",
            ".nan",
            "0x1",
            "99:99",
        ]
    ),
    lambda inner: (
        st.builds(lambda a, b: f"{{tasks: {a}, metrics: {b}}}", inner, inner)
        | st.builds(lambda a: f"{{m: {{scores: {{s: {{value: {a}}}}}}}}}", inner)
    ),
    max_leaves=5,
)


@given(yaml_text | st.text(max_size=60))
def test_any_results_yml(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    """Any YAML, tags and aliases included, is never executed and never a traceback."""
    folder = tmp_path_factory.mktemp("any") / "job" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "results.yml").write_bytes(f"results:\n  tasks:\n    t: {content}\n".encode("utf-8", "replace"))
    outcome(folder.parent, "nemo_launcher")
    outcome(folder / "results.yml")


xml_part = st.sampled_from(
    ["<testsuites>", "</testsuites>", '<testsuite name="s" tests="1">', "</testsuite>",
     '<testcase name="a">', "</testcase>",
     '<testcase name="b"/>', '<failure message="m"/>', "<error/>", "<skipped/>",
     "&amp;", "&x;", "<!DOCTYPE x>", "text", "\x01"]
)  # fmt: skip


@given(st.lists(xml_part, max_size=10))
def test_any_xml(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    """Any order of JUnit's parts."""
    file = tmp_path_factory.mktemp("any") / "x.xml"
    file.write_text("".join(parts))
    outcome(file)
    outcome(file, "junit")


@given(
    st.dictionaries(
        st.sampled_from(["header.json", "_journal/start.json", "samples/a_epoch_1.json", "x"]),
        st.binary(max_size=60) | anything,
        max_size=4,
    )
)
def test_any_archive(tmp_path_factory: pytest.TempPathFactory, members: dict[str, Any]) -> None:
    """Archives whose members hold anything."""
    file = tmp_path_factory.mktemp("any") / "x.eval"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
    outcome(file)
    outcome(file, "inspect_ai")


@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_damage_to_an_archive(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    """Noise over the structure of a zip file."""
    file = tmp_path_factory.mktemp("any") / "x.eval"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", '{"status": "success", "eval": {"task": "t", "run_id": "r"}}')
        archive.writestr("samples/a_epoch_1.json", '{"id": "a", "epoch": 1, "scores": {"s": {"value": "C"}}}')
    data = bytearray(file.read_bytes())
    data[place : place + len(noise)] = noise
    file.write_bytes(bytes(data))
    outcome(file)
    outcome(file, "inspect_ai")
