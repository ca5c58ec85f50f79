"""The spec of a tuning study: what it becomes, what is left out before any launch, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.cli import cli
from assay.cli.load import load_any
from assay.core.errors import SpecError, UnreadableInput
from assay.core.evidence import Artifact
from assay.core.fit import Keeps, LayerGroup, MachineMemory, ModelShape, WeightBytes
from assay.core.study import AdapterRef
from assay.core.tuning import ANSWER
from assay.flows.tune import TuneSpec, cells, inert, plan, serve_ref

SPEC = """schema: tune/1
name: mine
models: [big.gguf, {name: tiny, path: small.gguf}]
engine: {kind: llama_cpp, threads: 1}
contexts: [512, 1024]
knobs:
  kv_type: [f16, q8_0]
  slots: [4, 1, 8]
load: {concurrency: [1, 4]}
service_levels: {ttft_p95_ms: 2000}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The spec beside two files that stand for models."""
    (tmp_path / "big.gguf").write_bytes(b"big")
    (tmp_path / "small.gguf").write_bytes(b"small")
    path = tmp_path / "tune.yaml"
    path.write_text(SPEC)
    return path


def loaded(path: Path, *overrides: str) -> TuneSpec:
    """The resolved spec."""
    found = load_any(path, overrides)
    assert isinstance(found, TuneSpec)
    return found


def test_models_are_pinned_in_the_operators_order(spec: Path) -> None:
    """Names, absolute paths, digests; a path alone is named after its file."""
    found = loaded(spec)
    assert [m.name for m in found.models] == ["big", "tiny"]
    assert all(m.digest.startswith("sha256:") and Path(m.path).is_absolute() for m in found.models)
    assert [m.size_bytes for m in found.models] == [3, 5]


def test_a_model_may_be_named_by_its_id_in_the_cache(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`owner/name` is its current snapshot, pinned by the bytes behind its links, and called by its name."""
    repository = spec.parent / "hub" / "models--org--small"
    for folder in ("blobs", "refs", "snapshots/abc"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "blobs" / "1").write_bytes(b"weights")
    (repository / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/1")
    monkeypatch.setenv("HF_HUB_CACHE", str(spec.parent / "hub"))
    named = loaded(spec, "models=[org/small, big.gguf]").models[0]
    assert (named.name, named.path, named.size_bytes) == ("small", str(repository / "snapshots" / "abc"), 7)
    (repository / "blobs" / "1").write_bytes(b"Weights")
    assert loaded(spec, "models=[org/small, big.gguf]").models[0].digest != named.digest


def test_the_settings_are_the_product_without_what_is_inert(spec: Path) -> None:
    """Eight slots cannot act with four in flight; the first of each knob is the default."""
    found = loaded(spec)
    assert [(i.knob, i.kept, i.dropped) for i in inert(found)] == [("slots", 4, (8,))]
    made = list(cells(found, found.models[0]))
    assert len(made) == 4
    assert [c.id for c in made if c.default] == ["big kv_type=f16 slots=4"]
    assert {c.serve.options["context_tokens"] for c in made} == {512}
    assert {c.elsewhere["1024"].options["context_tokens"] for c in made} == {1024}
    assert {c.memory[1:] for c in made} == {(4.0, 2.0), (1.0, 2.0), (4.0, 34 / 32), (1.0, 34 / 32)}


def test_the_plan_has_a_step_for_each_context_and_one_answer(spec: Path) -> None:
    """Launches meet the reading gate, the answer meets the tuning gate, and neither meets the other's."""
    found = loaded(spec)
    study = plan(found, Artifact(path="x", digest="sha256:x", size_bytes=1), "mine-1")
    assert [s.phase for s in study.steps] == ["load-512", "load-1024", ANSWER, ANSWER, ANSWER]
    assert [g.name for g in study.gates_for("load-512")] == ["reading-512"]
    assert [g.name for g in study.gates_for(ANSWER)] == ["tuning"]
    assert [m.digest for m in study.models] == [m.digest for m in found.models]
    prompts = [s.adapter.options["workload"]["prompt_tokens"]["mean"] for s in study.steps[:2] if s.adapter]
    assert prompts == [256, 512]


def test_a_model_that_cannot_fit_is_not_launched(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the verdict `cannot` prunes, with its bytes as the reason; what cannot be read is left to a launch."""
    group = LayerGroup(keeps=Keeps.FULL, count=8, key_elements=256, value_elements=256)
    shape = ModelShape(
        source="big", format="gguf", layers=(group,), hidden=512, feed_forward=1024, heads=8,
        weights=WeightBytes(total=50_000_000),
    )  # fmt: skip

    def read(path: str) -> ModelShape:
        if path.endswith("big.gguf"):
            return shape
        raise UnreadableInput("not a GGUF file", where=path)

    monkeypatch.setattr("assay.readers.model.read_shape", read)
    machine = MachineMemory(total_bytes=10_000_000, available_bytes=10_000_000)
    monkeypatch.setattr("assay.runtime.memory.detect_memory", lambda: machine)
    found = loaded(spec)
    assert set(found.pruned) == {c.id for c in cells(found, found.models[0])}
    assert all("cannot fit" in why for why in found.pruned.values())
    assert "not a GGUF file" in found.fits["tiny"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("knobs.kv_type=[f16, wrong]", "knobs.kv_type"),
        ("knobs.no_such=[1, 2]", "no_such: unknown key"),
        ("knobs.slots=[4, 4]", "lists a value twice"),
        ("knobs.context_tokens=[512]", "`context_tokens` is no knob"),
        ("contexts=[512, 512]", "context listed twice"),
        ("contexts=[16]", "more than the context of 16"),
        ("contexts=[0]", "contexts.0: Input should be greater than or equal to 1"),
        ("knobs.slots=[]", "knob 'slots' has no value"),
        ("knobs.port=[8080, 8081]", "`port` is no knob"),
        ("load={concurrency: [1], rate_rps: [2]}", "`concurrency` and `rate_rps` both say"),
        ("service_levels={ttft_p95: 5}", "ttft_p95_ms: 2000"),
        ("service_levels={goodput_frac: 0.9}", "name one, such as `ttft_p95_ms`"),
        ("apply={kind: config_file, path: server.ini}", "name does not tell its format"),
        (
            "apply={kind: config_file, path: s.yaml, keys: {slots: settings.slotz}}",
            "no field 'settings.slotz'",
        ),
        ("models=[owner/name]", "hf download owner/name"),
        ("models=[big.gguf, nope.gguf]", "no such model"),
        ("models=[big.gguf, {name: again, path: big.gguf}]", "the same model"),
        ("models=[]", "models"),
        ("load.concurrency=[0]", "above 0"),
        ("load.concurrency=[]", "at least one load point"),
        ("race.policy=best", "race.policy"),
        ("engine.kind=nope", "unknown serve kind"),
        ("service_levels.ttft=5", "service_levels"),
        ("budget.max_duration_s=0", "budget.max_duration_s"),
    ],
)
def test_what_is_refused(spec: Path, override: str, told: str) -> None:
    """Each in one line that names the key, before anything is begun."""
    with pytest.raises(SpecError) as caught:
        loaded(spec, override)
    assert told in str(caught.value)
    assert str(spec) in str(caught.value)


def test_a_trace_is_read_once_and_pinned(spec: Path) -> None:
    """One point as recorded; requests that no context holds are refused before anything is begun."""
    trace = spec.parent / "trace.jsonl"
    row = {"timestamp_s": 0.5, "prompt_tokens": 100, "output_tokens": 20}
    trace.write_text("".join(json.dumps({**row, "timestamp_s": k / 2}) + "\n" for k in range(9)))
    found = loaded(spec, "load={trace: trace.jsonl, speed: 2}")
    assert [p.arrivals.text for p in found.load.points()] == ["trace"]
    assert found.load.trace == str(trace)
    assert found.load.trace_digest.startswith("sha256:")
    assert not inert(found)  # who is in flight is not known
    study = plan(found, Artifact(path="x", digest="sha256:x", size_bytes=1), "mine-1")
    assert study.steps[0].adapter is not None
    assert study.steps[0].adapter.options["trace"] == str(trace)
    trace.write_text(json.dumps({**row, "prompt_tokens": 1000}) + "\n")
    with pytest.raises(SpecError, match="1 requests of the trace take more than the context of 512"):
        loaded(spec, "load={trace: trace.jsonl}")
    with pytest.raises(SpecError, match="name one"):
        loaded(spec, "load={trace: trace.jsonl, rate_rps: [1]}")


def test_any_server_by_its_command_line() -> None:
    """`{knob}` stands for its value, null drops the word and its flag; the values are told as facts."""
    spec = TuneSpec.model_validate(
        {
            "schema": "tune/1",
            "models": ["m.gguf"],
            "engine": {
                "kind": "command",
                "command": ["serve", "--port", "{port}", "--kv", "{kv}", "-c", "{context_tokens}"],
            },
            "knobs": {"kv": [None, "q8"]},
        }
    )
    command = ["serve", "--port", "{port}", "--kv", "q8", "-c", "64"]
    facts = {"kv": "q8", "context_tokens": 64}
    assert serve_ref(spec, {"kv": "q8"}, 64) == AdapterRef(
        kind="command", options={"command": command, "facts": facts}
    )
    assert serve_ref(spec, {"kv": None}, 64).options["command"] == ["serve", "--port", "{port}", "-c", "64"]


def test_the_plan_for_people_and_for_scripts(spec: Path) -> None:
    """`assay plan` names models, settings, what is not searched, and what could be proven; `--json` the same."""
    text = CliRunner().invoke(cli, ["plan", str(spec)]).output
    for word in ("big", "tiny", "kv_type: f16, q8_0", "not searched: slots 8", "32 to compare"):
        assert word in text, text
    told = json.loads(CliRunner().invoke(cli, ["plan", str(spec), "--json"]).stdout)
    assert told["schema"] == "plan-tune/1"
    assert told["settings"] == 4
    assert 0 < told["deciding"]["provable_gain"] < 1


def test_the_starter_is_a_spec(tmp_path: Path) -> None:
    """`assay init tune` prints a spec whose only fault is that its models are not there."""
    text = CliRunner().invoke(cli, ["init", "tune"]).stdout
    path = tmp_path / "tune.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match="no such model"):
        loaded(path)
    (tmp_path / "models").mkdir()
    for number, name in enumerate(("14b", "7b", "3b")):
        (tmp_path / "models" / f"{name}-q4_k_m.gguf").write_bytes(bytes([number]))
    assert len(loaded(path).models) == 3
