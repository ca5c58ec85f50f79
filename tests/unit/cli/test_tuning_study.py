"""A tuning study from the command line: it has the machine to itself, and what it recommends is applied with care."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from service_manager import runs

from assay.cli.load import load_any
from assay.cli.staleness import stale
from assay.cli.tuning_study import room_for
from assay.core.canon import digest_bytes
from assay.core.errors import UsageError
from assay.core.events import EventType
from assay.core.recommendation import Inputs, Machine, Recommendation
from assay.core.tuning_record import TuningRecord
from assay.flows.tune import TuneSpec
from assay.ledger.home import Home
from assay.ledger.projections import histories
from assay.ledger.tuning_records import keep_imported, of_study
from assay.testing.fakes import fake_study
from cli_call import Call

SPEC = f"""schema: tune/1
name: tuned
models: [big.gguf]
engine:
  kind: command
  version: "1.0"
  command: ["{sys.executable}", -m, assay.testing.engine, --port, "{{port}}", --model, "{{name}}",
            --ttft-ms, "2", --itl-ms, "0.2", --slots, "{{slots}}"]
context_knob: ""
contexts: [512]
knobs: {{slots: [2]}}
workload: {{prompt_tokens: 16, output_tokens: 4, api: chat}}
load: {{concurrency: [1], requests: 6}}
service_levels: {{ttft_p95_ms: 20000}}
apply: {{kind: config_file, path: config.yaml, keys: {{model: path, slots: settings.slots}}}}
"""
CONFIG = b"# ours\nmodel: old.gguf   # the old one\nslots: 1\n"


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    """A spec of one setting on the simulated engine: one launch, and the recommendation."""
    (tmp_path / "big.gguf").write_bytes(b"big")
    (tmp_path / "config.yaml").write_bytes(CONFIG)
    spec = tmp_path / "tune.yaml"
    spec.write_text(SPEC)
    return spec


def ended(tmp_path: Path) -> tuple[Home, Any]:
    """The ledger and the one study in it."""
    home = Home(tmp_path / ".assay", create=False)
    return home, histories(home.ledger.read())["tuned-1"]


def test_conflicts_are_refused_unless_the_spec_says_otherwise(tune: Path) -> None:
    """The default is not to share the machine."""
    found = load_any(tune)
    assert isinstance(found, TuneSpec)
    assert found.conflicts == "refuse"


def test_what_is_applied_is_a_change_of_the_file_as_it_was(tune: Path) -> None:
    """The digest of the target is pinned with the spec; a file that is to be made counts as empty."""
    found = load_any(tune)
    assert found.apply.options["expects"] == digest_bytes(CONFIG)
    (tune.parent / "config.yaml").unlink()
    assert load_any(tune).apply.options["expects"] == digest_bytes(b"")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("engine.env={OMP_WAIT_POLICY: active}", "let idle threads spin"),
        ("engine.env={GOMP_SPINCOUNT: '1000000'}", "let idle threads spin"),
        ("engine.env={GOMP_SPINCOUNT: '1000'}", ""),
        ("engine={kind: llama_cpp, threads: 4096}", "4096 threads on"),
    ],
)
def test_known_traps_are_told(tune: Path, override: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that spin, and more threads than processors."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    found = load_any(tune, [override])
    assert isinstance(found, TuneSpec)
    assert told in " ".join(found.remarks)
    assert bool(told) == bool(found.remarks)


@pytest.mark.slow
def test_refused_beside_an_engine_and_begun_when_it_is_drained(
    assay: Call, tune: Path, manager: Path, tmp_path: Path
) -> None:
    """Nothing is begun beside it, and the run is told; named, it makes way for the study and runs again afterwards."""
    said = assay("run", tune)
    assert said.code == 2
    assert "llama.cpp runs already" in said.err
    assert "share" in said.err
    assert runs(manager)
    assert "`assay resume tuned-1` begins once there is room" in said.err
    shown = assay("show", "tuned-1", "--json").json
    assert (shown["trials"], shown["recommendation"]["exit_reason"]) == ([], "provider_conflict")
    assert assay("resume", "tuned-1").code == 2
    said = assay("resume", "tuned-1", "--drain", "our-engine", "--no-report")
    assert said.code == 0, said.err
    assert "our-engine.service is stopped" in said.err
    assert runs(manager)
    said = assay("run", tune, "--set", "conflicts=ignore", "--no-report", "--json")
    assert said.code == 0
    assert said.json["recommendation"]["recommendation"]["path"] == str(tmp_path / "big.gguf")


@pytest.mark.slow
def test_only_a_tuning_study_drains(assay: Call, manager: Path) -> None:
    """A study that starts no server has nothing to drain for."""
    (source := manager / "source").mkdir()
    (source / "weights").write_text("w")
    with (
        pytest.raises(UsageError, match="measures no speed"),
        room_for(fake_study(source), Home(manager / ".assay", create=True), ("our-engine",)),
    ):
        pytest.fail("there was room")
    assert runs(manager)


@pytest.mark.slow
def test_apply_and_undo(assay: Call, tune: Path, alone: None, tmp_path: Path) -> None:
    """The path of the model and the setting reach the file, and undo brings the very bytes back."""
    assert assay("run", tune, "--no-report").code == 0
    said = assay("apply", "tuned-1", "--yes")
    assert said.code == 0, said.err
    text = (tmp_path / "config.yaml").read_text()
    assert f"model: {tmp_path / 'big.gguf'}" in text
    assert "slots: 2" in text
    assert "# ours" in text
    assert assay("undo", "tuned-1").code == 0
    assert (tmp_path / "config.yaml").read_bytes() == CONFIG


@pytest.mark.slow
def test_a_file_that_changed_since_the_study_opened(
    assay: Call, tune: Path, alone: None, tmp_path: Path
) -> None:
    """It is not what was judged; forcing it needs a reason, which the ledger keeps."""
    assert assay("run", tune, "--no-report").code == 0
    (tmp_path / "config.yaml").write_bytes(CONFIG + b"more: 1\n")
    said = assay("apply", "tuned-1", "--yes")
    assert said.code == 2
    assert "changed since the study opened" in said.err
    said = assay("apply", "tuned-1", "--yes", "--force", "changed")
    assert (said.code, "--reason" in said.err) == (2, True)
    assert assay("apply", "tuned-1", "--yes", "--force", "nonsense", "--reason", "x").code == 2
    said = assay("apply", "tuned-1", "--yes", "--force", "changed", "--reason", "only a comment")
    assert said.code == 0, said.err
    home, _ = ended(tmp_path)
    (event,) = [e for e in home.ledger.read() if e.type is EventType.APPLY_INTENDED]
    assert (event.data["forced"], event.data["reason"]) == (["changed"], "only a comment")
    assert assay("verify", "tuned-1").code == 0


@pytest.mark.slow
def test_an_application_that_failed_does_not_stand_in_the_way_of_another(
    assay: Call, tune: Path, alone: None, tmp_path: Path
) -> None:
    """The engine refused the file and a person mended it: forced, it changes from there, and undo leads back there."""
    program = 'import sys; sys.exit("mended" not in open(sys.argv[1]).read())'
    check = f"apply.check={json.dumps([sys.executable, '-c', program, '{path}'])}"
    assert assay("run", tune, "--no-report", "--set", check).code == 0
    assert assay("apply", "tuned-1", "--yes").code == 6
    assert (tmp_path / "config.yaml").read_bytes() == CONFIG
    mended = CONFIG + b"mended: true\n"
    (tmp_path / "config.yaml").write_bytes(mended)
    said = assay("apply", "tuned-1", "--yes")
    assert (said.code, "--force changed" in said.err) == (2, True)
    said = assay("apply", "tuned-1", "--yes", "--force", "changed", "--reason", "mended")
    assert said.code == 0, said.err
    assert b"slots: 2" in (tmp_path / "config.yaml").read_bytes()
    assert assay("undo", "tuned-1").code == 0
    assert (tmp_path / "config.yaml").read_bytes() == mended


@pytest.mark.slow
def test_what_was_measured_oddly_is_told_and_the_command_names_the_model(
    assay: Call, tune: Path, alone: None
) -> None:
    """A server without usage: its tokens are an estimate. The command has the model's name, not that of a trial."""
    text = tune.read_text().replace('"{slots}"]', '"{slots}", --quirks, no_usage]')
    tune.write_text(text)
    said = assay("run", tune, "--no-report")
    assert "the server sends no usage" in said.out, said.err
    command = said.out.strip().splitlines()[-1].split()
    assert command[command.index("--model") + 1] == "big"
    assert "the server sends no usage" in assay("show", "tuned-1").out


@pytest.mark.slow
def test_a_bundle_holds_the_page_of_a_tuning_study(
    assay: Call, tune: Path, alone: None, tmp_path: Path
) -> None:
    """The same page as the report, and the bundle is accepted anywhere."""
    assert assay("run", tune, "--no-report").code == 0
    page = Path(assay("report", "tuned-1").out.strip()).read_bytes()
    assert assay("report", "tuned-1", "--bundle", "study.zip").code == 0
    with zipfile.ZipFile(tmp_path / "study.zip") as bundle:
        (name,) = [n for n in bundle.namelist() if n.endswith(".html")]
        assert bundle.read(name) == page
    assert assay("verify", "study.zip").code == 0


@pytest.mark.slow
def test_an_unresolved_result_is_applied_only_by_force(
    assay: Call, tune: Path, alone: None, tmp_path: Path
) -> None:
    """A study whose time was up: refused with the way to force it; forced, it is written and recorded."""
    short = ("knobs.slots=[2, 1]", "load.concurrency=[2]", "budget.max_duration_s=1")
    said = assay("run", tune, "--no-report", *(word for text in short for word in ("--set", text)))
    assert said.code == 4, said.err
    said = assay("apply", "tuned-1", "--yes")
    assert said.code == 2
    assert "only ACCEPT is applied" in said.err
    assert "--force unresolved --reason" in said.err
    assert (tmp_path / "config.yaml").read_bytes() == CONFIG
    said = assay("apply", "tuned-1", "--yes", "--force", "unresolved", "--reason", "good enough for a test")
    assert said.code == 0, said.err
    assert "slots: 2" in (tmp_path / "config.yaml").read_text()
    assert assay("undo", "tuned-1").code == 0
    assert (tmp_path / "config.yaml").read_bytes() == CONFIG


@pytest.mark.slow
def test_a_study_without_an_end_is_exported_as_far_as_it_came(
    assay: Call, tune: Path, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its first launch: a row that says `crashed`, the best so far, and a report of it."""

    def struck(*_: Any) -> None:
        raise Killed

    class Killed(BaseException):
        pass

    monkeypatch.setattr("assay.adapters.build.recommendation.Adapter.build", struck)
    with pytest.raises(Killed):
        assay("run", tune, "--no-report")
    said = assay("export", "--sqlite", "runs.db")
    assert said.code == 0, said.err
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        ((reason, document),) = file.execute(
            "SELECT exit_reason, recommendation_json FROM tune_runs"
        ).fetchall()
        assert reason == "crashed"
        assert json.loads(document)["partial"] is True
        assert file.execute("SELECT count(*) FROM tune_trials").fetchone() == (1,)
    assert "RECOMMENDATION (unresolved, PARTIAL)" in assay("show", "tuned-1").out
    assert "stale" not in assay("show", "tuned-1").out
    assert Path(assay("report", "tuned-1").out.strip()).is_file()


@pytest.mark.slow
def test_a_study_whose_evidence_is_damaged_does_not_hold_back_another(
    assay: Call, tune: Path, alone: None, tmp_path: Path
) -> None:
    """Of two studies one lost a document: the other is exported, by its name with 0, among all with 7."""
    for _ in range(2):
        said = assay("run", tune, "--no-report")
        assert said.code == 0, said.err
        assert "measured" in said.err
        assert "INCONCLUSIVE" not in said.err + said.out
    home = Home(tmp_path / ".assay", create=False)
    evidence = [
        s.evidence for t in histories(home.ledger.read())["tuned-1"].trials.values() for s in t.steps.values()
    ]
    for digest in filter(None, evidence):
        (path,) = (home.folder / "evidence").rglob(f"*{digest.removeprefix('sha256:')[2:]}*")
        path.write_text("{}")
    said = assay("export", "--sqlite", "all.db", "--json")
    assert said.code == 7
    assert (said.json["runs"], said.json["left_out"]) == (["tuned-2"], ["tuned-1"])
    assert assay("export", "tuned-2", "--sqlite", "one.db").code == 0
    assert assay("export", "tuned-1", "--sqlite", "none.db").code == 7
    assert not (tmp_path / "none.db").exists()


@pytest.mark.slow
def test_staleness_is_shown(
    assay: Call, tune: Path, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changed: nothing said. Another model file or machine: named by `show` and in the report."""
    assert assay("run", tune, "--no-report").code == 0
    said = assay("show", "tuned-1")
    assert "RECOMMENDATION (resolved)" in said.out
    assert "stale" not in said.out
    assert assay("show", "tuned-1", "--json").json["stale"] == []
    os.utime(tmp_path / "big.gguf")  # touched, but the same bytes
    home, history = ended(tmp_path)
    assert stale(history, of_study(history, home.store)) == ()
    (tmp_path / "big.gguf").write_bytes(b"pig")
    monkeypatch.setattr("assay.runtime.machine.chip", lambda: "another chip")
    changed = {c["field"] for c in assay("show", "tuned-1", "--json").json["stale"]}
    assert changed == {"weights", "machine"}
    assert "stale" in assay("show", "tuned-1").out
    assert "stale: weights was" in assay("apply", "tuned-1").err
    page = Path(assay("report", "tuned-1").out.strip()).read_text()
    assert "another chip" in page


def test_imported_runs_are_found_by_their_id(assay: Call, tmp_path: Path) -> None:
    """`show` and `report` know them; their word is marked as another tool's."""
    home = Home(tmp_path / ".assay", create=True)
    record = TuningRecord(
        recommendation=Recommendation(
            run_id="run-7/odd name",
            started_at="2026-01-01T00:00:00Z",
            machine=Machine(ram_gb=8, chip="M1"),
            inputs=Inputs(target_context=2000, candidate_models=("m",)),
        )
    )
    keep_imported(home.folder, record)
    said = assay("show", "run-7/odd name")
    assert said.code == 0
    assert said.out.startswith("imported: what another tool said")
    assert assay("show", "run-7/odd name", "--json").json["provenance"] == "self_reported"
    assert Path(assay("report", "run-7/odd name").out.strip()).parent == home.folder / "reports"
    assert assay("show", "run-8").code == 2
