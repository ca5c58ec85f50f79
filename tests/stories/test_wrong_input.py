"""Story: what goes wrong while a study runs, each with one line that names place and remedy, and the right exit code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twin_project import MODEL, WORKER, Project, published_right

from assay.core.canon import canonical
from assay.core.events import EventType
from assay.core.vocabulary import FailureClass, Outcome
from assay.testing import servers

pytestmark = pytest.mark.slow

SMALL = ("--no-report", "--set", "recipes=[{name: q8_0, build: {kind: gguf, type: Q8_0}}]")
"""One recipe that is accepted."""


def fake(mode: str) -> tuple[str, ...]:
    """The fake server instead of llama.cpp's."""
    serve = {"kind": "command", "command": list(servers.command(mode)), "ready_timeout_s": 8}
    return (*SMALL, "--set", f"serve={json.dumps(serve)}")


def refused(project: Project, code: int, failure: FailureClass, *fragments: str) -> None:
    """The one trial ended without an ACCEPT, its sentence says why, and nothing is left or published."""
    history = project.history()
    (decision,) = history.decisions
    assert decision.outcome in {Outcome.ANOMALOUS, Outcome.INFEASIBLE}
    assert decision.failure_class is failure
    for fragment in fragments:
        assert fragment in decision.sentence
    assert "\n" not in decision.sentence
    assert history.closed is not None
    assert {Outcome.ANOMALOUS: 5, Outcome.INFEASIBLE: 3}[decision.outcome] == code
    assert not project.published.exists()
    project.nothing_left()


# -- servers and harnesses ------------------------------------------------------------------------------


def test_port_taken(project: Project) -> None:
    """Who has it, and what to do; once it is free, `assay resume` goes on without building again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.run("run", "release.yaml", *SMALL, "--set", f"serve.port={port}")
        place = (f"port {port} is taken by pid {os.getpid()}", "serve.port", "port: 0")
        refused(project, done.returncode, FailureClass.USER_CONFIG_ERROR, *place)
    assert project.run("resume", "twin-1", "--no-report").returncode == 0
    published = [e.data["trial"] for e in project.events() if e.type is EventType.APPLY_DONE]
    assert published == ["twin-1-2"]


@pytest.mark.parametrize(
    ("mode", "failure", "fragments"),
    [
        (
            "dies_while_loading",
            FailureClass.POINT_INFEASIBLE,
            ("before it was ready", "out of memory", "Next: "),
        ),
        ("wrong_model", FailureClass.DEPLOYMENT_HEALTH_FAILED, ("'another-model', not 'source'", "Next: ")),
        ("dies_after_ready", FailureClass.DEPLOYMENT_HEALTH_FAILED, ("while it was used", "server.log")),
        ("empty_token", FailureClass.DEPLOYMENT_HEALTH_FAILED, ("gives no token",)),
    ],
)
def test_bad_server(project: Project, mode: str, failure: FailureClass, fragments: tuple[str, ...]) -> None:
    """A source that cannot be served says nothing about a candidate: ANOMALOUS, and no further one is tried."""
    done = project.run("run", "release.yaml", *fake(mode))
    refused(project, done.returncode, failure, "baseline", *fragments)
    assert done.returncode == 5


def test_candidate_that_cannot_be_served(project: Project) -> None:
    """A candidate that cannot be served is INFEASIBLE, and the next recipe is tried."""
    broken = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(pathlib.Path(sys.argv[2]).read_bytes()[:-9999])"
    whole = project.folder.parent / "whole.gguf"
    job = {
        "source": str(MODEL),
        "out": str(whole.parent / "gguf"),
        "result": str(whole.parent / "result.json"),
    }
    (whole.parent / "job.json").write_text(
        json.dumps({**job, "options": {"type": "Q8_0"}, "seed": 0, "threads": 1})
    )
    subprocess.run([sys.executable, WORKER, whole.parent / "job.json"], check=True, capture_output=True)
    (file,) = (whole.parent / "gguf").glob("*.gguf")
    command = json.dumps([sys.executable, "-c", broken, "{out}.gguf", str(file)])
    recipe = f"recipes.0.build={{kind: command, command: {command}, recipe: Q8_0}}"
    done = project.run("run", "release.yaml", "--no-report", "--set", recipe)
    first, second = project.history().decisions
    assert (first.keeps, second.outcome) == (False, Outcome.ACCEPT)
    assert done.returncode == 0


def test_fewer_samples(project: Project) -> None:
    """A harness that answers 20 of 21 is not believed: ANOMALOUS, exit 5."""
    done = project.run("run", "release.yaml", *SMALL, "--set", "expected_samples.query=21")
    refused(project, done.returncode, FailureClass.SAMPLE_ACCOUNTING_FAILED, "query", "20", "21")
    assert done.returncode == 5


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        ("[/bin/true]", ("no results", "evaluate.log")),
        ("[/bin/false]", ("exit code 1", "evaluate.log")),
    ],
)
def test_bad_harness(project: Project, command: str, fragments: tuple[str, ...]) -> None:
    """A harness that fails, or succeeds and leaves nothing."""
    done = project.run("run", "release.yaml", *SMALL, "--set", f"evaluate.command={command}")
    refused(project, done.returncode, FailureClass.UNKNOWN, "baseline", *fragments)


def test_used_up_time(project: Project) -> None:
    """A budget that ends in the middle: INCONCLUSIVE, exit 4, nothing left."""
    project.hold.touch()
    done = project.run("run", "release.yaml", *SMALL, "--set", "budget.wall_time_s=2")
    assert done.returncode == 4
    (decision,) = project.history().decisions
    assert decision.failure_class is FailureClass.BUDGET_EXHAUSTED
    project.nothing_left()


# -- disks ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A small disk of its own at a folder; skips where this user may not mount one."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mount is refused here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def fill(ballast: Path) -> None:
    """Use up a disk to the last page."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_disk_full_at_once(project: Project) -> None:
    """Not even the ledger fits: exit 7, the file, and what to do."""
    with disk(project.home, "size=48k"):
        done = project.run("run", "release.yaml", *SMALL)
        assert done.returncode == 7
        assert "ledger.db" in done.stderr
        assert "disk is full" in done.stderr
        assert "Next: free space" in done.stderr


def test_disk_too_small(project: Project) -> None:
    """What will not fit is found by the setup gate, before anything is paid for; a larger disk, and it goes on."""
    with disk(project.home, "size=800k"):
        done = project.run("run", "release.yaml", *SMALL)
        refused(project, done.returncode, FailureClass.SYSTEMIC, "setup", "of disk are free", "are needed")
        remount(project.home, "size=50m")
        assert project.run("resume", "twin-1", "--no-report").returncode == 0


def test_disk_full_in_the_middle(project: Project) -> None:
    """The disk fills while the study runs: no Decision that it cannot record; with room it ends as it should."""
    with disk(project.home, "size=20m"):
        project.hold.touch()
        run = project.start("run", "release.yaml", *SMALL)
        project.asking()
        ballast = project.home / "ballast"
        fill(ballast)
        project.hold.unlink()
        _, err = run.communicate(timeout=60)
        assert "Traceback" not in err
        assert run.returncode in {5, 6, 7}
        assert any(line.startswith("assay: ") and "Next: " in line for line in err.splitlines()), err
        project.nothing_left()
        ballast.unlink()
        assert project.run("resume", "twin-1", "--no-report").returncode == 0
        assert project.history().decisions[-1].outcome is Outcome.ACCEPT
        assert project.run("verify", "twin-1").returncode == 0


def test_target_disk_full(project: Project) -> None:
    """An ACCEPT that cannot be published: exit 6, place and remedy, nothing half done; with room it is published."""
    target = project.folder / "target"
    with disk(target, "size=200k"):
        done = project.run("run", "release.yaml", *SMALL, "--set", "apply.path=target/published")
        assert done.returncode == 6
        assert "no space left on the disk" in done.stderr
        assert "`assay resume`" in done.stderr
        assert list(target.iterdir()) == []
        remount(target, "size=50m")
        assert project.run("resume", "twin-1", "--no-report").returncode == 0
        assert [p.name for p in target.iterdir()] == ["published"]


def test_read_only_home(project: Project) -> None:
    """Nothing can be begun: exit 7 and the remedy. What lies there can still be read and verified."""
    with disk(project.home, "ro"):
        done = project.run("run", "release.yaml", *SMALL)
        assert done.returncode == 7
        assert done.stderr.startswith(f"assay: {project.home}: cannot write")
        assert "ASSAY_HOME" in done.stderr
    with disk(project.home, "size=20m"):
        assert project.run("run", "release.yaml", *SMALL).returncode == 0
        remount(project.home, "ro")
        assert "twin-1" in project.run("ls").stdout
        assert project.run("show", "twin-1").returncode == 0
        assert project.run("verify", "twin-1").returncode == 0
        for command in ("resume", "undo"):
            done = project.run(command, "twin-1")
            assert done.returncode == 7
            assert "ASSAY_HOME" in done.stderr
        assert project.published.exists()


# -- several at once, and what comes after --------------------------------------------------------------


def test_two_at_once(project: Project) -> None:
    """The second writer is told which process has the ledger; readers are not in the way."""
    project.hold.touch()
    first = project.start("run", "release.yaml", *SMALL)
    project.asking()
    for line in (("run", "release.yaml", *SMALL), ("resume", "twin-1"), ("undo", "twin-1")):
        done = project.run(*line)
        assert done.returncode == 7
        assert f"another assay is running (process {first.pid})" in done.stderr
    assert "running" in project.run("ls").stdout
    watching = project.start("watch", "twin-1")
    project.hold.unlink()
    first.communicate(timeout=60)
    assert first.returncode == 0
    out, _ = watching.communicate(timeout=20)
    assert out.splitlines()[-1].endswith("ACCEPT: a candidate was accepted")
    assert len([e for e in project.events() if e.type is EventType.STUDY_OPENED]) == 1


def test_publish_take_back_publish(project: Project) -> None:
    """Apply and undo in every order that people find; what was changed by hand is left alone."""
    assert project.run("run", "release.yaml", *SMALL).returncode == 0
    done = project.run("apply", "twin-1", "--yes")
    assert (done.returncode, "applied already" in done.stderr) == (2, True)
    assert project.run("undo", "twin-1").returncode == 0
    assert not project.published.exists()
    done = project.run("undo", "twin-1")
    assert (done.returncode, "no applied trial" in done.stderr) == (2, True)

    assert project.run("resume", "twin-1", "--no-report").returncode == 0
    assert not project.published.exists(), "resuming publishes what somebody took back"

    done = project.run("apply", "twin-1")
    assert (done.returncode, done.stdout) == (0, f"creates {project.published}\n")
    assert not project.published.exists()
    project.published.mkdir()
    done = project.run("apply", "twin-1", "--yes")
    assert done.returncode == 2
    assert f"{project.published}: the release folder exists already" in done.stderr
    project.published.rmdir()

    assert project.run("apply", "twin-1", "--yes").returncode == 0
    (project.published / "notes.txt").write_text("mine")
    done = project.run("undo", "twin-1")
    assert done.returncode == 2
    assert "changed since it was published (notes.txt): left alone" in done.stderr
    assert (project.published / "notes.txt").read_text() == "mine"
    (project.published / "notes.txt").unlink()
    assert project.run("verify", "twin-1").returncode == 0
    published_right(project)


def test_target_appears_meanwhile(project: Project) -> None:
    """Somebody made the folder while the study ran: the ACCEPT stands, nothing is overwritten, resuming publishes."""
    project.hold.touch()
    run = project.start("run", "release.yaml", *SMALL)
    project.asking()
    project.published.mkdir()
    (project.published / "mine").write_text("mine")
    project.hold.unlink()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "twin-1-1 is ACCEPT, but cannot be applied" in err
    assert "`assay resume twin-1`" in err
    assert [p.name for p in project.published.iterdir()] == ["mine"]
    shutil.rmtree(project.published)
    assert project.run("resume", "twin-1", "--no-report").returncode == 0
    published_right(project)


def test_tampering_is_named(project: Project) -> None:
    """`assay verify` names the first broken link, whatever was touched: exit 7."""
    assert project.run("run", "release.yaml", *SMALL).returncode == 0
    history = project.history()
    build = history.trials["twin-1-1"].steps["build"].artifact
    assert build is not None
    whole = project.folder.parent / "whole"
    shutil.copytree(project.folder, whole)

    def broken(fragment: str) -> None:
        done = project.run("verify", "twin-1")
        assert done.returncode == 7
        assert fragment in done.stderr
        shutil.rmtree(project.folder)
        shutil.copytree(whole, project.folder)

    file = next(Path(build.path).glob("*.gguf"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    broken("artifact twin-1-1 build")

    next(project.home.rglob("results_*.json")).unlink()
    broken("is gone")

    verdict = history.trials["twin-1-1"].gates["compare"].verdict.removeprefix("sha256:")
    stored = project.home / "evidence" / verdict[:2] / f"{verdict}.json"
    document = json.loads(stored.read_bytes())
    stored.write_bytes(canonical({**document, "detail": "all is well"}))
    broken("verdict twin-1-1 compare")

    assert project.run("verify", "twin-1").returncode == 0


def test_report_that_cannot_be_written(project: Project) -> None:
    """The Decision stands and is told; that there is no page is told too."""
    project.home.mkdir()
    (project.home / "reports").write_text("in the way")
    done = project.run("run", "release.yaml", *SMALL[1:])
    assert done.returncode == 0
    assert "ACCEPT  twin-1" in done.stdout
    assert "assay: no report: " in done.stderr


def test_plan_leaves_nothing(project: Project) -> None:
    """`assay plan` runs nothing, writes nothing."""
    assert project.run("plan", "release.yaml").returncode == 0
    assert [p.name for p in project.folder.iterdir()] == ["release.yaml"]


def test_source_changed_before_resuming(project: Project) -> None:
    """A baseline that is no longer the one that was measured ends the study's right to go on."""
    source = project.folder / "source"
    shutil.copytree(MODEL, source)
    project.hold.touch()
    run = project.start("run", "release.yaml", *SMALL, "--set", f"source={source}")
    project.asking()
    run.kill()
    run.communicate()
    (source / "generation_config.json").write_text("{}")
    done = project.run("resume", "twin-1")
    assert done.returncode == 2
    assert "the source checkpoint changed since the study opened" in done.stderr
