"""What a decided study of texts leaves as files, and how it shows on a terminal."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evolve_world import AFTER, BEFORE, World
from rich.console import Console

from assay.cli import cli
from assay.core.artifact_text import TextKind, changed
from assay.core.candidate import Candidate
from assay.core.errors import UsageError
from assay.core.evidence import Artifact
from assay.core.evolution import Evolution, TextNode
from assay.core.history import StudyHistory
from assay.core.study import AdapterRef
from assay.core.trial import StepRecord, Trial
from assay.ledger.evolve_records import EvolveRecord, of_study
from assay.ledger.home import Home
from assay.readers.texts import read_text
from assay.report.delivery import deliver
from assay.report.evolve_text import change_of, print_change, print_tasks, tasks_json
from assay.report.judged_texts import texts_of
from assay.report.seed_fields import known_fields

HEAD = "---\nname: repair\ndescription: Repairs programs.\n---\n\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A project's `.assay` folder."""
    return Home(tmp_path / ".assay", create=True)


def decided(home: Home, **more: Any) -> World:
    """A study that ended, in that folder."""
    return World(home.folder.parent, ledger=home.ledger, store=home.store, **more).run()


def delivered(home: Home, world: World) -> Mapping[str, bytes]:
    """Name → bytes of what was delivered; the folder holds nothing else."""
    paths = deliver(home, world.history)
    folder = home.study("repair-1") / "delivery"
    assert sorted(paths) == sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_an_accepted_text_lies_beside_its_baseline(home: Home) -> None:
    """Both files whole with their frontmatter, the patch, the reasons and the document."""
    files = delivered(home, decided(home))
    assert sorted(files) == [
        "baseline_skill.md",
        "candidate.patch",
        "evolved_skill.md",
        "gate_decision.json",
        "reasons.md",
    ]
    assert files["baseline_skill.md"].decode() == HEAD + BEFORE + "\n"
    assert files["evolved_skill.md"].decode() == HEAD + AFTER + "\n"
    told = files["reasons.md"].decode()
    assert told.startswith("# ACCEPT: found\n")
    assert "| csv-quotes |" in told
    assert "`assay apply repair-1-1` puts it in place" in told


@pytest.mark.parametrize("program", ["patch", "git"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_patch_applies(program: str, newline: str, end: str, home: Home, tmp_path: Path) -> None:
    """In a copy of the project, whatever ends the lines and the file."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    world = decided(home, newline=newline, end=end)
    files = delivered(home, world)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "skills", copy / "skills")
    command = (
        ["patch", "-p1", "--silent"] if program == "patch" else ["git", "apply", "--whitespace=nowarn", "-"]
    )
    environment = {"GIT_CEILING_DIRECTORIES": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=copy, input=files["candidate.patch"], capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (copy / "skills" / "repair" / "SKILL.md").read_bytes() == files["evolved_skill.md"]


@pytest.mark.parametrize("outcome", ["refuse", "inconclusive", "static"])
def test_a_refused_text_is_kept_beside_its_reasons(outcome: str, home: Home) -> None:
    """It is called FAILED, and no file of its name says that it may be deployed."""
    files = delivered(home, decided(home, outcome=outcome))
    assert "evolved_skill.md" not in files
    assert files["evolved_FAILED.md"].decode() == HEAD + AFTER + "\n"
    assert "## What would change it" in files["reasons.md"].decode()


def test_an_open_question_names_the_runs_that_settle_it(home: Home) -> None:
    """The reasons say how many are missing."""
    files = delivered(home, decided(home, outcome="inconclusive"))
    assert "About 424 more agent runs would settle it (640 in all)." in files["reasons.md"].decode()


@pytest.mark.parametrize(
    ("outcome", "decision", "reason", "seed"),
    [
        ("accept", "deploy", "ok", "deploy"),
        ("refuse", "reject", "growth_quality_gate", "reject"),
        ("inconclusive", "reject", "inconclusive", "deploy"),
        ("static", "reject", "static_constraint_failure", "reject"),
    ],
)
def test_the_document_never_deploys_what_was_refused(
    outcome: str, decision: str, reason: str, seed: str, home: Home
) -> None:
    """Schema 5 with the word of the rule that decided; the rule before ours stands beside it."""
    document = json.loads(delivered(home, decided(home, outcome=outcome))["gate_decision.json"])
    assert document["schema_version"] == 5
    assert (document["decision"], document["reason"]) == (decision, reason)
    assert document["seed_decision"] == seed
    assert document["assay"]["trial"] == "repair-1-1"


def test_the_document_says_how_the_search_picked(home: Home) -> None:
    """The band with scores and lengths, the parts of the suite, and what was asked for."""
    world = decided(home)
    record = of_study(world.history, home.store)[0]
    select = ({"a": 0.0, "b": 0.5}, {"a": 1.0, "b": 0.5}, {"a": 0.5, "b": 1.0}, {"a": 0.5, "b": 0.0})
    nodes = tuple(
        TextNode(number=i, text=f"sha256:{i}", chars=c, state="kept" if i else "baseline", select=s)
        for i, (c, s) in enumerate(zip((10, 30, 20, 15), select, strict=True))
    )
    facts = {"tasks_train": ["t", "u", "v"], "tasks_select": ["a", "b"], "band": [1, 2]}
    found = Evolution(subject="c", engine="own", nodes=nodes, picked=2, seed=7, facts=facts)
    told = known_fields(replace(record, evolution=found), "strict")
    confirmed = 0 if record.runs is None else len(set(record.runs.tasks) - set(record.runs.canaries))
    assert told["dataset"]["size_holdout"] == confirmed > 0
    assert told["dataset"]["size_total"] == 5 + confirmed
    assert (told["run_inputs"]["seed"], told["run_inputs"]["quality_gate_preset"]) == (7, "strict")
    knee = told["knee_point"]
    assert [r["idx"] for r in knee["band_roster"]] == [2, 1], "as good as the other, and shorter"
    assert (knee["applied"], knee["picked_val_rank_in_band"], knee["epsilon"]) == (True, 1, 0.5)
    assert (knee["picked_val_score"], knee["picked_body_chars"], knee["gepa_default_idx"]) == (0.75, 20, 2)
    nothing = known_fields(replace(record, evolution=found.model_copy(update={"picked": 0})), "strict")
    assert nothing["knee_point"] == {"applied": False, "reason": "no_detailed_results"}


def test_nothing_built_has_reasons_only(home: Home) -> None:
    """A preflight that refuses leaves no text and no patch."""
    assert sorted(delivered(home, decided(home, outcome="dead"))) == ["reasons.md"]


def test_a_search_that_found_nothing_hands_over_no_text(home: Home) -> None:
    """The baseline built again is no candidate: no FAILED text, no patch, no document; the diff says so."""
    world = decided(home, outcome="nothing")
    files = delivered(home, world)
    assert sorted(files) == ["reasons.md"]
    assert "the search found nothing better" in files["reasons.md"].decode()
    with pytest.raises(UsageError, match="nothing better"):
        change_of(home, world.history, None)


def test_an_open_study_delivers_nothing(home: Home) -> None:
    """Before a Decision there is nothing to hand over."""
    world = decided(home)
    count = next(i for i, e in enumerate(world.ledger.read()) if e.type.value == "decision.recorded")
    assert deliver(home, world.after_events(count)) == ()
    assert not (home.study("repair-1") / "delivery").exists()


def test_delivering_again_mends_and_changes_nothing(home: Home) -> None:
    """After a kill in between, what is missing or torn is written again, and what stands is not touched."""
    world = decided(home)
    first = delivered(home, world)
    folder = home.study("repair-1") / "delivery"
    stood = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert delivered(home, world) == first
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == stood
    (folder / "reasons.md").unlink()
    (folder / "candidate.patch").write_bytes(b"torn")
    (folder / "evolved_FAILED.md").write_bytes(b"of an earlier Decision")
    assert delivered(home, world) == first


def test_after_apply_the_baseline_is_put_together_again(home: Home) -> None:
    """The source holds the candidate now; baseline and patch are the same as before."""
    world = decided(home)
    first = delivered(home, world)
    source = home.folder.parent / "skills" / "repair" / "SKILL.md"
    source.write_bytes(first["evolved_skill.md"])
    shutil.rmtree(home.study("repair-1") / "delivery")
    assert delivered(home, world) == first


@pytest.mark.parametrize("after", [AFTER + "\n\n", "", "short"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_whatever_was_applied_the_baseline_comes_back(after: str, newline: str, home: Home) -> None:
    """Texts that end in empty lines, or are empty, hide no byte of the file that was judged."""
    world = decided(home, after=after, newline=newline)
    first = delivered(home, world)
    (home.folder.parent / "skills" / "repair" / "SKILL.md").write_bytes(first["evolved_skill.md"])
    shutil.rmtree(home.study("repair-1") / "delivery")
    assert delivered(home, world)["baseline_skill.md"] == first["baseline_skill.md"]


def test_a_changed_copy_is_never_handed_over(home: Home) -> None:
    """What was built and then changed is not what was judged: no text, no patch, and the reason."""
    world = decided(home)
    built = next(home.study("repair-1").rglob("artifact/repair/SKILL.md"))
    built.write_text("something else\n")
    files = delivered(home, world)
    assert sorted(files) == ["baseline_skill.md", "gate_decision.json", "reasons.md"]
    assert "There is no patch: the built text changed since." in files["reasons.md"].decode()


def test_a_plain_file_keeps_its_suffix(home: Home) -> None:
    """Rules in a `.txt` are delivered as such, whole."""
    files = delivered(home, decided(home, file="rules.txt"))
    assert files["evolved_text.txt"].decode() == AFTER
    assert files["baseline_text.txt"].decode() == BEFORE + "\n"
    assert b"+++ b/skills/repair/rules.txt\n" in files["candidate.patch"]


TOOLS = (
    b'\xef\xbb\xbf{"tools": [\r\n  {"name": "find", "description": '
    b'"Finds\\u00e9 \\"x\\" \\/ y.", "inputSchema": {}}\r\n]}'
)
REGION = b"x = 1\r\n# evolve:rules start\r\n# a\r\n# b\r\n# evolve:rules end\r\ny = \xff\r\n"


@pytest.mark.parametrize(
    ("name", "data", "kind", "inner"),
    [("tools.json", TOOLS, TextKind.TOOL, "find"), ("code.py", REGION, TextKind.REGION, "rules")],
)
def test_a_part_of_a_file_is_delivered_whole(
    name: str, data: bytes, kind: TextKind, inner: str, home: Home, tmp_path: Path
) -> None:
    """Manifest or source code: every other byte stays, before and after the candidate was applied."""
    source, built = tmp_path / name, home.folder / "studies" / "s-1" / "artifact"
    source.write_bytes(data)
    built.mkdir(parents=True)
    old = read_text(source, kind, inner)
    after, new = changed(old, data, "Finds all of it.\nTwice.")
    (built / name).write_bytes(after)
    new = new.model_copy(update={"path": str(built / name)})
    facts = {"baseline": old.to_json(), "candidate": new.to_json()}
    artifact = Artifact(path="studies/s-1/artifact", digest="sha256:" + "0" * 64, size_bytes=1)
    trial = Trial(
        "s-1-1", 1, Candidate(name="c", parent="p", build=AdapterRef(kind="text")), "2026-01-01T00:00:00Z"
    )
    trial.steps["build"] = StepRecord("build", "k", 1.0, artifact=artifact)
    record = EvolveRecord(trial, evolution=Evolution(subject="c", engine="given", facts=facts))
    study = (
        World(tmp_path)
        .study()
        .model_copy(
            update={"id": "s-1", "source": Artifact(path=str(source), digest=old.digest, size_bytes=1)}
        )
    )
    history = StudyHistory(study=study, opened="2026-01-01T00:00:00Z")
    for stands in (data, after):
        source.write_bytes(stands)
        if stands == after:  # how JSON was escaped cannot be guessed: it was delivered before it was applied
            kept = home.study("s-1") / "delivery" / f"baseline_x{source.suffix}"
            kept.parent.mkdir()
            kept.write_bytes(data if kind is TextKind.TOOL else b"not the one")
        found = texts_of(home.folder, history, record)
        assert (found.before, found.after, found.file, found.inside) == (data, after, name, True)
        assert (found.stem, found.suffix) == ("tool" if kind is TextKind.TOOL else "text", Path(name).suffix)


def test_several_candidates_have_a_folder_each(home: Home) -> None:
    """No candidate's files lie under another's name."""
    files = delivered(home, decided(home, names=("one", "two")))
    assert {name.partition("/")[0] for name in files} == {"repair-1-1", "repair-1-2"}


def test_reasons_hold_foreign_words_as_words(home: Home) -> None:
    """Pipes, brackets and backticks of a task or sentence open no table, link or code."""
    files = delivered(home, decided(home, tasks=("a|b`<c>[d]*",)))
    assert r"| a\|b\`\<c\>\[d\]\* |" in files["reasons.md"].decode()


# -- terminal -----------------------------------------------------------------------------------------


def test_the_diff_of_a_study_is_its_candidate_s(home: Home) -> None:
    """The same patch as the delivered one; an unfinished study says what to do."""
    world = decided(home)
    trial, made, _ = change_of(home, world.history, None)
    assert trial == "repair-1-1"
    assert made == delivered(home, world)["candidate.patch"]
    with pytest.raises(UsageError, match="no candidate was built yet"):
        change_of(home, world.after_events(3), None)


def test_a_terminal_shows_no_escape_of_a_text(home: Home) -> None:
    """Colours are ours; what a text says stays text."""
    world = decided(home, after=AFTER + "\x1b]0;owned\x07\x1b[2J")
    out = io.StringIO()
    print_change(change_of(home, world.history, None)[1], Console(file=out, force_terminal=True, width=100))
    assert "\x1b[32m" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b]0" not in out.getvalue()


def test_tasks_on_a_terminal(home: Home) -> None:
    """Each task with both arms, canaries marked, and the mean with its interval."""
    world = decided(home)
    record = of_study(world.history, world.store)[0]
    out = io.StringIO()
    print_tasks(record, Console(file=out, width=120))
    for text in ("csv-quotes", "wrapper-script (canary)", "mean 26.0 %", "12 tasks"):
        assert text in out.getvalue()
    rows = tasks_json(record)
    assert len(rows) == 14
    assert {"passed", "runs", "lost", "rate", "low", "high"} == set(rows[0]["baseline"])


def test_texts_of_a_trial_that_never_built(home: Home) -> None:
    """The baseline is there; what is missing is told."""
    world = decided(home, outcome="dead")
    found = texts_of(home.folder, world.history, of_study(world.history, world.store)[0])
    assert (found.baseline, found.candidate, found.after) == (BEFORE, None, None)
    assert found.problem == "no candidate was built"


def test_show_from_the_command_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--diff` piped is the patch, `--json` holds it, and the files of a killed delivery are written again."""
    world = decided(home)
    monkeypatch.setenv("ASSAY_HOME", str(home.folder))
    piped = CliRunner().invoke(cli, ["show", "repair-1", "--diff"])
    folder = home.study("repair-1") / "delivery"
    assert piped.stdout_bytes == (folder / "candidate.patch").read_bytes()
    held = json.loads(CliRunner().invoke(cli, ["show", "repair-1-1", "--diff", "--json"]).stdout)
    assert (held["schema"], held["trial"], held["patch"]) == ("diff/1", "repair-1-1", piped.stdout)
    assert (held["baseline"], held["candidate"]) == (BEFORE, AFTER)
    told = CliRunner().invoke(cli, ["show", "repair-1-1"]).stdout
    assert "csv-quotes" in told
    assert len(json.loads(CliRunner().invoke(cli, ["show", "repair-1-1", "--json"]).stdout)["tasks"]) == 14
    assert world.history.study.id == "repair-1"
