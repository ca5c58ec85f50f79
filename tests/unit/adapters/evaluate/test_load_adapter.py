"""Evaluate kind `load`: points against one served target, as evidence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.core.errors import ComponentFailed, SpecError
from assay.core.load import Load
from assay.core.ports import Endpoint, Target
from assay.core.study import AdapterRef
from assay.core.vocabulary import FailureClass, State, Verb
from assay.load.rows import read_rows
from assay.testing.session import make_session

pytestmark = pytest.mark.slow  # real servers, measured by the clock

POINTS = [{"arrivals": {"concurrency": n}, "requests": 8, "warmup_requests": 2} for n in (1, 4)]
WORKLOAD = {"prompt_tokens": 40, "output_tokens": 6}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A simulated engine."""
    command = [sys.executable, "-m", "assay.testing.engine", "--port", "0", "--ttft-ms", "5", "--itl-ms", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Endpoint(
        base_url=process.stdout.readline().split()[2], model="simulated", engine="sim", engine_version="1"
    )
    process.terminate()
    process.wait(10)
    process.stdout.close()


def adapter(**options: Any) -> Any:
    """The adapter as a spec makes it."""
    return registry.adapter(
        Verb.EVALUATE, AdapterRef(kind="load", options={"points": POINTS, "workload": WORKLOAD, **options})
    )


def test_a_launch_whose_own_time_is_up_is_a_reading_cut_short(endpoint: Endpoint, tmp_path: Path) -> None:
    """The proposer's limit ends the points and keeps what there is: the study goes on to its answer."""
    points = [{"arrivals": {"concurrency": 1}, "requests": 100_000}]
    target = Target(name="candidate", path="x", endpoint=endpoint, intent={"limit_s": 0.7})
    evidence = adapter(points=points).evaluate(target, make_session(tmp_path))
    assert isinstance(evidence, Load)
    assert [p.stopped_by for p in evidence.points] == ["budget"]
    assert not evidence.points[0].valid


def test_the_studys_wall_time_still_ends_a_trial(endpoint: Endpoint, tmp_path: Path) -> None:
    """A budget of the whole study that ends is no reading."""
    points = [{"arrivals": {"concurrency": 1}, "requests": 100_000}]
    target = Target(name="candidate", path="x", endpoint=endpoint, intent={"limit_s": 60.0})
    with pytest.raises(ComponentFailed) as caught:
        adapter(points=points).evaluate(target, make_session(tmp_path, limit_s=0.7))
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED


def test_points_become_evidence_with_their_rows(endpoint: Endpoint, tmp_path: Path) -> None:
    """Two points, one launch; measurements by point; the file of requests pinned; reads back as it was."""
    session = make_session(tmp_path)
    evidence = adapter().evaluate(Target(name="candidate", path="x", endpoint=endpoint), session)
    assert isinstance(evidence, Load)
    assert [p.completed for p in evidence.points] == [8, 8]
    names = {m.name for m in evidence.measurements}
    assert {"output_tps[0]", "output_tps[1]", "failed_frac[1]"} <= names
    p99 = evidence.measurement("ttft_p99_ms[0]")
    assert p99 is None or p99.state is State.ABSTAINED
    assert Load.from_json(evidence.to_json()).content_digest == evidence.content_digest
    rows = read_rows(session.workdir / "requests.jsonl")
    assert {n for n, _ in rows} == {0, 1}
    assert len(rows) == 20
    assert evidence.artifacts[0].path.endswith("requests.jsonl")
    assert any("4 in flight" in text for text, _ in session.notes)


def test_who_else_used_the_processors_is_noted(endpoint: Endpoint, tmp_path: Path) -> None:
    """With each launch; not where somebody else runs the server, whose time would count as that of others."""
    plan = {"arrivals": {"kind": "closed", "concurrency": 1}, "requests": 2}
    target = Target(name="x", path="/x", engine="llama_cpp", endpoint=endpoint)
    found = adapter(points=[plan]).evaluate(target, make_session(tmp_path / "own"))
    assert 0 <= found.facts["machine"]["others_frac"] <= 1
    theirs = target.model_copy(update={"engine": "openai"})
    assert "machine" not in adapter(points=[plan]).evaluate(theirs, make_session(tmp_path / "their")).facts


def test_a_budget_that_ends_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    """The study's wall time ends within a point."""
    points = [{"arrivals": {"concurrency": 1}, "requests": 1_000_000}]
    with pytest.raises(ComponentFailed, match="budget") as caught:
        adapter(points=points).evaluate(
            Target(name="x", path="x", endpoint=endpoint), make_session(tmp_path, limit_s=1.0)
        )
    assert caught.value.failure_class is FailureClass.BUDGET_EXHAUSTED


def test_it_needs_an_endpoint(tmp_path: Path) -> None:
    """The message says what to add."""
    with pytest.raises(ComponentFailed, match="served"):
        adapter().evaluate(Target(name="x", path="x"), make_session(tmp_path))


def test_protocol_is_what_decides_the_figures(tmp_path: Path) -> None:
    """Another workload or point is another protocol; a timeout is not."""
    base = adapter().protocol()
    assert adapter(request_timeout_s=5.0).protocol() == base
    assert adapter(workload={**WORKLOAD, "seed": 1}).protocol() != base
    assert adapter(points=POINTS[:1]).protocol() != base
    assert adapter().check().state == "ready"


def test_short_forms_in_a_spec() -> None:
    """`ttft_p95_ms: 100` and `uniform:8-16`; an unknown limit is refused with its place."""
    made = adapter(service_levels={"ttft_p95_ms": 100}, workload={"prompt_tokens": "uniform:8-16"})
    assert made.options.service_levels.levels[0].limit_ms == 100
    assert made.options.workload.prompt_tokens.high == 16
    with pytest.raises(SpecError, match="service_levels"):
        adapter(service_levels={"nonsense_ms": 3})
