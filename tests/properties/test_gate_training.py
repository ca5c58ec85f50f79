"""Gate `training`: worse evidence never gives a better verdict, and garbage never passes."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assay.core.experiment import Experiment, ExperimentState, Thresholds, Tier
from assay.core.experiment_state import fold
from assay.core.verdict import Verdict
from assay.core.vocabulary import Direction
from assay.gates.training import TrainingGate, TrainingPolicy
from assay.readers.training import (
    parse_hypothesis,
    parse_next,
    parse_result,
    read_any,
    read_events,
    read_experiments,
    read_registry,
    resolve_active,
)
from experiment_files import ExperimentFiles, sound

GATED = (
    "events.jsonl",
    "metrics.jsonl",
    "alerts.jsonl",
    "training_status.json",
    "hypothesis.md",
    "config.yaml",
    "result.md",
)
ADVISORY = ("next.md", "diagnosis.md", "stop.json")
NEAR_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
).map(lambda v: json.dumps(v).encode())
BYTES = st.binary(max_size=200) | NEAR_JSON | st.lists(NEAR_JSON, max_size=4).map(b"\n".join)


def judged(folder: Path) -> Verdict:
    """The verdict on a folder."""
    return TrainingGate().judge({"experiment": read_any(folder, digests=True)})


@contextlib.contextmanager
def copy_of(template: Path) -> Iterator[Path]:
    """A folder of its own for one example."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / template.name
        shutil.copytree(template, folder, symlinks=True)
        yield folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that passes."""
    made = sound(tmp_path_factory.mktemp("sound"))
    made.write("next.md", "# Next experiments\n\n## exp-002\n\n- deeper\n")
    assert judged(made.folder).passed
    return made.folder


@given(data=st.data())
def test_garbage_in_a_file_never_passes(template: Path, data: st.DataObject) -> None:
    """A file that the verdict rests on, replaced by other bytes, never gives PASS; the reader never raises."""
    name = data.draw(st.sampled_from(GATED))
    garbage = data.draw(BYTES)
    # An empty alerts.jsonl is what a checker leaves that found nothing; blank lines are no such thing.
    assume(name != "alerts.jsonl" or garbage)
    with copy_of(template) as folder:
        (folder / name).write_bytes(garbage)
        assert not judged(folder).passed


@given(data=st.data())
def test_a_line_put_in_never_passes(template: Path, data: st.DataObject) -> None:
    """Garbage between or after the lines of a record is no record."""
    name = data.draw(st.sampled_from(("events.jsonl", "alerts.jsonl", "metrics.jsonl")))
    garbage = data.draw(BYTES.filter(lambda b: b"\n" not in b))
    with copy_of(template) as folder:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        place = data.draw(st.integers(0, len(lines)))
        (folder / name).write_bytes(b"".join([*lines[:place], garbage + b"\n", *lines[place:]]))
        assert not judged(folder).passed


@given(name=st.sampled_from(ADVISORY), garbage=BYTES)
def test_what_people_advise_changes_no_verdict(template: Path, name: str, garbage: bytes) -> None:
    """next.md and diagnosis.md are read, not judged by."""
    with copy_of(template) as folder:
        (folder / name).write_bytes(garbage)
        assert judged(folder).passed


@given(data=st.data())
def test_a_flipped_bit_in_the_record_or_a_checkpoint_never_passes(
    template: Path, data: st.DataObject
) -> None:
    """Any bit of events.jsonl but those of the last line, any bit of the weights or the manifest."""
    weights = "checkpoints/ckpt-00000100/"
    name = data.draw(
        st.sampled_from(("events.jsonl", weights + "model.safetensors", weights + "manifest.json"))
    )
    with copy_of(template) as folder:
        content = bytearray((folder / name).read_bytes())
        end = len(content) if name != "events.jsonl" else content[:-1].rindex(b"\n")
        at = data.draw(st.integers(0, end - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        (folder / name).write_bytes(bytes(content))
        assert not judged(folder).passed


WORSE = {
    "alert": lambda m: m.alert(),
    "unverified": lambda m: m.event(
        "checkpoint_failed", 1, name="ckpt-00000100", level="digest", detail="differs"
    ),
    "no checkpoint": lambda m: shutil.rmtree(m.folder / "checkpoints"),
    "no status": lambda m: (m.folder / "training_status.json").unlink(),
    "no rows": lambda m: (m.folder / "metrics.jsonl").unlink(),
    "no hypothesis": lambda m: (m.folder / "hypothesis.md").unlink(),
    "no config": lambda m: (m.folder / "config.yaml").unlink(),
    "nan": lambda m: m.result(".nan"),
    "other metric": lambda m: m.result(
        text="---\noracle_tier: x\nprimary_metric: {name: y, value: 1}\n---\n"
    ),
    "new attempt": lambda m: m.started(2),
    "aborted": lambda m: m.event("aborted", None, reason="no"),
}
"""Each takes evidence away or adds evidence against."""


@given(
    first=st.sampled_from(sorted(WORSE)),
    more=st.lists(st.sampled_from(sorted(WORSE)), max_size=3, unique=True),
)
def test_worse_evidence_never_passes_and_more_of_it_never_mends(first: str, more: list[str]) -> None:
    """Whatever is taken away after something was taken away, the verdict does not come back."""
    with tempfile.TemporaryDirectory() as place:
        made = sound(Path(place))
        for name in [first, *(n for n in more if n != first)]:
            WORSE[name](made)
            assert not judged(made.folder).passed


@given(
    better=st.floats(-1e6, 1e6),
    worse=st.floats(-1e6, 1e6),
    limits=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3).map(sorted),
    direction=st.sampled_from(Direction),
)
def test_a_worse_value_never_reaches_a_better_tier(
    better: float, worse: float, limits: list[float], direction: Direction
) -> None:
    """Tiers are monotone in the value, in both directions."""
    higher = direction is Direction.HIGHER
    better, worse = (
        (max(better, worse), min(better, worse)) if higher else (min(better, worse), max(better, worse))
    )
    ordered = limits if higher else limits[::-1]
    thresholds = Thresholds(**dict(zip(("floor", "goal", "stretch"), ordered, strict=False)))
    assert not thresholds.disorder(direction)
    high, low = thresholds.tier(better, direction), thresholds.tier(worse, direction)
    assert isinstance(high, Tier)
    assert isinstance(low, Tier)
    assert low.rank <= high.rank


@given(accuracy=st.floats(0, 1), drop=st.floats(0, 1))
def test_a_worse_metric_never_gives_a_better_verdict(template: Path, accuracy: float, drop: float) -> None:
    """The same evidence with a lower primary value: if the better one does not pass, the worse one does not."""
    found = read_any(template, digests=True)
    high, low = (_with_value(found, v) for v in (accuracy, max(0.0, accuracy - drop)))
    verdicts = [TrainingGate(TrainingPolicy()).judge({"experiment": e}) for e in (high, low)]
    assert verdicts[0].passed or not verdicts[1].passed


def _with_value(found: Experiment, value: float) -> Experiment:
    """The experiment, had its last evaluation and its result been another."""
    document = found.to_json()
    for evaluation in document["evaluations"]:
        for metric in evaluation["metrics"]:
            if metric["name"] == "accuracy":
                metric["value"] = value
    document["result"]["primary"]["value"] = value
    return Experiment.from_json(document)


EVENTS = st.sampled_from(
    ["created", "planned", "hypothesis", "attempt_started", "training_started", "evaluated", "checkpoint_committed",
     "checkpoint_verified", "checkpoint_failed", "stop_requested", "training_ended", "attempt_ended", "result", "judged",
     "overridden", "aborted", "completed", "failed", "note", "resumed", "something new"]
)  # fmt: skip
FIELDS: dict[str, Any] = {
    "outcome": st.sampled_from(["exited", "crashed", "killed", "lost", "stopped", 3, None]),
    "reason": st.sampled_from(["completed", "stopped", "exception", "", None, []]),
    "exit_code": st.sampled_from([0, 1, -9, None, True, "0"]),
    "name": st.sampled_from(["ckpt-1", "", None, 5]),
    "metrics": st.just({"accuracy": 0.9}) | st.none() | st.just([1]),
    "plan": st.none() | st.just({"primary_metric": "accuracy"}) | st.just("x"),
}


@given(data=st.data(), kinds=st.lists(EVENTS, max_size=25))
def test_any_events_have_a_state_and_ends_are_final(data: st.DataObject, kinds: list[str]) -> None:
    """The fold is total; once an experiment has ended no event leads out of it."""
    with tempfile.TemporaryDirectory() as place:
        made = ExperimentFiles(Path(place))
        ends = {
            ExperimentState.COMPLETE,
            ExperimentState.FAILED,
            ExperimentState.ABORTED,
            ExperimentState.OVERRIDDEN,
        }
        for kind in kinds:
            fields = data.draw(st.fixed_dictionaries({}, optional=FIELDS))
            made.event(kind, data.draw(st.sampled_from([None, 1, 2, -1])), **fields)
        events = read_events(made.folder / "events.jsonl").events
        assert len(events) == len(kinds)
        before = ExperimentState.PLANNED
        for count in range(len(events) + 1):
            state = fold(events[:count]).state
            assert before not in ends or state is before
            before = state


@given(
    garbage=st.dictionaries(st.sampled_from([*GATED, *ADVISORY]), BYTES, max_size=8),
    registry=st.none() | BYTES,
)
def test_any_folder_can_be_read(garbage: dict[str, bytes], registry: bytes | None) -> None:
    """Lists, the resolver and the gate survive folders of garbage, and nothing of it passes."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        folder = root / "exp-001"
        folder.mkdir()
        (folder / "note.txt").write_text("x")
        for name, data in garbage.items():
            (folder / name).write_bytes(data)
        if registry is not None:
            (root / "registry.json").write_bytes(registry)
        read_registry(root)
        for found in read_experiments(root):
            assert not TrainingGate().judge({"experiment": found}).passed
        resolve_active(root)


@given(
    data=st.binary(max_size=400)
    | st.text(max_size=300).map(lambda t: f"---\n{t}\n---\n# Hypothesis\n{t}".encode())
)
def test_any_text_can_be_parsed(data: bytes) -> None:
    """The parsers of the Markdown files give an answer that is canonical JSON."""
    assert parse_hypothesis(data).content_digest
    assert parse_result(data).content_digest
    assert all(isinstance(i, str) for i in parse_next(data))
