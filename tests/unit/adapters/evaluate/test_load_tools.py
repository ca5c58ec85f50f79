"""Other load tools: their command lines, and their real output read back."""

from __future__ import annotations

import contextlib
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay import registry
from assay.adapters.evaluate import aiperf, guidellm, vllm_bench
from assay.core.errors import ComponentFailed, ComponentMissing, SpecError, UnreadableInput
from assay.core.load import Load, Metric, PointPlan, RequestError, TokenSource
from assay.core.ports import Endpoint, Target
from assay.core.study import AdapterRef
from assay.core.vocabulary import Provenance, Verb
from assay.load.external import ToolOptions, tool_error
from assay.testing.session import make_session

ROOT = Path(__file__).parents[4]
RECORDED = ROOT / "tests" / "recorded" / "load"
MODEL = ROOT / "examples" / "release" / "model"
CLOSED = PointPlan.model_validate({"arrivals": {"concurrency": 4}, "requests": 40})
OPEN = PointPlan.model_validate({"arrivals": {"kind": "poisson", "rate_rps": 20}, "requests": 40})
ENDPOINT = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", engine="sim")
OPTIONS = ToolOptions.model_validate({"points": [CLOSED.to_json()]})


def adapter(kind: str, **options: Any) -> Any:
    """An adapter as a spec makes it."""
    given_options = {"points": [{"arrivals": {"concurrency": 4}, "requests": 40}], **options}
    return registry.adapter(Verb.EVALUATE, AdapterRef(kind=kind, options=given_options))


def test_aiperf_records() -> None:
    """Two warm-up requests, ten measured; tokens by usage; times as it measured them."""
    text = (RECORDED / "aiperf" / "profile_export.jsonl").read_text()
    rows = aiperf.parse(text, CLOSED, OPTIONS)
    assert [r.warmup for r in rows].count(True) == 2
    assert len(rows) == 12
    first = rows[0]
    assert first.intended_s == 0.0
    assert first.latency_ms(Metric.TTFT) == pytest.approx(10.48592, abs=1e-4)
    assert first.latency_ms(Metric.E2E) == pytest.approx(58.051413, abs=1e-4)
    assert (first.output_tokens, first.prompt_tokens, first.cached_tokens, first.chunks) == (16, 19, 0, 16)
    assert {r.token_source for r in rows} == {TokenSource.USAGE}


def test_aiperf_counts_from_the_schedule_in_an_open_loop() -> None:
    """The moment at which a request was released, not when it was sent: more than its own TTFT."""
    text = (RECORDED / "aiperf" / "profile_export.jsonl").read_text()
    rows = aiperf.parse(text, OPEN, OPTIONS)
    assert rows[0].latency_ms(Metric.TTFT) == pytest.approx(10.48592 + 1.185958, abs=1e-3)
    assert all((r.sent_s or 0) > r.intended_s for r in rows)


def test_aiperf_refusals() -> None:
    """429 by its code."""
    rows = aiperf.parse((RECORDED / "aiperf" / "refused.jsonl").read_text(), CLOSED, OPTIONS)
    assert {r.error for r in rows} == {RequestError.OVERLOAD}
    assert "queue is full" in rows[0].detail


def test_guidellm_report() -> None:
    """Version, five requests, no gaps between tokens (it keeps none)."""
    report = json.loads((RECORDED / "guidellm" / "run.json").read_text())
    version, rows = guidellm.parse(report, CLOSED, OPTIONS)
    assert version == "0.8.1"
    assert len(rows) == 5
    assert rows[0].latency_ms(Metric.TTFT) == pytest.approx(4.81725, abs=1e-3)
    assert rows[0].latency_ms(Metric.TPOT) == pytest.approx(2.80825, abs=1e-3)
    assert (rows[0].output_tokens, rows[0].prompt_tokens, rows[0].gaps_ms) == (16, 21, ())
    _, scheduled = guidellm.parse(report, OPEN, OPTIONS)
    assert (scheduled[0].latency_ms(Metric.TTFT) or 0) > 4.9


def test_guidellm_refusals() -> None:
    """The status is read out of its words."""
    report = json.loads((RECORDED / "guidellm" / "refused.json").read_text())
    _, rows = guidellm.parse(report, CLOSED, OPTIONS)
    assert [r.error for r in rows].count(RequestError.OVERLOAD) == 5
    assert sum(r.ok for r in rows) == 4


def test_vllm_bench_result() -> None:
    """Ten requests with their gaps; waiting for a turn is no latency in a closed loop."""
    result = json.loads((RECORDED / "vllm_bench" / "run.json").read_text())
    rows = vllm_bench.parse(result, CLOSED, OPTIONS)
    assert len(rows) == 10
    assert rows[0].latency_ms(Metric.TTFT) == pytest.approx(3.1739, abs=1e-3)
    assert rows[0].latency_ms(Metric.E2E) == pytest.approx(52.6445, abs=1e-3)
    assert rows[0].output_tokens == 16
    last = vllm_bench.parse(result, OPEN, OPTIONS)[-1]
    assert (last.latency_ms(Metric.TTFT) or 0) > 3.0


def test_vllm_bench_refusals() -> None:
    """It keeps only the reason phrase: the class is `other`, and never a good answer of 0 ms."""
    result = json.loads((RECORDED / "vllm_bench" / "refused.json").read_text())
    rows = vllm_bench.parse(result, CLOSED, OPTIONS)
    assert [r.error for r in rows].count(RequestError.OTHER) == 8
    assert sum(r.ok for r in rows) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda c: st.lists(c, max_size=3)
    | st.dictionaries(
        st.sampled_from(["metadata", "metrics", "error", "request_start_ns", "credit_issued_ns", "guidellm_version",
                         "benchmarks", "requests", "successful", "errored", "info", "timings", "request_start",
                         "start_times", "queue_times", "ttfts", "itls", "latencies", "input_lens", "output_lens",
                         "errors", "value", "time_to_first_token", "request_latency"]), c, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_no_output_breaks_the_readers(value: Any) -> None:
    """Records or UnreadableInput, whatever a tool left."""
    for read in (
        lambda: aiperf.parse(json.dumps(value), CLOSED, OPTIONS),
        lambda: guidellm.parse(value, OPEN, OPTIONS),
        lambda: vllm_bench.parse(value, OPEN, OPTIONS),
    ):
        with contextlib.suppress(UnreadableInput):
            read()


@pytest.mark.parametrize("kind", ["aiperf", "guidellm", "vllm_bench"])
def test_command_lines_name_target_model_load_and_lengths(kind: str, tmp_path: Path) -> None:
    """What was run by hand to record them."""
    made = adapter(
        kind, workload={"prompt_tokens": "normal:64,8", "output_tokens": 16}, python=sys.executable
    )
    text = " ".join(made.command(CLOSED, ENDPOINT, "/tok", tmp_path, 3))
    for words in (
        "http://127.0.0.1:9",
        "m",
        "/tok",
        "64",
        "16",
        "40",
        "8" if kind != "vllm_bench" else "0.21",
    ):
        assert words in text
    assert "/v1 " not in text
    closed = {
        "aiperf": "--concurrency 4",
        "guidellm": "kind=concurrent,streams=4",
        "vllm_bench": "--max-concurrency 4",
    }
    assert closed[kind] in text
    text = " ".join(made.command(OPEN, ENDPOINT, "/tok", tmp_path, 3))
    rate = {
        "aiperf": "--request-rate 20 --arrival-pattern poisson",
        "guidellm": "kind=poisson,rate=20",
        "vllm_bench": "--request-rate 20 --burstiness 1",
    }
    assert rate[kind] in text
    assert "concurrency" not in text


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("aiperf", {"workload": {"turns": 2}}, "kind `load`"),
        ("guidellm", {"workload": {"prompt_tokens": "uniform:1-9"}}, "kind `load`"),
        (
            "guidellm",
            {"points": [{"arrivals": {"kind": "gamma", "rate_rps": 1}, "requests": 3}]},
            "no such arrivals",
        ),
        ("vllm_bench", {"points": [{"arrivals": {"concurrency": 1}, "duration_s": 3}]}, "no duration"),
        ("vllm_bench", {"points": [{"arrivals": {"kind": "trace"}}]}, "kind `load`"),
        ("aiperf", {"points": []}, "at least 1"),
    ],
)
def test_what_a_tool_cannot_do_is_refused_in_the_spec(kind: str, options: dict[str, Any], words: str) -> None:
    """Before anything runs, rather than measured differently from what was asked."""
    with pytest.raises(SpecError, match=words):
        adapter(kind, **options)


FAKE = """#!{python}
import pathlib, shutil, sys
args = sys.argv
out = pathlib.Path(args[args.index("--output-artifact-dir") + 1])
print("a tool that is not aiperf")
if {code}:
    sys.exit({code})
for name in ("profile_export.jsonl", "profile_export_aiperf.json"):
    shutil.copy(pathlib.Path("{recorded}") / name, out)
"""


def fake_tool(folder: Path, code: int = 0) -> str:
    """An "interpreter" that leaves aiperf's recorded files."""
    file = folder / "python"
    file.write_text(FAKE.format(python=sys.executable, code=code, recorded=RECORDED / "aiperf"))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_a_tool_is_run_and_its_requests_become_evidence(tmp_path: Path) -> None:
    """Self-reported, with the tool's version, the files pinned, and percentiles of our own."""
    made = adapter("aiperf", python=fake_tool(tmp_path))
    target = Target(name="candidate", path=str(MODEL), endpoint=ENDPOINT)
    evidence = made.evaluate(target, make_session(tmp_path))
    assert isinstance(evidence, Load)
    assert evidence.client == "aiperf 0.13.0"
    assert evidence.provenance is Provenance.SELF_REPORTED
    (point,) = evidence.points
    assert (point.sent, point.warmup) == (10, 2)
    assert len(evidence.artifacts) == 2
    assert evidence.measurement("output_tps") is not None
    assert Load.from_json(evidence.to_json()) == evidence


def test_a_tool_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    """The exit code and the end of what it printed."""
    made = adapter("aiperf", python=fake_tool(tmp_path, 3))
    with pytest.raises(ComponentFailed, match="exit code 3") as caught:
        made.evaluate(Target(name="x", path=str(MODEL), endpoint=ENDPOINT), make_session(tmp_path))
    assert "not aiperf" in caught.value.log_tail


def test_a_tool_that_is_not_installed(tmp_path: Path) -> None:
    """`check` says so without running anything; a run names the command that installs it."""
    made = adapter("guidellm")
    assert made.check().state == "missing"
    with pytest.raises(ComponentMissing, match="not installed"):
        made.evaluate(Target(name="x", path=str(MODEL), endpoint=ENDPOINT), make_session(tmp_path))


def test_a_tokenizer_is_needed(tmp_path: Path) -> None:
    """A GGUF file has none."""
    with pytest.raises(ComponentFailed, match="tokenizer"):
        adapter("aiperf").evaluate(
            Target(name="x", path=str(tmp_path / "m.gguf"), endpoint=ENDPOINT), make_session(tmp_path)
        )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Client error '429 Too Many Requests' for url 'http://127.0.0.1:8429/'", RequestError.OVERLOAD),
        ("Request timed out", RequestError.TIMEOUT),
        ("Server disconnected", RequestError.RESET),
        ("Cannot connect to host", RequestError.CONNECT),
        ("", RequestError.OTHER),
    ],
)
def test_words_of_a_tool_have_a_class(text: str, error: RequestError) -> None:
    """A port number is no status."""
    assert tool_error(text) is error


def test_tool_options_refuse_unknown_keys() -> None:
    """Frozen and closed."""
    with pytest.raises(ValidationError):
        ToolOptions.model_validate({"points": [CLOSED.to_json()], "x": 1})
