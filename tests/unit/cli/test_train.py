"""`assay train` and `assay watch`: what is refused, and what quick commands leave behind."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import SpecError, UsageError
from assay.live import session
from assay.live.attempt import ending_of
from assay.track.files import append_event
from cli_call import Call

OK = [sys.executable, "-c", "print('hello')"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Path:
    """The experiments of the test lie in its own folder."""
    (tmp_path / ".assay").mkdir()
    return tmp_path / ".assay" / "experiments"


def events(home: Path, name: str = "exp-001") -> list[dict[str, Any]]:
    """The record of an experiment."""
    return [json.loads(line) for line in (home / name / "events.jsonl").read_text().splitlines()]


def test_a_command_that_tracks_nothing(assay: Call, home: Path) -> None:
    """It is recorded as a process, its output is shown, and it is said how to record more."""
    said = assay("train", "--", *OK)
    assert said.code == 0
    assert "hello" in said.err
    assert "exp-001 attempt 1: exited (exit 0" in said.out
    assert "it wrote no metrics" in said.out
    kinds = [e["event"] for e in events(home) if e["event"] != "watched"]
    assert kinds == ["created", "attempt_started", "attempt_ended"]
    assert [e["state"] for e in events(home) if e["event"] == "watched"][-1] == "ended"


def test_json_on_stdout(assay: Call) -> None:
    """`--json` prints one document, and nothing else, on stdout."""
    said = assay("train", "--json", "--experiment", "a", "--", *OK)
    assert said.json["schema"] == "train/1"
    assert (said.json["experiment"], said.json["name"], said.json["outcome"]) == ("exp-001", "a", "exited")
    assert Path(said.json["log"]).read_text() == "hello\n"


def test_options_of_the_command_are_its_own(assay: Call, home: Path) -> None:
    """With or without `--`, everything from the program on belongs to it."""
    assert assay("train", sys.executable, "-c", "pass", "--json").code == 0
    assert events(home)[1]["command"][-1] == "--json"


@pytest.mark.parametrize(
    ("command", "fragment"),
    [
        (["no-such-program-anywhere"], "the program 'no-such-program-anywhere' does not exist"),
        (["./missing.sh"], "does not exist"),
        (["plain.py"], "is a file here and no program"),
        (["./plain.py"], "may not be executed"),
    ],
)
def test_a_wrong_command_makes_no_experiment(
    assay: Call, home: Path, command: list[str], fragment: str
) -> None:
    """Exit 6, one line, and no folder for something that could not run."""
    Path("plain.py").write_text("pass")
    assay("train", "--", *command).refused(6, fragment)
    assert not home.exists()


def test_a_file_that_is_no_program_ends_with_127(assay: Call, home: Path) -> None:
    """What the system refuses to execute stands in the record as an attempt that failed."""
    Path("broken").write_bytes(b"\x7fELF nonsense")
    Path("broken").chmod(0o755)
    assay("train", "--", "./broken").refused(6, "cannot be executed")
    ended = events(home)[-1]
    assert (ended["event"], ended["outcome"], ended["exit_code"]) == ("attempt_ended", "crashed", 127)


def test_no_place_to_write(assay: Call, home: Path) -> None:
    """Where the folder of experiments cannot be made, one line says so."""
    home.write_text("a file")
    said = assay("train", "--", *OK)
    assert said.code in (2, 6)
    assert str(home) in said.err
    assert said.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(assay: Call, home: Path) -> None:
    """A folder that may not be written is a usage error that names it."""
    home.mkdir()
    home.chmod(0o500)
    try:
        assay("train", "--", *OK).refused(2, "cannot write", str(home))
    finally:
        home.chmod(0o700)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["no command was given", "assay train --"]),
        (["--require-hypothesis", "--", *OK], ["there is no hypothesis", "--hypothesis"]),
        (["--hypothesis", " ", "--", *OK], ["it is empty"]),
        (["--primary", "loss:down", "--", *OK], ["--primary", "NAME:min or NAME:max"]),
        (["--goal", "0.5", "--", *OK], ["thresholds need"]),
        (["--primary", "loss", "--goal", "soon", "--", *OK], ["soon"]),
        (["--stop", "sometimes", "--", *OK], ["no stop policy", "default, off, critical"]),
        (["--stop", "stall=maybe", "--", *OK], ["unknown mode 'maybe'"]),
        (["--stop", "boredom=stop", "--", *OK], ["unknown fault class 'boredom'"]),
        (["--rule", "stall_s", "--", *OK], ["NAME=VALUE"]),
        (["--rule", "patience=3", "--", *OK], ["unknown threshold 'patience'"]),
        (["--rule", "stall_s=-1", "--", *OK], ["stall_s"]),
        (["--config", "missing.yaml", "--", *OK], ["missing.yaml", "cannot read"]),
        (["--experiment", "exp-077", "--", *OK], ["no experiment 'exp-077'"]),
        (["--resume", "exp-077", "--", *OK], ["no experiment 'exp-077'"]),
        (["--attach", "exp-077"], ["no experiment 'exp-077'"]),
        (["--attach", "exp-001", "--", *OK], ["takes no command"]),
        (["--parent", "exp-077", "--", *OK], ["exp-077"]),
        (["--max-duration", "nan", "--", *OK], ["--max-duration", "nan"]),
        (["--stop-grace", "inf", "--", *OK], ["--stop-grace", "inf"]),
        (["--alert-command", "a 'b", "--", *OK], ["--alert-command", "No closing quotation"]),
        (["--alert-command", "", "--", *OK], ["--alert-command", "empty"]),
        (["--alert-webhook", "nowhere", "--", *OK], ["--alert-webhook", "https://"]),
        (["--alert-webhook", "http://[", "--", *OK], ["--alert-webhook", "https://"]),
    ],
)
def test_refused_before_anything_is_made(
    assay: Call, home: Path, arguments: list[str], fragments: list[str]
) -> None:
    """A wrong request is exit 2 with what is allowed, and leaves no experiment behind."""
    assay("train", *arguments).refused(2, *fragments)
    assert not list(home.glob("exp-*"))


@pytest.mark.parametrize("option", ["--alert-command", "--diagnose"])
def test_a_program_that_is_not_there_is_said_before_the_start(assay: Call, home: Path, option: str) -> None:
    """Not only when the first alert would need it, and with no training left behind."""
    assay("train", option, "no-such-program --flag", "--", *OK).refused(6, "no-such-program")
    assert not home.exists()


def test_bad_configuration(assay: Call, home: Path) -> None:
    """A configuration that is no mapping, or no YAML, is refused by name."""
    Path("list.yaml").write_text("- a\n- b\n")
    Path("bad.yaml").write_text("a: [1\n")
    assay("train", "--config", "list.yaml", "--", *OK).refused(2, "list.yaml", "a mapping")
    assay("train", "--config", "bad.yaml", "--", *OK).refused(2, "bad.yaml", "neither YAML nor JSON")
    assert not home.exists()


def test_plan_and_hypothesis_are_frozen_before_the_start(assay: Call, home: Path) -> None:
    """Metric, thresholds, rules, policy, configuration and hypothesis stand in the record before the attempt."""
    Path("c.yaml").write_text("lr: 0.1\nmodel: {width: 3}\n")
    Path("h.md").write_text("# Hypothesis\n\nWider is better.\n")
    said = assay(
        "train", "--config", "c.yaml", "--hypothesis", "h.md", "--primary", "val_loss:min", "--floor", "1",
        "--goal", "< 0.5", "--steps", "9", "--seed", "3", "--rule", "stall_s=60", "--stop", "stall=stop",
        "--require-hypothesis", "--", *OK,
    )  # fmt: skip
    assert said.code == 0
    created, hypothesis, started = events(home)[:3]
    assert created["plan"] == {
        "primary_metric": {"name": "val_loss", "direction": "min", "thresholds": {"floor": 1.0, "goal": 0.5}},
        "total_steps": 9, "seed": 3, "rules": {"stall_s": 60}, "stop": {"stall": "stop"},
    }  # fmt: skip
    assert hypothesis["text"] == "Wider is better."
    assert started["hypothesis_digest"] == hypothesis["digest"]
    assert started["config_digest"] == created["config_digest"] != ""
    assert '"width": 3' in (home / "exp-001" / "config.yaml").read_text()


def test_joining_and_resuming(assay: Call, home: Path) -> None:
    """An id joins, a name makes a new one once it was tried, `--resume` adds an attempt; a plan cannot come late."""
    assert assay("train", "--experiment", "wide", "--", *OK).code == 0
    assert assay("train", "--experiment", "wide", "--", *OK).code == 0
    assert assay("train", "--experiment", "exp-001", "--", *OK).code == 0
    assert assay("train", "--resume", "wide").code == 0
    attempts = {
        n: [e["attempt"] for e in events(home, n) if e["event"] == "attempt_started"]
        for n in ("exp-001", "exp-002")
    }
    assert attempts == {"exp-001": [1, 2], "exp-002": [1, 2]}
    assay("train", "--experiment", "exp-001", "--steps", "5", "--", *OK).refused(2, "its plan is fixed")
    assay("train", "--resume", "exp-001", "--goal", "1").refused(2, "--goal", "fixed")


def test_what_has_ended_takes_no_attempt(assay: Call, home: Path) -> None:
    """A final event closes an experiment for good; the next step is a child."""
    assert assay("train", "--", *OK).code == 0
    append_event(home / "exp-001", "aborted", None, {"reason": "no"})
    assay("train", "--resume", "exp-001").refused(2, "aborted", "--parent exp-001")


@pytest.mark.parametrize(
    ("status", "stopped", "expected"),
    [
        ({"exit_code": 0}, False, ("exited", 0, None)),
        ({"exit_code": 3}, False, ("crashed", 3, None)),
        ({"exit_code": -9}, False, ("killed", None, "SIGKILL")),
        ({"exit_code": -11}, False, ("crashed", None, "SIGSEGV")),
        ({"exit_code": 137}, False, ("killed", 137, "SIGKILL")),
        ({"exit_code": 139}, False, ("crashed", 139, None)),
        ({"exit_code": -15}, True, ("stopped", None, "SIGTERM")),
        ({"exit_code": 0, "ending": "timed_out"}, False, ("stopped", 0, None)),
        ({"exit_code": None}, False, ("lost", None, None)),
        ({}, True, ("lost", None, None)),
        ({"exit_code": -99}, False, ("crashed", None, None)),
    ],
)
def test_outcomes(status: dict[str, Any], stopped: bool, expected: tuple[Any, ...]) -> None:
    """Exit codes and signals, a shell's as well, as the words of the record."""
    found = ending_of(status, stopped=stopped)
    assert (found["outcome"], found["exit_code"], found["signal"]) == expected


def test_stop_policies() -> None:
    """The words, single classes, and what is neither."""
    assert session.stop_policy("default") == {}
    assert set(session.stop_policy("off").values()) == {"warn"}
    assert session.stop_policy("critical")["divergence"] == "stop"
    assert session.stop_policy("stall=stop, nonfinite=warn") == {"stall": "stop", "nonfinite": "warn"}
    with pytest.raises(UsageError):
        session.stop_policy("x")
    with pytest.raises(SpecError):
        session.plan_of({}, {}, {"x": "stop"})


def test_watch_once(assay: Call) -> None:
    """One frame of the newest experiment, or of the one that is named; nothing to show is a usage error."""
    assay("watch", "--once").refused(2, "no experiment", "assay train")
    assay("train", "--experiment", "wide", "--hypothesis", "It runs.", "--", *OK)
    assert "exp-001  wide  trained" in assay("watch", "--once").out
    assert "It runs." in assay("watch", "exp-001", "--once").out
    assay("watch", "exp-009").refused(2, "no experiment 'exp-009'", "exp-001")


def test_watch_follows_to_the_end(assay: Call) -> None:
    """Without a terminal: lines for what happened, and the end of the experiment ends it."""
    assay("train", "--", *OK)
    said = assay("watch", "exp-001")
    assert said.code == 0
    assert said.out.splitlines()[-1] == "exp-001 trained"
