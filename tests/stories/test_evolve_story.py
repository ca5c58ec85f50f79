"""Story: the life of an evolve study, from the first spec to the proof of each section, by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from evolve_project import BETTER, GIVEN, KNOWN, RUN, WORDS, Evolve, decided, lay_out, rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


GATES = ["deploy", "setup", "preflight", "text", "deploy"]
"""Those of a study with two looks, as `verify` asks them again: earlier looks first."""


def told(project: Evolve, *arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    done = project.run(*arguments, "--json")
    assert done.returncode == code, f"{arguments}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def test_a_life(tmp_path: Path) -> None:
    """init, lint-suite, plan, calibrate, run, show, report, verify, apply, undo, minimize, ablate: each does its part."""
    project = lay_out(tmp_path / "project")
    first = project.run("init", "evolve")
    assert first.returncode == 0
    assert yaml.safe_load(first.stdout)["schema"] == "evolve/1"

    plan = told(project, "plan", "tiny.yaml", code=3)
    assert (plan["suite"]["train"], plan["suite"]["select"], plan["suite"]["confirm"]) == (4, 4, 8)

    noise = told(project, "calibrate", "tiny.yaml")
    assert noise["study"] == "tiny-noise-1"
    assert set(noise["verdict"]["extra"]["rates"]) == {f"{k}-{n}" for k in WORDS for n in (2, 3)}

    ran = told(project, "run", "tiny.yaml", "--anyway")
    assert (ran["id"], ran["outcome"]) == ("tiny-1", "ACCEPT")
    assert Path(ran["report"]).read_text().startswith("<!doctype html>")
    assert (Path(ran["delivery"]) / "evolved_text.md").exists()

    diff = project.run("show", "tiny-1", "--diff")
    assert {"+- blue: sky", "+- black: coal"} <= set(diff.stdout.splitlines())
    checked = subprocess.run(
        ["patch", "-p1", "--dry-run"],
        cwd=project.folder,
        input=diff.stdout,
        text=True,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert told(project, "show", "tiny-1")["outcome"] == "ACCEPT"
    checks = told(project, "verify", "tiny-1")["checks"]
    assert [c["where"].split()[1] for c in checks if c["what"] == "verdict" and c["ok"]] == GATES

    shown = project.run("apply", "tiny-1")
    assert shown.returncode == 0
    assert project.text.read_text() == rules(KNOWN), "without --yes nothing changes"
    assert project.run("apply", "tiny-1", "--yes").returncode == 0
    accepted = project.text.read_text()
    assert set(accepted.splitlines()) == set(BETTER.splitlines())
    assert project.run("undo", "tiny-1").returncode == 0
    assert project.text.read_text() == rules(KNOWN)

    shorter = told(project, "minimize", "tiny.yaml", "--max-runs", "40", code=4)
    assert shorter["id"] == "tiny-short-1"
    parts = told(project, "ablate", "tiny.yaml", "--by", "lines")
    earned = {r["title"]: r["earns"] for r in parts["verdict"]["extra"]["sections"]}
    assert max(earned, key=lambda title: earned[title]) in {f"- {k}: {WORDS[k]}" for k in KNOWN}
    project.nothing_left()


SKILL = "---\nname: say\ndescription: What to say. Use it when asked to do something.\n---\n\n"
OTHER_TOOL = {"name": "other", "description": "Does nothing \u00fc", "inputSchema": {"type": "object"}}


def as_skill(folder: Path, text: str) -> Path:
    """A skill's folder with a script beside the text."""
    (folder / "say" / "scripts").mkdir(parents=True)
    (folder / "say" / "scripts" / "run.sh").write_text("#!/bin/sh\necho x\n")
    (folder / "say" / "SKILL.md").write_bytes((SKILL + text + "\n").encode())
    return folder / "say" / "SKILL.md"


def as_tool(folder: Path, text: str) -> Path:
    """A manifest with odd spaces, and bytes that another writer would escape."""
    say = json.dumps({"name": "say", "description": text, "inputSchema": {"type": "object"}})
    data = '{ "tools" :  [\n\t' + json.dumps(OTHER_TOOL, ensure_ascii=False) + " ,\n" + say + "]}\n\n"
    (folder / "tools.json").write_bytes(data.encode())
    return folder / "tools.json"


def as_region(folder: Path, text: str) -> Path:
    """A file whose other bytes are no text."""
    before, after = b"\xff\xfe<!-- evolve:say start -->\n", b"\n<!-- evolve:say end -->\n\x00"
    (folder / "AGENTS.md").write_bytes(b"x\n" + before[2:] + text.encode() + after)
    return folder / "AGENTS.md"


def as_plain(folder: Path, text: str) -> Path:
    """The text is the file."""
    (folder / "rules.md").write_bytes(text.encode())
    return folder / "rules.md"


@pytest.mark.parametrize(
    ("lay", "where"),
    [
        (as_skill, "{path: say, kind: skill}"),
        (as_tool, "{path: tools.json, name: say}"),
        (as_region, "{path: AGENTS.md, name: say}"),
        (as_plain, "{path: rules.md, kind: plain}"),
    ],
    ids=["skill", "tool", "region", "plain"],
)
def test_accepted_and_taken_back(tmp_path: Path, lay: Callable[[Path, str], Path], where: str) -> None:
    """Only the text changes when it is applied, and undo brings every byte and the mode back."""
    project = lay_out(tmp_path / "project", text=where)
    target, wanted = lay(project.folder, rules(KNOWN)), tmp_path / "wanted"
    wanted.mkdir()
    as_it_should_be = lay(wanted, BETTER).read_bytes()
    target.chmod(0o640)
    before = target.read_bytes()
    decided(project, "--set", "preflight_repeats=1")
    assert target.read_bytes() == before, "nothing is applied unasked"
    done = project.run("apply", "tiny-1", "--yes")
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == as_it_should_be
    assert project.run("undo", "tiny-1").returncode == 0
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (before, 0o640)


def test_what_changes_under_a_study(tmp_path: Path) -> None:
    """A text or suite that changed while a study was killed is refused, by name; put back, the study goes on."""
    project = lay_out(tmp_path / "project")
    text, suite = project.text.read_text(), (project.folder / "suite.jsonl").read_text()
    code = project.killed("after", 11, *RUN, *GIVEN)
    assert code == -9
    assert len(project.evidence()) == 1, "killed between preflight and the first look"

    project.text.write_text(text + "\n- white: snow")
    refused = project.run("resume", "tiny-1")
    assert refused.returncode == 2
    assert "the text changed since the study opened" in refused.stderr
    project.text.write_text(text)

    (project.folder / "suite.jsonl").write_text(suite.replace("ruby", "rubin"))
    refused = told(project, "resume", "tiny-1", code=5)
    assert refused["trials"][-1]["failure_class"] == "USER_CONFIG_ERROR"
    assert "the suite is no longer the one" in refused["trials"][-1]["sentence"]
    (project.folder / "suite.jsonl").write_text(suite)

    assert told(project, "resume", "tiny-1")["outcome"] == "ACCEPT"
    assert max(project.invoked().values()) == 1
    bundle = tmp_path / "elsewhere" / "tiny.zip"
    bundle.parent.mkdir()
    assert project.run("report", "tiny-1", "--bundle", str(bundle)).returncode == 0
    shutil.rmtree(project.folder)
    elsewhere = Evolve(bundle.parent)
    checks = told(elsewhere, "verify", str(bundle))["checks"]
    assert [c["where"].split()[1] for c in checks if c["what"] == "verdict" and c["ok"]] == GATES
