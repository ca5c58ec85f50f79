"""The command line as a whole, and the commands that need no ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from assay import __version__, cli
from assay.cli.load import load_spec
from cli_call import ROOT, Call

COMMANDS = list(cli._COMMANDS)


def test_version(assay: Call) -> None:
    """The installed version."""
    assert __version__ in assay("--version").out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(assay: Call, command: str) -> None:
    """Each command loads and explains itself."""
    said = assay(command, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage: assay")


@pytest.mark.parametrize(
    "arguments", [("nosuch",), ("ls", "--nosuch"), ("show",), ("run",), ("init", "nosuch"), ("schema",)]
)
def test_usage_error(assay: Call, arguments: tuple[str, ...]) -> None:
    """What the command line does not know is exit 2, on stderr."""
    said = assay(*arguments)
    assert (said.code, said.out) == (2, "")
    assert "Error: " in said.err


def test_init_explains_each_choice(assay: Call) -> None:
    """The starter is commented, and names the command that explains it."""
    text = assay("init", "release").out
    assert text.startswith("# ")
    assert "`assay plan FILE`" in text


@pytest.mark.parametrize("kind", ["release", "verdict", "decision", "study"])
def test_schema_is_the_exported_one(assay: Call, kind: str) -> None:
    """`schemas/` holds what the command prints: a change of a format is a change of a file."""
    assert assay("schema", kind).json == json.loads((ROOT / "schemas" / f"{kind}.json").read_text())


def test_schema_knows_the_starter(assay: Call, spec: Path) -> None:
    """The keys of a valid spec are keys of the schema."""
    schema = assay("schema", "release").json
    written = load_spec(spec).to_json()
    assert written.keys() <= schema["properties"].keys()


def test_plan_runs_nothing(assay: Call, spec: Path) -> None:
    """Steps, gates, ladder, power, disk and what will be changed; nothing is made."""
    said = assay("plan", spec)
    assert said.code == 3  # 40 pairs cannot show 1 point
    assert "INFEASIBLE plan: 40 pairs" in said.out
    assert assay("plan", spec, "--anyway").code == 0
    for text in (
        "setup",
        "baseline",
        "second",
        "pairs needed",
        "published is created",
        ".assay/ (here, or the nearest above)",
    ):
        assert text in said.out
    assert list(spec.parent.iterdir()) == [spec]


def test_plan_as_json(assay: Call, spec: Path) -> None:
    """The same for scripts; an override is part of it."""
    plan = assay("plan", spec, "--json", "--set", "compare.margin=0.2").json
    assert plan["schema"] == "plan/1"
    assert plan["deciding"]["margin"] == 0.2
    assert [s["name"] for s in plan["steps"]] == [
        "setup",
        "inspect-source",
        "build",
        "inspect",
        "baseline",
        "evaluate",
    ]
    assert {c["where"] for c in plan["components"]} >= {"recipes.0.build", "serve", "evaluate"}


def test_plan_names_what_is_missing(assay: Call, spec: Path) -> None:
    """A plan can be made where the toolkit is not; it says so."""
    line = ("plan", spec, "--anyway", "--set", "recipes.0.build={kind: llmcompressor, scheme: W4A16}")
    said = assay(*line)
    assert said.code == 0
    assert "missing: build llmcompressor (recipes.0.build)" in said.out


def test_plan_of_the_example(assay: Call) -> None:
    """The example can prove its margin with the samples that it has."""
    deciding = assay("plan", ROOT / "examples" / "release" / "release.yaml", "--json").json["deciding"]
    assert deciding["samples"] >= deciding["samples_needed"]


def test_doctor(assay: Call) -> None:
    """Every kind with its state, the vendor's version, and what installs it."""
    report = assay("doctor", "--json").json
    found = {(c["verb"], c["kind"]): c for c in report["components"]}
    assert report["schema"] == "doctor/1"
    assert found["build", "gguf"]["state"] == "ready"
    assert found["build", "gguf"]["vendor"]["gguf"]
    assert found["build", "llmcompressor"]["state"] == "missing"
    assert "pip install" in found["build", "llmcompressor"]["detail"]
    assert {verb for verb, _ in found} == {"build", "serve", "evaluate", "propose", "execute", "apply"}
    said = assay("doctor")
    assert "llmcompressor" in said.out


def broken(error: Exception) -> click.Command:
    """A command with a defect."""

    def fail() -> None:
        raise error

    return click.Command("ls", callback=fail)


def ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> tuple[int, str]:
    """Exit code and stderr of a command that raises."""
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: broken(error))
    code = cli._run(["ls"])
    return code, capsys.readouterr().err


def test_a_defect_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that nobody thought of names itself and its place; there is no traceback."""
    code, err = ended(monkeypatch, capsys, KeyError("x"))
    assert code == 5
    assert err.startswith("assay: a defect of Assay: KeyError: 'x' (")
    assert err.count("\n") == 1
    assert "test_commands.py:" in err


def test_the_operating_system_says_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of a disk or a file that nobody wrapped still names the file."""
    code, err = ended(monkeypatch, capsys, OSError(28, "No space left on device", "/x/y"))
    assert (code, err) == (
        6,
        "assay: /x/y: No space left on device. Next: free space on that disk, then `assay resume`\n",
    )


@pytest.mark.slow
def test_closed_pipe_is_no_error() -> None:
    """`assay ... | head -1` ends quietly."""
    line = f"{sys.executable} -m assay schema release | head -c 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")
