"""Folders of experiments are read as they are: both layouts, any bytes, problems named with their line."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import UnreadableInput, UsageError
from assay.core.experiment import ExperimentState
from assay.core.vocabulary import Provenance, State
from assay.readers.training import (
    Machine,
    folder_of,
    iter_rows,
    parse_hypothesis,
    parse_next,
    parse_result,
    read_any,
    read_experiment,
    read_experiments,
    read_registry,
    read_state,
    read_zo,
    resolve_active,
)
from experiment_files import HYPOTHESIS, RESULT, ExperimentFiles, sound


def row(**fields: Any) -> dict[str, Any]:
    """An event of the older metrics.jsonl."""
    known = {
        "timestamp": "2026-01-02T03:04:05+00:00",
        "event": "epoch_end",
        "experiment_id": "exp-001",
        "metrics": {},
    }
    return {**known, **fields}


def old(
    root: Path, name: str = "exp-001", *, rows: list[Any] | None = None, training: bool = False, **entry: Any
) -> Path:
    """An experiment of the older layout and its entry in registry.json."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "hypothesis.md").write_text(HYPOTHESIS)
    lines = rows or [
        row(event="training_start", epoch=0, total_epochs=2),
        row(epoch=0, total_epochs=2, metrics={"val_loss": 0.5}, learning_rate=0.1),
        row(epoch=1, total_epochs=2, metrics={"val_loss": 0.4}),
        row(event="checkpoint_saved", epoch=1, checkpoint_path="models/best.pt", metrics={"val_loss": 0.4}),
        row(event="training_end", metrics={"val_loss": 0.4}),
    ]
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    status = {"experiment_id": name, "epoch": 1, "total_epochs": 0, "is_training": training, "metrics": {}}
    (folder / "training_status.json").write_text(json.dumps({**status, "a key of a later version": 1}))
    path = root / "registry.json"
    known = (
        json.loads(path.read_text())
        if path.exists()
        else {"schema_version": 1, "project": "p", "experiments": []}
    )
    known["experiments"].append(
        {
            "id": name,
            "phase": "phase_4",
            "parent_id": None,
            "created": f"2026-01-0{len(known['experiments']) + 1}",
            **entry,
        }
    )
    path.write_text(json.dumps(known))
    return folder


def test_a_whole_folder_is_read(tmp_path: Path) -> None:
    """State, attempts, rows, metrics with best, checkpoints as they lie, texts; no problem."""
    found = read_experiment(sound(tmp_path).folder, digests=True)
    assert found.state is ExperimentState.TRAINED
    assert [a.number for a in found.attempts] == [1]
    assert (found.rows.steps, found.rows.evaluations, found.rows.last_step) == (10, 2, 100)
    accuracy = found.rows.metric("accuracy")
    assert accuracy is not None
    assert (accuracy.best, accuracy.best_step, accuracy.first) == (0.93, 100, 0.85)
    loss = found.rows.metric("loss")
    assert loss is not None
    assert loss.best is None  # nobody declared which way it gets better
    assert [c.on_disk for c in found.checkpoints] == ["intact"]
    assert found.hypothesis is not None
    assert found.hypothesis.text == "A wider layer reaches 0.9 because the narrow one underfits."
    assert found.result is not None
    assert found.result.shortfalls == ("class 3 is confused with class 8", "slow on long inputs")
    assert found.problems == ()
    assert found.content_digest == read_experiment(found_folder(tmp_path), digests=True).content_digest


def found_folder(root: Path) -> Path:
    """Where `sound` put it."""
    return root / "exp-001"


def test_a_half_written_line_is_ignored_while_the_attempt_lives(tmp_path: Path) -> None:
    """And is a problem once nobody writes."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    with (made.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"schema": "experiment-ev')
    living = read_experiment(made.folder)
    assert living.state is ExperimentState.RUNNING
    assert living.chain_intact
    elsewhere = Machine(host=Machine.here().host, boot_id="another boot")
    dead = read_experiment(made.folder, machine=elsewhere)
    assert dead.state is ExperimentState.LOST
    assert not dead.chain_intact
    assert "events.jsonl:4: half-written line, and nobody writes" in [str(p) for p in dead.problems]


def test_a_half_line_that_a_later_writer_closed_is_part_of_the_chain(tmp_path: Path) -> None:
    """A writer died within a line; the next one chained over it: nothing was lost that was said."""
    made = ExperimentFiles(tmp_path)
    made.created()
    half = b'{"schema": "experiment-event/1", "se'
    made.append("events.jsonl", half)
    made.previous = __import__("hashlib").sha256(half).hexdigest()
    made.event("note", text="after")
    found = read_experiment(made.folder)
    assert found.chain_intact
    assert found.notes == ("after",)
    assert [(p.line, p.grave) for p in found.problems if p.file == "events.jsonl"] == [(3, False)]


def test_what_breaks_the_chain_is_named_with_its_line(tmp_path: Path) -> None:
    """A changed line shows at the line after it."""
    made = sound(tmp_path)
    path = made.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b"0.85" in line)
    lines[at] = lines[at].replace(b"0.85", b"0.86")
    path.write_bytes(b"".join(lines))
    found = read_experiment(made.folder)
    assert not found.chain_intact
    assert any(str(p).startswith(f"events.jsonl:{at + 2}: does not follow") for p in found.problems)


def test_an_end_that_was_changed_or_cut_off_is_noticed(tmp_path: Path) -> None:
    """Nothing chains over the last line: the snapshot names it, and so does a verdict that rests on it."""
    made = sound(tmp_path)
    path = made.folder / "events.jsonl"
    whole = path.read_bytes()
    made.status(events_seq=made.seq, events_head=made.previous)
    assert read_experiment(made.folder).chain_intact
    path.write_bytes(whole[: whole.rstrip().rindex(b"\n") + 1])
    cut = read_experiment(made.folder)
    assert not cut.chain_intact
    assert f"event {made.seq}, which training_status.json saw, is gone" in str(
        cut.problems_of("events.jsonl")[0]
    )
    path.write_bytes(whole.replace(b'"state": "ended"', b'"state": "begin"'))
    changed = read_experiment(made.folder)
    assert not changed.chain_intact
    assert "was changed" in str(changed.problems_of("events.jsonl")[0])


def test_a_verdict_rests_on_a_line_that_is_there(tmp_path: Path) -> None:
    """A record that was written again from an earlier line on does not hold the head that was judged."""
    made = sound(tmp_path)
    made.event("judged", verdict={"status": "PASS"}, events_head=made.previous)
    assert read_experiment(made.folder).chain_intact
    made.event("judged", verdict={"status": "PASS"}, events_head="ab" * 32)
    found = read_experiment(made.folder)
    assert not found.chain_intact
    assert "rests on a line that is not there" in str(found.problems_of("events.jsonl")[0])


@pytest.mark.parametrize(
    ("spoil", "on_disk", "word"),
    [
        (lambda c: (c / "manifest.sha256").unlink(), "changed", "manifest.sha256 is missing"),
        (
            lambda c: (c / "manifest.sha256").write_text("0" * 64),
            "changed",
            "is not what manifest.sha256 says",
        ),
        (lambda c: None, "intact", ""),
    ],
)
def test_the_seal_of_a_checkpoint_is_checked(
    tmp_path: Path, spoil: Callable[[Path], object], on_disk: str, word: str
) -> None:
    """It tells without the record whether the manifest is the one that was written."""
    made = sound(tmp_path)
    spoil(made.folder / "checkpoints" / "ckpt-00000100")
    (found,) = read_experiment(made.folder, digests=True).checkpoints
    assert (found.on_disk, word in found.detail) == (on_disk, True)


def test_a_checkpoint_that_rotation_took_is_not_missing(tmp_path: Path) -> None:
    """The record says so before it goes; the same name saved again later is looked for."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    for step in (10, 20, 30):
        made.checkpoint(step)
    made.event("checkpoint_rotated", 1, name="ckpt-00000010")
    for name in ("ckpt-00000010", "ckpt-00000020"):
        shutil.rmtree(made.folder / "checkpoints" / name)
    found = read_experiment(made.folder).checkpoints
    assert [c.on_disk for c in found] == ["rotated", "missing", "intact"]
    made.checkpoint(10)
    shutil.rmtree(made.folder / "checkpoints" / "ckpt-00000010")
    assert {c.name: c.on_disk for c in read_experiment(made.folder).checkpoints}["ckpt-00000010"] == "missing"


def test_a_resumed_attempt_replaces_rows_from_its_first_step_on(tmp_path: Path) -> None:
    """Steps that were trained again count once; what the first attempt did alone stays."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(1)
    for step in (1, 2, 3, 4, 5):
        made.step(step, 1, loss=1.0)
    made.event("attempt_ended", 1, outcome="killed", exit_code=None, signal="SIGKILL")
    made.started(2, resumed_from="ckpt-00000003", resumed_step=3)
    for step in (4, 5, 6):
        made.step(step, 2, loss=0.5)
    rows = [(r.attempt, r.step) for r in iter_rows(made.folder)]
    assert rows == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert len(list(iter_rows(made.folder, "all"))) == 8
    found = read_experiment(made.folder)
    assert found.rows.replaced == 2
    assert found.attempts[1].resumed_step == 3
    assert found.state is ExperimentState.RUNNING


def test_values_are_coerced_or_named(tmp_path: Path) -> None:
    """NaN as null, as a bare token, as text; a tensor stored as text; a boolean is no number."""
    made = ExperimentFiles(tmp_path)
    made.append(
        "metrics.jsonl", {"event": "step", "step": 1, "metrics": {"a": None}, "nonfinite": {"a": "nan"}}
    )
    made.append("metrics.jsonl", b'{"event": "step", "step": 2, "metrics": {"a": NaN, "b": -Infinity}}')
    text = {"a": "tensor(0.25, device='cuda:0')", "b": "0.5", "c": "inf", "d": True, "e": "high"}
    made.append("metrics.jsonl", {"event": "step", "step": 3, "metrics": text})
    rows = list(iter_rows(made.folder))
    assert rows[0].nonfinite == {"a": "nan"}
    assert rows[1].nonfinite == {"a": "nan", "b": "-inf"}
    assert rows[2].metrics == {"a": 0.25, "b": 0.5}
    assert rows[2].nonfinite == {"c": "inf"}


def test_best_is_never_nan(tmp_path: Path) -> None:
    """Also where the first value is one."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.evaluated(1, val_loss=None)
    made.append(
        "metrics.jsonl", b'{"event": "evaluation", "attempt": 1, "step": 2, "metrics": {"val_loss": NaN}}'
    )
    made.evaluated(3, val_loss=0.4)
    made.append(
        "metrics.jsonl", b'{"event": "evaluation", "attempt": 1, "step": 4, "metrics": {"val_loss": NaN}}'
    )
    found = read_experiment(made.folder).rows.metric("val_loss")
    assert found is not None
    assert (found.best, found.best_step, found.nonfinite, found.last.state) == (0.4, 3, 2, State.NONFINITE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no front matter at all", "no front matter"),
        ("---\noracle_tier: x\n", "no end"),
        ("---\noracle_tier: should_pass\n---\n", "primary_metric is missing"),
        ("---\nprimary_metric: {name: a, value: 1.0}\n---\n", "oracle_tier is missing"),
        ("---\noracle_tier: x\nprimary_metric: {name: a, value: .nan}\n---\n", "is not finite"),
        ("---\noracle_tier: x\nprimary_metric: {name: a, value: true}\n---\n", "not a number: True"),
        ("---\noracle_tier: x\nprimary_metric: {name: a, value: '0.9'}\n---\n", "not a number"),
        ("---\noracle_tier: x\nprimary_metric: {name: a}\n---\n", "has no value"),
        (
            "---\noracle_tier: x\nprimary_metric: {name: a, value: 1}\nsecondary_metrics: {b: .inf}\n---\n",
            "b is not finite",
        ),
        (
            "---\noracle_tier: x\nprimary_metric: {name: a, value: 1, delta_vs_parent: .nan}\n---\n",
            "delta_vs_parent",
        ),
        ("---\n\t{\n---\n", "not YAML"),
        ("---\n- a\n---\n", "no mapping"),
    ],
)
def test_a_result_that_cannot_be_used_says_why(text: str, problem: str) -> None:
    """NaN, booleans, text and missing keys are refused at the border."""
    found = parse_result(text.encode())
    assert any(problem in p for p in found.problems), found.problems


def test_a_result_is_parsed_whole() -> None:
    """Every key of the older contract."""
    found = parse_result(RESULT.replace("{value}", "0.93").encode())
    assert found.problems == ()
    assert found.claimed_tier == "should_pass"
    assert found.primary is not None
    assert (found.primary.name, found.primary.value) == ("accuracy", 0.93)
    assert found.claimed_delta is None
    assert {m.name: m.value for m in found.secondary} == {"f1": 0.91}
    assert found.evaluated_at.startswith("2026-01-02")


@pytest.mark.parametrize(
    ("text", "ideas"),
    [
        (
            "# Next experiments\n\n## exp-NNN+1\n\n- **Idea**: deeper\n- why\n\n## exp-NNN+2\n- wider\n",
            ("**Idea**: deeper", "wider"),
        ),
        ("# Next experiments\n\n## exp-003: deeper net\n\nJust a sentence.\n", ("Just a sentence.",)),
        ("# Next experiments\n\n- one\n- two\n  goes on\n", ("one", "two goes on")),
        ("", ()),
        ("# Next experiments\n", ()),
    ],
)
def test_next_ideas_are_found(text: str, ideas: tuple[str, ...]) -> None:
    """The contract's own template `## exp-NNN+1` too."""
    assert parse_next(text.encode()) == ideas


def test_a_hypothesis_without_headings_is_its_first_paragraph() -> None:
    """People write just a sentence."""
    assert parse_hypothesis(b"It gets\nbetter.\n\nBecause.").text == "It gets better."
    assert parse_hypothesis(b"").problems
    assert parse_hypothesis(HYPOTHESIS.encode()).rationale.startswith("The parent stopped at 0.84")


def test_the_older_layout_is_read_as_it_is(tmp_path: Path) -> None:
    """Registry v1, epoch events, a status with unknown keys: all self-reported."""
    folder = old(
        tmp_path,
        status="complete",
        hypothesis="",
        result={"primary_metric": {"name": "val_loss", "value": 0.4}},
    )
    found = read_any(folder)
    assert (found.layout, found.provenance, found.phase) == ("zo", Provenance.SELF_REPORTED, "phase_4")
    assert found.state is ExperimentState.COMPLETE
    assert found.hypothesis is not None
    assert found.hypothesis.text.startswith("A wider layer")
    assert (found.rows.epochs, found.rows.last_epoch) == (2, 1)
    assert found.status is not None
    assert found.attempts[0].training_reason == "completed"
    assert [c.on_disk for c in found.checkpoints] == ["missing"]


def test_a_restart_in_the_older_layout_is_another_attempt(tmp_path: Path) -> None:
    """A second training_start begins attempt 2; epochs that it writes again count once."""
    epochs = [
        row(event="training_start"),
        row(epoch=0),
        row(epoch=1),
        row(event="training_start"),
        row(epoch=1),
        row(epoch=2),
    ]
    found = read_any(old(tmp_path, rows=epochs))
    assert [a.number for a in found.attempts] == [1, 2]
    assert (found.rows.epochs, found.rows.replaced) == (3, 1)


def test_an_older_training_that_fell_silent_is_lost(tmp_path: Path) -> None:
    """`is_training` stays true after a crash; hours of silence say otherwise."""
    folder = old(tmp_path, training=True, status="running")
    assert read_zo(folder).state is ExperimentState.RUNNING
    assert read_zo(folder, now=time.time() + 7200).state is ExperimentState.LOST


def test_a_registry_with_nan_and_unknown_keys_is_read(tmp_path: Path) -> None:
    """A NaN that was written once does not make everything unreadable for ever."""
    old(
        tmp_path,
        result={"primary_metric": {"name": "a", "value": math.nan}},
        new_key={"x": 1},
        status="complete",
    )
    old(tmp_path, "exp-002")
    entries, problems = read_registry(tmp_path)
    assert list(entries) == ["exp-001", "exp-002"]
    assert problems == ()
    assert len(read_experiments(tmp_path)) == 2
    (tmp_path / "registry.json").write_text("{")
    assert read_registry(tmp_path)[1][0].text.startswith("not JSON")
    assert len(read_experiments(tmp_path)) == 2  # from their own folders


def test_the_resolver_prefers_who_trains_then_who_is_complete(tmp_path: Path) -> None:
    """Failed, aborted, crashed and lost ones never surface."""
    assert resolve_active(tmp_path / "nowhere") is None
    assert resolve_active(tmp_path) is None
    done = sound(tmp_path, "exp-001", day=1)
    done.event("completed", reason="")
    sound(tmp_path, "exp-002", day=2).event("aborted", reason="")
    gone = ExperimentFiles(tmp_path, "exp-003", 3)
    gone.created()
    gone.started(pid=2**22 - 1)
    assert resolve_active(tmp_path) == "exp-001"
    planned = ExperimentFiles(tmp_path, "exp-004", 4)
    planned.created()
    assert resolve_active(tmp_path) == "exp-004"
    living = ExperimentFiles(tmp_path, "exp-005", 1)
    living.created()
    living.started()
    assert resolve_active(tmp_path) == "exp-005"
    assert read_state(gone.folder).state is ExperimentState.LOST


def test_a_pid_that_another_process_took_does_not_live(tmp_path: Path) -> None:
    """The start time names the process; another host is not judged."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=os.getpid(), process_started=1.0)
    assert read_state(made.folder).state is ExperimentState.LOST
    other = ExperimentFiles(tmp_path, "exp-002")
    other.created()
    other.started(pid=2**22 - 1, host="elsewhere", boot_id="x")
    assert read_state(other.folder).state is ExperimentState.RUNNING


def test_a_killed_process_is_seen(tmp_path: Path) -> None:
    """SIGKILL leaves no event; the pid is free."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started(pid=child.pid)
    assert read_state(made.folder).state is ExperimentState.RUNNING
    child.kill()
    child.wait()
    assert read_state(made.folder).state is ExperimentState.LOST


def test_an_unknown_id_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """By id, by number and by path it is found."""
    made = sound(tmp_path)
    assert folder_of(tmp_path, "exp-001") == made.folder
    assert folder_of(tmp_path, "1") == made.folder
    assert folder_of(tmp_path / "other", str(made.folder)) == made.folder
    with pytest.raises(UsageError, match="exp-001"):
        folder_of(tmp_path, "exp-009")
    with pytest.raises(UnreadableInput):
        read_any(tmp_path / "nothing")


def test_a_pipe_and_a_folder_in_place_of_a_file_do_not_stop_the_reader(tmp_path: Path) -> None:
    """Nothing waits for a pipe."""
    made = sound(tmp_path)
    (made.folder / "alerts.jsonl").unlink()
    os.mkfifo(made.folder / "alerts.jsonl")
    (made.folder / "result.md").unlink()
    (made.folder / "result.md").mkdir()
    found = read_experiment(made.folder, digests=True)
    assert found.result is None


def test_a_checkpoint_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Neither by its path nor by a name in its manifest."""
    made = ExperimentFiles(tmp_path)
    made.created()
    made.started()
    made.event("checkpoint_committed", 1, name="a", path="../../etc", step=1, manifest_digest="")
    digest = made.write(
        "checkpoints/b/manifest.json", {"files": [{"name": "../../x", "bytes": 1, "sha256": ""}]}
    )
    made.event("checkpoint_committed", 1, name="b", path="checkpoints/b", step=2, manifest_digest=digest)
    assert [c.on_disk for c in read_experiment(made.folder).checkpoints] == ["changed", "changed"]
