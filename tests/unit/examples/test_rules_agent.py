"""The agent that masks logs by rules, and the suite of real logs that it is judged by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from assay.core.suite import Suite
from assay.evolving.learning import learned_patterns
from assay.gates.suite import check_suite, copied_from_suite
from assay.readers.suites import read_suite
from assay.runtime.verifier import run_verifier, try_solutions
from assay.runtime.workspace import workspace

EXAMPLE = Path(__file__).parents[3] / "examples" / "evolve-rules"
AGENT = EXAMPLE / "agent" / "apply_rules.py"
RULES = {p.stem: p.read_text(encoding="utf-8") for p in (EXAMPLE / "rules").iterdir()}


def masked(tmp_path: Path, rules: str, log: str) -> tuple[str, str]:
    """The masked log, and what the agent said."""
    (tmp_path / "rules.txt").write_text(rules)
    (tmp_path / "log.txt").write_text(log)
    command = (sys.executable, "-I", "-S", "-B", AGENT, "--rules", "rules.txt", "--result", "result.json")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["status"] == "ok"
    return (tmp_path / "masked.txt").read_text(), told["final_text"]


def test_the_last_rule_works_first(tmp_path: Path) -> None:
    """What a rule below has masked is not seen by those above."""
    rules = "# general first\nNUMBER = \\d+\nIP = \\d+\\.\\d+\\.\\d+\\.\\d+\n"
    assert masked(tmp_path, rules, "from 10.0.0.1 port 22\n")[0] == "from <IP> port <NUMBER>\n"
    rules = "IP = \\d+\\.\\d+\\.\\d+\\.\\d+\nNUMBER = \\d+\n"
    assert masked(tmp_path, rules, "10.0.0.1\n")[0] == "<NUMBER>.<NUMBER>.<NUMBER>.<NUMBER>\n"


def test_a_group_is_masked_alone(tmp_path: Path) -> None:
    """The context of a group stays; a group without a match, or an empty one, masks nothing."""
    assert (
        masked(tmp_path, "VERSION = up \\((\\S+)\\)", "Setting up (1.2-3) now")[0]
        == "Setting up (<VERSION>) now"
    )
    assert masked(tmp_path, "X = a(b)?", "a ab")[0] == "a a<X>"
    assert masked(tmp_path, "X = b*", "abba")[0] == "a<X>a"


def test_masks_are_no_text_for_other_rules(tmp_path: Path) -> None:
    """The name of a mask cannot be masked, and text that looks like a mask is only text."""
    assert masked(tmp_path, "WORD = [A-Z]+\nTIME = \\d+", "at 12 <TIME>")[0] == "at <TIME> <<WORD>>"


def test_broken_rules_are_told_and_left_out(tmp_path: Path) -> None:
    """A line that is no rule or no regular expression costs only itself."""
    text, said = masked(tmp_path, "no rule\nX = (\nY = y\n", "x y")
    assert text == "x <Y>"
    assert "line 1 is no rule" in said
    assert "line 2: " in said


def test_a_rule_that_never_ends_is_left_out(tmp_path: Path) -> None:
    """A rule that backtracks without end runs into its limit, and the others still work."""
    began = time.monotonic()
    text, said = masked(tmp_path, "Y = y\nX = (?:a+)+b", "a" * 40 + " y")
    assert text == "a" * 40 + " <Y>"
    assert "was left out" in said
    assert time.monotonic() - began < 20


def test_a_missing_log_is_an_error_of_the_agent(tmp_path: Path) -> None:
    """Exit code 2, and the result file says so."""
    (tmp_path / "rules.txt").write_text("X = x")
    command = (sys.executable, AGENT, "--rules", "rules.txt", "--result", "result.json")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "agent_error"


@pytest.fixture(scope="module", name="suite")
def _suite() -> Suite:
    return read_suite(EXAMPLE / "suite")


def test_the_suite_is_clean_and_every_format_is_in_every_split(suite: Suite) -> None:
    """Nothing is to be said against it; twelve formats, two logs of each for training, selection and confirmation."""
    assert check_suite(suite) == ()
    cells = Counter((t.tags[0], t.split) for t in suite.tasks if not t.canary)
    assert len(cells) == 36
    assert set(cells.values()) == {2}


def test_labels_are_what_the_parsers_say() -> None:
    """`label.py` finds every expected file as it writes it, so that labels can be checked by reading it."""
    done = subprocess.run(
        (sys.executable, EXAMPLE / "label.py"), capture_output=True, timeout=60, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_parsers_use_no_regular_expression() -> None:
    """Labels and rules share no mistakes."""
    assert not re.search(
        r"^\s*(?:import|from) re\b", (EXAMPLE / "label.py").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_rules_that_are_general_are_not_taken_for_copies(suite: Suite) -> None:
    """The rules that were written by hand are no copy of the suite's answers; a rule with a log's own value is."""
    known, pool = RULES["known-good"], (EXAMPLE / "pool.txt").read_text(encoding="utf-8")
    assert not [
        f for f in copied_from_suite(RULES["masks"], f"{known}\n{pool}", suite) if f.severity == "block"
    ]


def test_only_training_tasks_teach(suite: Suite) -> None:
    """What selects and confirms is compared without a word about what was expected in full."""
    for task in suite.tasks:
        assert bool(task.verifier.command) is (task.split == "train")
        assert bool(task.verifier.equals) is (task.split != "train")


def test_words_of_the_verifier_teach_rules(suite: Suite, tmp_path: Path) -> None:
    """From what a failed training task prints, a regular expression for its versions can be learned."""
    (task,) = [t for t in suite.tasks if t.task_id == "dpkg-4"]
    with workspace(task, tmp_path) as space:
        (space.work / "masked.txt").write_text((space.work / "log.txt").read_text())
        judged = run_verifier(space)
    assert not judged.passed
    examples = re.findall(r"(?m)^VERSION should mask: (?P<text>.+)$", judged.log_tail)
    assert len(examples) >= 3
    assert learned_patterns(examples, ["64"])


@pytest.mark.slow
def test_every_task_can_be_done_and_none_is_done_already(suite: Suite, tmp_path: Path) -> None:
    """Nothing done fails, and the reference passes."""
    for task in suite.tasks:
        empty, reference = try_solutions(task, 1, tmp_path)
        assert (empty.passed, reference.passed) == ((False,), (True,)), task.task_id


@pytest.mark.slow
def test_start_rules_pass_some_tasks_and_known_good_rules_all(suite: Suite, tmp_path: Path) -> None:
    """There is room between them, in every split; the canary passes with both and fails without a rule."""
    passed = Counter[tuple[str, str | None]]()
    for name, rules in {**RULES, "none": "# none\n"}.items():
        for task in suite.tasks if name != "none" else (*suite.canaries, *suite.tasks[::8]):
            with workspace(task, tmp_path) as space:
                masked(space.work, rules, (space.work / "log.txt").read_text())
                passed[name, "canary" if task.canary else task.split] += run_verifier(space).passed
    assert [passed["known-good", s] for s in ("train", "select", "confirm", "canary")] == [24, 24, 24, 1]
    assert all(2 <= passed["masks", s] <= 10 for s in ("train", "select", "confirm"))
    assert passed["masks", "canary"] == 1
    assert sum(passed["none", s] for s in ("train", "select", "confirm", "canary")) == 0
