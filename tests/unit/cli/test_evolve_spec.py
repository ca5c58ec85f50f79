"""What `assay plan` and `assay run` say about an evolve spec before an agent is started."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from assay.cli.load import load_any
from assay.cli.opening import infeasible, require_canary
from assay.cli.progress import LiveDisplay, PlainLines
from assay.core.errors import SpecError, UnreadableInput
from assay.core.evidence import Artifact
from assay.engine.observer import Progress
from assay.flows.evolve import EvolveSpec
from cli_call import Call

STARTER = Path(__file__).parents[3] / "src" / "assay" / "flows" / "evolve.yaml"
PRICE = ("agent.price_per_run=0.1",)


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """The starter spec with a skill and a suite where it says."""
    skill = tmp_path / "skills" / "my-skill"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: my-skill\ndescription: Does it.\n---\nDo it.\n")
    lines: list[dict[str, object]] = [
        {"task_id": f"t{i}", "user_message": "do", "expected_files": {"o": "x"}} for i in range(25)
    ]
    lines.append({"task_id": "canary", "user_message": "do", "expected_files": {"o": "y"}, "canary": True})
    (tmp_path / "suite.jsonl").write_text("\n".join(json.dumps(x) for x in lines))
    path = tmp_path / "evolve.yaml"
    path.write_text(STARTER.read_text("utf-8").replace("./suite  ", "./suite.jsonl"))
    return path


def loaded(path: Path, *overrides: str) -> EvolveSpec:
    """The spec, resolved."""
    found = load_any(path, overrides)
    assert isinstance(found, EvolveSpec)
    return found


def test_the_starter_is_a_spec_and_its_comments_show_defaults(spec_file: Path) -> None:
    """Uncommenting the policies changes nothing, and every proposer in it is one."""
    plain = loaded(spec_file)
    text = spec_file.read_text("utf-8")
    for key in ("# deploy:", "# rules:", "# apply_on_accept:", "    # - {kind: command"):
        assert key in text
        text = text.replace(key, key.replace("# ", "", 1))
    spec_file.write_text(text)
    shown = loaded(spec_file)
    assert shown.rule == plain.rule
    assert shown.rules == plain.rules
    assert shown.search is not None
    assert shown.search.options["proposers"][-1]["options"]["command"] == ["my-proposer"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("agent.preset=clade", "unknown preset 'clade'"),
        ('agent.command=[a, "{promptfile}"]', "no placeholder {promptfile}"),
        ("budget.cost=5", "needs `agent.price_per_run`"),
        ("deploy.looks=[6, 3]", "must rise"),
    ],
)
def test_a_slip_is_told_by_the_plan(spec_file: Path, override: str, told: str) -> None:
    """Not by the runs that it would spoil."""
    with pytest.raises(SpecError, match=told):
        loaded(spec_file, override)


def test_braces_that_are_no_slip_reach_the_agent(spec_file: Path) -> None:
    """An agent may have templates of its own."""
    assert loaded(spec_file, 'agent.command=[a, "{x: {topic}}"]').agent.command[1] == "{x: {topic}}"


def test_a_proposer_is_found_beside_the_spec(spec_file: Path) -> None:
    """`{spec_dir}` means the same in the command of a proposer as in the agent's."""
    proposer = "search.proposers=[{kind: command, options: {command: ['{spec_dir}/p.py']}}]"
    found = loaded(spec_file, proposer)
    assert found.search is not None
    assert found.search.options["proposers"][0]["options"]["command"] == [str(spec_file.parent / "p.py")]


def test_a_suite_without_a_canary_is_refused_before_it_costs_a_run(spec_file: Path) -> None:
    """The preflight would refuse it after its runs; a spec that asks for none goes on."""
    suite = spec_file.parent / "suite.jsonl"
    suite.write_text("\n".join(suite.read_text().splitlines()[:-1]))
    with pytest.raises(SpecError, match="canary"):
        require_canary(loaded(spec_file))
    without = ("preflight.require_canary=false", "deploy.require_canary=false")
    require_canary(loaded(spec_file, *without))


def test_money_that_does_not_reach_for_the_confirmation_is_told_before_the_first_run(spec_file: Path) -> None:
    """A search would only be money lost; with enough, nothing is said."""
    source = Artifact(path=".", digest="sha256:s", size_bytes=1)
    assert "more than `budget.cost` 1" in (
        infeasible(loaded(spec_file, "budget.cost=1", *PRICE), source) or ""
    )
    more = ("deploy.planning_gain=0.4", "budget.cost=100", *PRICE)
    assert infeasible(loaded(spec_file, *more), source) is None


def test_warnings_are_never_left_out_among_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines are thinned out; what is said once about money is not."""
    lines = PlainLines()
    for message in ("one", "two", "warning: 50% of the cost cap is spent", "three", "warning: 80%"):
        lines.tell(Progress("note", message=message))
    said = capsys.readouterr().err
    assert "50%" in said
    assert "80%" in said
    assert "one" in said
    assert "two" not in said


def test_the_live_display_takes_two_lines_whatever_it_is_told() -> None:
    """A long note is cut and not wrapped: a display that changes its height cannot be read."""
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    display = LiveDisplay(console)
    display.tell(Progress("step", step="confirm-3"))
    display.tell(Progress("note", message="best 0.83, baseline 0.50; " * 20, done=0.4))
    console.print(display)
    lines = screen.getvalue().rstrip("\n").split("\n")
    assert len(lines) == 2
    assert "confirm-3" in lines[0]
    assert "━" in lines[0]
    assert lines[1].rstrip().endswith("…")


def test_a_candidate_that_cannot_be_read_is_told_by_the_plan(spec_file: Path) -> None:
    """It would be found out after the preflight was paid for."""
    (spec_file.parent / "new.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UnreadableInput, match="UTF-8"):
        loaded(spec_file, "candidates=[new.md]")


def test_recorded_runs_without_canaries_are_judged_where_none_is_required(
    assay: Call, spec_file: Path
) -> None:
    """A harness that knows no canaries; by default they are missed."""
    rows = [
        f"t{i},{arm},{rep},{'pass' if arm == 'candidate' or i < 5 else 'task_fail'}"
        for i in range(25)
        for rep in (1, 2, 3)
        for arm in ("baseline", "candidate")
    ]
    folder = spec_file.parent
    (folder / "runs.csv").write_text("\n".join(["task,arm,rep,outcome", *rows]))
    (folder / "new.md").write_text("Do it well.\n")
    asked: tuple[str | Path, ...] = (
        "gate",
        "deploy",
        "--baseline",
        folder / "skills/my-skill",
        "--candidate",
        folder / "new.md",
    )
    asked = (*asked, "--suite", folder / "suite.jsonl", "--runs", folder / "runs.csv")
    missed = assay(*asked)
    assert json.loads(missed.out)["decision"] == "ANOMALOUS"
    assert "canary: 0 runs" in missed.out
    found = assay(*asked, "--policy", "require_canary=false", "--policy", "growth=off")
    assert json.loads(found.out)["decision"] == "ACCEPT", found.out[:500]


@pytest.mark.parametrize("margin", ["nan", "inf", "-inf", "0", "1"])
def test_a_margin_is_a_share(assay: Call, spec_file: Path, margin: str) -> None:
    """What is no number between 0 and 1 is a mistake of the option, not of the spec: exit code 2."""
    found = assay("minimize", spec_file, f"--margin={margin}")
    assert found.code == 2
    assert "--margin" in found.err


@pytest.mark.parametrize("command", ["plan", "minimize", "ablate"])
@pytest.mark.parametrize("key", ["deploy.min_gain=.nan", "deploy.growth_slope=.inf", "agent.timeout_s=.inf"])
def test_numbers_are_finite(assay: Call, spec_file: Path, command: str, key: str) -> None:
    """NaN and infinity are refused by every command that reads the spec."""
    found = assay(command, spec_file, "--set", key)
    assert found.code == 2
    assert f"{key.partition('=')[0]}: Input should be a finite number" in found.err
