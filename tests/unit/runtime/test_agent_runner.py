"""One run of an agent: delivery, result, classes of endings, judging, environment, and nothing left behind."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest
from agent_world import OBEY, agent, gone, rules, task

from assay.core.agent import AgentCommand, AgentOutcome, AgentRun
from assay.core.artifact_text import TextKind
from assay.core.errors import ComponentMissing, UsageError
from assay.core.suite import Fixture, Task, Verifier
from assay.readers.texts import read_text
from assay.runtime import verifier
from assay.runtime.agents import AgentRunner, check_agent
from assay.runtime.agents import runner as module
from assay.runtime.asking import filled


def done(runner: AgentRunner, what: Task | None = None, text: str = "right\n") -> AgentRun:
    """One run."""
    return runner.run(what or task(), text, arm="baseline", rep=1, seed=7)


def test_a_run_that_passes(tmp_path: Path) -> None:
    """Outcome, score, cost, tokens, tools and last words are those of the run; nothing is left of it."""
    runner = AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work")
    run = done(runner)
    assert (run.outcome, run.score, run.reason) == (AgentOutcome.PASS, 1.0, "")
    assert (run.cost, run.input_tokens, run.output_tokens, run.tools) == (0.25, 3, 4, ("Write",))
    assert run.said == "wrote it"
    assert run.wall_s is not None
    assert run.key == ("a", "baseline", 1)
    assert list((tmp_path / "work" / "spaces").iterdir()) == []
    assert list((tmp_path / "work" / ".runs").iterdir()) == []


def test_the_text_decides(tmp_path: Path) -> None:
    """Another text gives another outcome, with feedback that names the difference."""
    runner = AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work")
    run = done(runner, text="wrong\n")
    assert (run.outcome, run.score) == (AgentOutcome.TASK_FAIL, 0.0)
    assert run.feedback == "answer.txt: line 1 is 'wrong' instead of 'right'"


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        ("import sys; sys.exit(3)", AgentOutcome.AGENT_ERROR, "exit code 3"),
        ("raise ValueError('no idea')", AgentOutcome.AGENT_ERROR, "no idea"),
        ("raise ConnectionRefusedError('Connection refused')", AgentOutcome.INFRA_ERROR, "refused"),
        ("import sys; print('HTTP 429: rate limit'); sys.exit(1)", AgentOutcome.INFRA_ERROR, "429"),
        ("print('HTTP 429: rate limit')", AgentOutcome.TASK_FAIL, "expected file"),
        (
            'import sys; open(sys.argv[2], \'w\').write(\'{"status": "agent_error", "error": "gave up"}\')',
            AgentOutcome.AGENT_ERROR,
            "gave up",
        ),
        (
            "import sys; open(sys.argv[2], 'w').write('{\"status\": \"timeout\"}')",
            AgentOutcome.AGENT_TIMEOUT,
            "the agent says so",
        ),
        (
            "import sys; open(sys.argv[2], 'wb').write(bytes(range(256)))",
            AgentOutcome.TASK_FAIL,
            "expected file",
        ),
        ("import os, sys; os.mkfifo(sys.argv[2])", AgentOutcome.TASK_FAIL, "expected file"),
        ("import os; os.kill(os.getpid(), 9)", AgentOutcome.AGENT_ERROR, "exit code -9"),
        (
            "import sys; sys.stdout.buffer.write(bytes(range(256)) * 99)",
            AgentOutcome.TASK_FAIL,
            "expected file",
        ),
    ],
)
def test_classes_of_endings(tmp_path: Path, code: str, outcome: AgentOutcome, reason: str) -> None:
    """Each way to end has its class; only infra errors have no score."""
    runner = AgentRunner(agent(tmp_path, code, retries=0), rules(tmp_path), tmp_path / "work")
    run = done(runner)
    assert run.outcome is outcome
    assert reason in run.reason
    assert run.score == (None if outcome is AgentOutcome.INFRA_ERROR else 0.0)
    assert AgentRun.from_json(run.to_json()) == run


def test_infra_errors_are_tried_again_and_costs_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third attempt counts; what the first two cost was paid."""
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    counter = tmp_path / "count"
    code = f"""
import json, os, sys
n = len(os.listdir({str(counter)!r})); open({str(counter)!r} + f"/{{n}}", "w")
json.dump({{"status": "infra_error" if n < 2 else "ok", "cost_usd": 1}}, open(sys.argv[2], "w"))
open("answer.txt", "w").write("right")
"""
    counter.mkdir()
    runner = AgentRunner(agent(tmp_path, code, retries=2), rules(tmp_path), tmp_path / "work")
    run = done(runner)
    assert (run.outcome, run.attempts, run.cost) == (AgentOutcome.PASS, 3, 3.0)
    for name in counter.iterdir():
        name.unlink()
    limited = AgentRunner(agent(tmp_path, code, retries=1), rules(tmp_path), tmp_path / "work")
    assert (done(limited).outcome, done(limited).attempts) == (AgentOutcome.INFRA_ERROR, 1)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["none", "namespace"])
def test_a_timeout_ends_grandchildren(tmp_path: Path, level: str) -> None:
    """Detached and stubborn descendants are gone when the run is over."""
    mark = f"mark-{os.getpid()}-{level}"
    code = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", stubborn, {mark!r}], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", {mark!r}])
    os._exit(0)
time.sleep(60)
"""
    runner = AgentRunner(
        agent(tmp_path, code, timeout_s=1.0, isolation=level), rules(tmp_path), tmp_path / "work"
    )
    begun = time.monotonic()
    run = done(runner)
    assert run.outcome is AgentOutcome.AGENT_TIMEOUT
    assert "1 s" in run.reason
    assert time.monotonic() - begun < 15
    assert gone(mark, 1.0)


def test_what_an_agent_leaves_running_is_ended(tmp_path: Path) -> None:
    """An agent that ends and leaves a server behind does not keep it."""
    mark = f"left-{os.getpid()}"
    code = (
        OBEY
        + f"""
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", {mark!r}], start_new_session=True)
"""
    )
    assert done(AgentRunner(agent(tmp_path, code), rules(tmp_path), tmp_path / "work")).passed
    assert gone(mark, 1.0)


def test_only_named_variables_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of ours is not in the agent's environment, a named one is; home is empty and its own."""
    monkeypatch.setenv("SOME_SECRET", "hush")
    monkeypatch.setenv("OPEN_KEY", "seen")
    code = """
import os
open("answer.txt", "w").write("\\n".join(sorted(
    [os.environ.get("SOME_SECRET", "-"), os.environ.get("OPEN_KEY", "-"), str(len(os.listdir(os.environ["HOME"])))])))
"""
    wanted = task(expected="-\n0\nseen")
    runner = AgentRunner(agent(tmp_path, code, env=("OPEN_KEY",)), rules(tmp_path), tmp_path / "work")
    run = done(runner, wanted)
    assert run.passed, run.feedback


def test_values_of_variables_are_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither record nor status file holds the value of a variable that was passed on."""
    monkeypatch.setenv("OPEN_KEY", "s3cret-value")
    work = tmp_path / "work"
    code = f"""
import os, pathlib
found = [p for p in pathlib.Path({str(work)!r}, ".runs").glob("*.json") if "s3cret-value" in p.read_text()]
open("answer.txt", "w").write("leak" if found or not os.environ["OPEN_KEY"] else "right")
"""
    runner = AgentRunner(agent(tmp_path, code, env=("OPEN_KEY",)), rules(tmp_path), work)
    run = done(runner)
    assert run.passed, run.feedback
    assert "s3cret-value" not in str(run.to_json())


def test_a_skill_is_delivered_and_taken_back(tmp_path: Path) -> None:
    """The agent finds the skill with the new body; it is not judged, and what lay in its place is."""
    skill = tmp_path / "fix"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: fix\ndescription: d\n---\nold body\n")
    (skill / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    (skill / "scripts" / "run.sh").chmod(0o755)
    code = """
import os
body = open(".claude/skills/fix/SKILL.md").read()
runs = os.access(".claude/skills/fix/scripts/run.sh", os.X_OK)
open("answer.txt", "w").write("right" if body.endswith("---\\nnew body\\n") and runs else repr((body, runs)))
"""
    what = task(
        verifier=Verifier(
            command=(
                "sh",
                "-c",
                "cat answer.txt; test ! -e .claude && grep -q right answer.txt && test -e keep.txt",
            ),
        ),
        fixtures=(Fixture(path="keep.txt", content="k"),),
    )
    runner = AgentRunner(
        agent(tmp_path, code, deliver=".claude/skills/{name}"), read_text(skill), tmp_path / "work"
    )
    run = done(runner, what, text="new body")
    assert run.passed, (run.feedback, run.said)
    assert run.tampered == ()


def test_a_delivered_file_gives_a_fixture_back(tmp_path: Path) -> None:
    """An AGENTS.md of the task is covered for the agent and judged as it was."""
    code = 'open("answer.txt", "w").write(open("AGENTS.md").read())'
    what = task(
        fixtures=(Fixture(path="AGENTS.md", content="the task's"),),
        verifier=Verifier(
            equals=(
                Fixture(path="answer.txt", content="right"),
                Fixture(path="AGENTS.md", content="the task's"),
            )
        ),
    )
    runner = AgentRunner(agent(tmp_path, code, deliver="AGENTS.md"), rules(tmp_path), tmp_path / "work")
    assert done(runner, what).passed


@pytest.mark.parametrize("deliver", ["../out", "/etc/x", "a/../../b", "C:/x"])
def test_unsafe_places_of_delivery_are_refused(tmp_path: Path, deliver: str) -> None:
    """Nothing is laid outside of the workspace."""
    with pytest.raises(UsageError, match="not allowed"):
        AgentRunner(agent(tmp_path, deliver=deliver), rules(tmp_path), tmp_path / "work")


def test_traps_in_the_workspace(tmp_path: Path) -> None:
    """Links in the place of the delivered text and of the result lead nothing out and judge nothing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    (tmp_path / "right.txt").write_text("right")
    code = f"""
import os, shutil, sys
shutil.rmtree(".claude")
os.symlink({str(outside)!r}, ".claude")
os.symlink({str(tmp_path / "right.txt")!r}, "answer.txt")
os.symlink("/etc/passwd", sys.argv[2])
"""
    runner = AgentRunner(
        agent(tmp_path, code, deliver=".claude/rules.txt"), rules(tmp_path), tmp_path / "work"
    )
    run = done(runner)
    assert run.outcome is AgentOutcome.TASK_FAIL
    assert (outside / "precious").read_text() == "p"
    assert "root:" not in run.said


def test_tampering_is_told_and_undone(tmp_path: Path) -> None:
    """A deciding test that the agent writes itself is replaced, and the run says so."""
    code = """
import os
os.makedirs("tests"); open("tests/check.sh", "w").write("exit 0")
open("lib.txt", "w").write("changed")
"""
    what = task(
        fixtures=(Fixture(path="lib.txt", content="keep"),),
        protected=("lib.txt",),
        verifier=Verifier(
            command=("sh", "tests/check.sh"),
            files=(Fixture(path="tests/check.sh", content="grep -q keep lib.txt && exit 4\n"),),
        ),
    )
    run = done(AgentRunner(agent(tmp_path, code), rules(tmp_path), tmp_path / "work"), what)
    assert run.outcome is AgentOutcome.TASK_FAIL
    assert "exit code 4" in run.reason
    assert run.tampered == ("lib.txt", "tests/check.sh")


def test_tools_decide_where_asked(tmp_path: Path) -> None:
    """Expected and forbidden tools; an agent that tells no tools leaves nothing to be judged."""
    called = task(verifier=Verifier(expected_tools=("Write",)))
    runner = AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work")
    assert done(runner, called).passed
    forbidden = task(verifier=Verifier(forbidden_tools=("Write",)))
    assert done(runner, forbidden).outcome is AgentOutcome.TASK_FAIL
    silent = AgentRunner(agent(tmp_path, "pass"), rules(tmp_path), tmp_path / "work")
    assert done(silent, called).outcome is AgentOutcome.INFRA_ERROR


def test_a_verifier_that_cannot_judge_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 75 is an infra error, and so is a verifier that this machine has not."""
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    runner = AgentRunner(agent(tmp_path, retries=1), rules(tmp_path), tmp_path / "work")
    run = done(runner, task(verifier=Verifier(command=("sh", "-c", "echo no key; exit 75"))))
    assert (run.outcome, run.attempts, run.score) == (AgentOutcome.INFRA_ERROR, 2, None)
    assert "no key" in run.reason
    missing = done(runner, task(verifier=Verifier(command=("no-such-verifier",))))
    assert (missing.outcome, missing.attempts) == (AgentOutcome.INFRA_ERROR, 1)
    removed = done(runner, task(verifier=Verifier(command=("./check.sh",))))
    assert removed.outcome is AgentOutcome.TASK_FAIL


@pytest.mark.parametrize(
    ("said", "cost", "untold", "charged"),
    [("0.5", 0.75, 0, 0.75), ("null", 0.25, 1, 0.35), ("-1", 0.25, 1, 0.35), ("", 0.25, 0, 0.25)],
)
def test_a_judge_tells_what_it_cost(
    tmp_path: Path, said: str, cost: float, untold: int, charged: float
) -> None:
    """It is added to the agent's cost; a judge that does not know makes the run one that tells not all."""
    tell = f"""printf '{{"cost_usd": {said}}}' > "$ASSAY_JUDGE_RESULT";""" if said else ""
    laid = OBEY + "\nopen(sys.argv[2].replace('result', 'judge'), 'w').write('{\"cost_usd\": 99}')"
    what = task(verifier=Verifier(command=("sh", "-c", f"{tell} exit 0")))
    run = done(AgentRunner(agent(tmp_path, laid), rules(tmp_path), tmp_path / "work"), what)
    assert (run.passed, run.cost, run.untold) == (True, cost, untold)
    assert (run.cost or 0.0) + (run.assumed(0.1) or 0.0) == pytest.approx(charged)


def test_each_attempt_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that told nothing are not free because the last one told something."""
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    code = f"""
import json, os, sys
first = not os.path.exists({str(tmp_path / "again")!r})
open({str(tmp_path / "again")!r}, "w").close()
told = {{"status": "infra_error"}} if first else {{"status": "ok", "cost_usd": 0.5}}
json.dump(told, open(sys.argv[2], "w"))
"""
    run = done(AgentRunner(agent(tmp_path, code, retries=1), rules(tmp_path), tmp_path / "work"))
    assert (run.attempts, run.cost, run.untold) == (2, 0.5, 1)
    assert run.assumed(0.1) == pytest.approx(0.1)
    assert run.assumed(None) is None


def test_verifiers_see_a_variable_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge's key reaches the verifier where `verifier_env` names it, and not otherwise."""
    monkeypatch.setenv("JUDGE_KEY", "k")
    what = task(verifier=Verifier(command=("sh", "-c", 'test "$JUDGE_KEY" = k')))
    assert not done(AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work"), what).passed
    named = agent(tmp_path, options={"verifier_env": ["JUDGE_KEY"]})
    assert done(AgentRunner(named, rules(tmp_path), tmp_path / "work"), what).passed


def test_a_flood_of_output_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that prints for ever ends long before its time, and little of it is kept."""
    monkeypatch.setattr(module, "WATCH_S", 0.05)
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    runner = AgentRunner(agent(tmp_path, code, output_bytes=1024), rules(tmp_path), tmp_path / "work")
    run = done(runner)
    assert run.outcome is AgentOutcome.AGENT_ERROR
    assert "without end" in run.reason


def test_a_verifier_that_prints_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs what an agent wrote: a failure, long before its time and before the disk is full."""
    monkeypatch.setattr(verifier, "WATCH_S", 0.05)
    monkeypatch.setattr(verifier, "FLOOD_BYTES", 1 << 20)
    what = task(verifier=Verifier(command=("sh", "-c", "while :; do echo xxxxxxxxxxxx; done"), timeout_s=60))
    begun = time.monotonic()
    run = done(AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work"), what)
    assert time.monotonic() - begun < 30
    assert (run.outcome, run.reason) == (
        AgentOutcome.TASK_FAIL,
        "the verifier printed without end and was stopped",
    )


def test_placeholders(tmp_path: Path) -> None:
    """All of them are filled, once: what a value holds is not looked at again."""
    values = {"prompt": "{seed} {x}", "seed": "7"}
    assert filled("{prompt}-{seed}-{other}-{", values) == "{seed} {x}-7-{other}-{"
    names = [
        "prompt_file",
        "workdir",
        "artifact",
        "artifact_dir",
        "text_file",
        "result_file",
        "seed",
        "rep",
        "task_id",
        "python",
        "model",
    ]
    code = (
        "import sys; open('answer.txt', 'w').write('right' if not any('{' in a for a in sys.argv) else 'no')"
    )
    made = agent(tmp_path, code, model="m")
    full = made.model_copy(update={"command": (*made.command, *(f"{{{n}}}" for n in names), "{prompt}")})
    run = AgentRunner(full, rules(tmp_path), tmp_path / "work").run(
        task(prompt="see {fixture_dir}"), "right", arm="x", rep=3, seed=9
    )
    assert run.passed


def test_prompts_that_no_command_line_holds(tmp_path: Path) -> None:
    """A long prompt goes by file; on the command line it is refused and named."""
    long = task(prompt="p" * 200_000)
    code = "import sys; open('answer.txt', 'w').write('right' if len(open(sys.argv[3]).read()) == 200000 else 'no')"
    made = agent(tmp_path, code)
    by_file = made.model_copy(update={"command": (*made.command, "{prompt_file}")})
    assert done(AgentRunner(by_file, rules(tmp_path), tmp_path / "work"), long).passed
    by_line = made.model_copy(update={"command": (*made.command, "{prompt}")})
    run = done(AgentRunner(by_line, rules(tmp_path), tmp_path / "work"), long)
    assert run.outcome is AgentOutcome.INFRA_ERROR
    assert "prompt_file" in run.reason


def test_the_fingerprint_tells_agents_apart(tmp_path: Path) -> None:
    """Program, script, arguments, model, names of variables and limits count; retries and prices do not."""
    text = rules(tmp_path)

    def print_of(made: AgentCommand) -> str:
        return AgentRunner(made, text, tmp_path / "work").fingerprint

    base = print_of(agent(tmp_path))
    assert print_of(agent(tmp_path, retries=5, price_per_run=1.0, parallel=3)) == base
    others = [
        agent(tmp_path, model="m"),
        agent(tmp_path, env=("X",)),
        agent(tmp_path, timeout_s=21),
        agent(tmp_path, options={"a": 1}),
        agent(tmp_path, version_command=(sys.executable, "-c", "print('v2')")),
    ]
    assert len({base, *(print_of(o) for o in others)}) == len(others) + 1
    assert print_of(agent(tmp_path, OBEY + "\n# changed\n")) != base


def test_what_is_missing_is_told_before_a_run(tmp_path: Path) -> None:
    """Program, preset and variables."""
    nothing = AgentCommand(command=("no-such-agent",), isolation="none")
    assert check_agent(nothing).state == "missing"
    with pytest.raises(ComponentMissing, match="no-such-agent"):
        AgentRunner(nothing, rules(tmp_path), tmp_path / "work")
    assert check_agent(AgentCommand(preset="nobody", command=("sh",), isolation="none")).state == "broken"
    ready = check_agent(AgentCommand(command=("sh",), isolation="none", env=("NOT_THERE_AT_ALL",)))
    assert (ready.state, "NOT_THERE_AT_ALL" in ready.detail) == ("ready", True)
    assert check_agent(AgentCommand(command=("sh",), isolation="none", network=False)).state == "unsupported"


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    """What was read is what is staged, or nothing is."""
    text = rules(tmp_path)
    (tmp_path / "rules.txt").write_text("other\n")
    with pytest.raises(UsageError, match="no longer"):
        AgentRunner(agent(tmp_path), text, tmp_path / "work")


def test_leftover_workspaces_are_removed(tmp_path: Path) -> None:
    """What a killed runner left in the folder goes when the next one begins."""
    left = tmp_path / "work" / "spaces" / "assay-workspace-x"
    left.mkdir(parents=True)
    (left / "f").write_text("x")
    left.chmod(0)
    AgentRunner(agent(tmp_path), rules(tmp_path), tmp_path / "work")
    assert not left.exists()


def test_an_empty_text_keeps_the_frontmatter(tmp_path: Path) -> None:
    """The empty arm has the skill with nothing in its body."""
    skill = tmp_path / "fix"
    skill.mkdir()
    (skill / "SKILL.md").write_text("---\nname: fix\ndescription: d\n---\nold body\n")
    code = "import sys; open('answer.txt', 'w').write(open(sys.argv[3] + '/SKILL.md').read())"
    made = agent(tmp_path, code)
    with_copy = made.model_copy(update={"command": (*made.command, "{artifact}")})
    runner = AgentRunner(with_copy, read_text(skill, TextKind.SKILL), tmp_path / "work")
    run = done(runner, task(expected="---\nname: fix\ndescription: d\n---"), text="")
    assert run.passed, run.feedback


def test_the_prompt_preset_of_mini_puts_the_text_before_the_task(tmp_path: Path) -> None:
    """An agent without a place for texts is told it with its task."""
    fake = tmp_path / "mini"
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "open('answer.txt', 'w').write(sys.argv[sys.argv.index('-t') + 1])\n"
        "out = sys.argv[sys.argv.index('-o') + 1]\n"
        "json.dump({'info': {'exit_status': 'Submitted', 'model_stats': {'instance_cost': 0.5}}}, open(out, 'w'))\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    made = AgentCommand(preset="mini_swe", isolation="none", env=("PATH",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        run = done(AgentRunner(made, rules(tmp_path), tmp_path / "work"), task(expected="right\n\ndo it"))
    assert (run.passed, run.cost) == (True, 0.5), (run.reason, run.feedback, run.said)


@pytest.mark.parametrize("level", ["none", "auto"])
def test_what_an_agent_leaves_in_its_home_is_not_the_verifiers(tmp_path: Path, level: str) -> None:
    """A module that Python loads from the home folder at its start would decide; the verifier's home is empty."""
    code = "import os; open(os.path.join(os.environ['HOME'], 'planted'), 'w').write('x')"
    what = task(verifier=Verifier(command=("sh", "-c", 'test -d "$HOME" && test -z "$(ls -A "$HOME")"')))
    run = done(AgentRunner(agent(tmp_path, code, isolation=level), rules(tmp_path), tmp_path / "work"), what)
    assert run.passed, (run.reason, run.feedback)


@pytest.mark.parametrize("named", [True, False])
def test_all_studies_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """Not the step's folder alone: evidence of earlier steps tells what was decided."""
    home = tmp_path / ("kept" if named else ".assay")
    if named:
        monkeypatch.setenv("ASSAY_HOME", str(home))
    assert module.studies_of(home / "studies" / "x" / "step") == home
    assert module.studies_of(tmp_path / "elsewhere") == tmp_path / "elsewhere"
