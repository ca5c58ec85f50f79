"""Checks of suites: leaks, what nobody can pass or fail, duplicates, controls, copied answers."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.suite import Fixture, SolutionRuns, Suite, Task
from assay.gates.suite import SuitePolicy, check_solutions, check_suite, copied_from_suite

HIDDEN = (
    "import program\n\n\ndef test_a():\n    assert program.f(3) == 'thirty-three'\n"
    "    assert program.f(4) == 44_444\n    assert program.g() == ['left wing', 'right wing']\n"
)


def files(**content: str) -> list[dict[str, str]]:
    """Fixtures; `__` stands for a dot."""
    return [{"path": k.replace("__", "."), "content": v} for k, v in content.items()]


def task(number: int = 0, verify: dict[str, Any] | None = None, **more: Any) -> Task:
    """A task that nothing is said about, with changes."""
    value = {
        "task_id": f"task-{number}",
        "prompt": f"Do thing {number}.",
        "fixtures": files(program__py=f"def f(x):\n    return {number}\n"),
        "verifier": {
            "command": ["{python}", "-I", "judge.py"],
            "collect": ["program.py"],
            "files": files(judge__py=HIDDEN),
            **(verify or {}),
        },
        "reference": files(program__py=f"def f(x):\n    return answer_of_task({number}, x)\n"),
        **more,
    }
    return Task.model_validate(value)


def suite(*tasks: Task, fill: int = 13) -> Suite:
    """A suite of good tasks, a canary, and those given."""
    good = [task(i, canary=i == 0) for i in range(fill)]
    return Suite(name="s", path="s", format="folder", source_digest="sha256:0", tasks=(*good, *tasks))


def found(*tasks: Task, **more: Any) -> set[tuple[str, str]]:
    """(rule, severity) of all findings."""
    return {(f.rule, f.severity.value) for f in check_suite(suite(*tasks, **more))}


def test_a_good_suite_has_no_finding() -> None:
    """Nothing is said about tasks that are decided from outside, with references and a canary."""
    assert found() == set()


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("no-verifier", "block", {"verify": {"command": []}}),
    ("no-reference", "warn", {"reference": []}),
    ("already-solved", "block", {"reference": files(program__py="def f(x):\n    return 99\n")}),
    (
        "tests-inside",
        "block",
        {"verify": {"command": ["python", "check.py"], "files": []}, "fixtures": files(check__py="x")},
    ),
    ("tests-inside", "block", {"verify": {"command": ["pytest", "-q"], "files": [], "collect": []}}),
    ("tests-readable", "warn", {"fixtures": files(judge__py=HIDDEN)}),
    ("collects-all", "warn", {"verify": {"collect": []}}),
    ("command-file", "warn", {"verify": {"command": ["{python}", "other.py"]}}),
    ("unfillable", "block", {"verify": {"collect": ["main.py"]}}),
    ("unfillable", "block", {"protected": ["*.py"]}),
    ("unfillable", "block", {"verify": {"expected_tools": ["a"], "forbidden_tools": ["a", "b"]}}),
    ("tools-contradict", "warn", {"verify": {"expected_tools": ["a", "c"], "forbidden_tools": ["a"]}}),
    ("reference-decides", "block", {"reference": files(judge__py="x", program__py="y = 1")}),
    ("leak-reference", "block", {"prompt": "Write `return answer_of_task(99, x)` there."}),
    ("leak-reference", "block", {"fixtures": files(old__py="def f(x):\n    return answer_of_task(99, x)\n")}),
    ("leak-prompt", "warn", {"prompt": "f(3) is thirty-three."}),
    ("leak-prompt", "block", {"prompt": "f(3) is thirty-three, g gives left wing and right wing."}),
    ("leak-fixture", "warn", {"fixtures": files(notes__txt="thirty-three 44444 'left wing' 'right wing'")}),
    ("git-config", "block", {"fixtures": [{"path": ".git/config", "content": "x"}]}),
    ("git-config", "block", {"fixtures": [{"path": ".GIT/hooks/post-checkout", "content": "x"}]}),
    ("steers-agent", "warn", {"fixtures": [{"path": ".claude/settings.json", "content": "x"}]}),
    ("canary-undecided", "block", {"verify": {"command": []}, "canary": True}),
]


@pytest.mark.parametrize(
    ("rule", "severity", "change"), CASES, ids=[f"{r}-{i}" for i, (r, _, _) in enumerate(CASES)]
)
def test_each_rule_of_a_task(rule: str, severity: str, change: dict[str, Any]) -> None:
    """A task that breaks a rule is found, with its name, and the others are not."""
    bad = task(99, **change)
    hits = [f for f in check_suite(suite(bad)) if f.rule == rule]
    assert [f.severity.value for f in hits][:1] == [severity]
    assert {f.where for f in hits} == {"task-99"}


def test_what_is_no_leak() -> None:
    """Short and common values, values inside of longer words, and blank files say nothing."""
    hidden = (
        "import program\n\n\ndef test_a():\n    assert program.f() == 'ok'\n    assert program.g() == 12\n"
    )
    given = {"prompt": "It is ok to answer 12.", "verify": {"files": files(judge__py=hidden)}}
    assert found(task(99, **given)) == set()
    assert found(task(98, prompt="The thirty-threefold way.")) == set()
    blank = [*files(program__py="x = 100\n"), {"path": "empty.py", "content": ""}]
    given = {"fixtures": [*files(a__py=""), *files(program__py="x = 1\n")], "reference": blank}
    assert found(task(97, verify={"collect": ["*.py"]}, **given)) == set()


def test_controls_and_size() -> None:
    """Without a canary there is no verdict; fewer than five tasks show nothing, fewer than twelve little."""
    alone = Suite(
        name="s", path="s", format="folder", source_digest="sha256:0", tasks=tuple(task(i) for i in range(13))
    )
    assert {f.rule for f in check_suite(alone)} == {"no-canary"}
    assert check_suite(alone, SuitePolicy(needs_canary=False)) == ()
    assert found(fill=6) == {("few-tasks", "warn")}
    assert found(fill=5) == {("few-tasks", "block")}


def test_the_split_for_confirmation_counts() -> None:
    """Where tasks name their split, those for confirmation must be enough."""
    tasks = [task(20 + i, split="confirm" if i < 4 else "train") for i in range(14)]
    assert {("few-tasks", "block"), ("split-partial", "warn")} <= found(*tasks)


def test_tasks_that_count_twice() -> None:
    """The same task under two ids is refused; the same input with another verifier is told."""
    assert found(task(1).model_copy(update={"task_id": "again"})) == {("duplicate-task", "block")}
    verify = {"verify": {"files": files(judge__py="import program\nassert program.x\n")}}
    assert found(task(1, **verify).model_copy(update={"task_id": "again"})) == {("duplicate-input", "warn")}


@pytest.mark.parametrize(
    ("solution", "passed", "more", "rule"),
    [
        ("empty", (True, True, True), {}, "too-easy"),
        ("empty", (False, True, False), {}, "flaky-verifier"),
        ("empty", (False, False, False), {}, None),
        ("empty", (False, False, False), {"timed_out": 1}, "slow-verifier"),
        ("reference", (True, True, True), {}, None),
        ("reference", (False, False, False), {}, "unfillable"),
        ("reference", (False, False, False), {"timed_out": 3}, "unfillable"),
        ("reference", (True, False, True), {}, "flaky-verifier"),
        ("reference", (False, False), {"missing": True}, "verifier-missing"),
    ],
)
def test_what_runs_show(
    solution: Any, passed: tuple[bool, ...], more: dict[str, Any], rule: str | None
) -> None:
    """Too easy, unfillable, flaky, slow and missing, each from the outcomes alone."""
    run = SolutionRuns(task_id="t", solution=solution, passed=passed, **more)
    assert [f.rule for f in check_solutions([run])] == ([rule] if rule else [])


def test_answers_copied_into_a_text() -> None:
    """Expected values, lines of a reference and runs of words of hidden files are found in a candidate."""
    judged = suite()
    assert copied_from_suite("Be brief.", "Be brief and careful. Check the edges.", judged) == ()
    for text, rule in (
        ("If asked for 3, say thirty-three.", "copied-value"),
        ("The number is 44444.", "copied-value"),
        ("Write `return answer_of_task(4, x)`.", "copied-solution"),
        ("assert program.f(4) == what the judge asks about", "copied-content"),
        ("In task-7 do nothing.", "names-task"),
    ):
        assert rule in {f.rule for f in copied_from_suite("Be brief.", text, judged)}, text


def test_what_the_baseline_already_had_is_not_copied() -> None:
    """A value that stood in the baseline is no sign of copying."""
    text = "Say thirty-three and 44444."
    assert copied_from_suite(text, text + " Please.", suite()) == ()


def test_a_canary_must_be_in_the_text() -> None:
    """A canary's answer belongs into the text: that is what it is for."""
    judge = files(judge__py="import program\nassert program.mark() == 'heron-4711'\n")
    only = Suite(
        name="s",
        path="s",
        format="folder",
        source_digest="sha256:0",
        tasks=(task(1, verify={"files": judge}, canary=True),),
    )
    assert copied_from_suite("", "The mark is heron-4711.", only) == ()


def test_fixtures_of_any_bytes_are_checked() -> None:
    """Files that are no text are no leak and no crash."""
    odd = [Fixture.of("program.py", b"\xff\x00").to_json(), Fixture.of("bad.py", b"def (").to_json()]
    assert ("leak-reference", "block") not in found(
        task(99, fixtures=odd, verify={"files": [*odd[1:], *files(judge__py=HIDDEN)]})
    )


def test_expected_values_in_sums_and_calls() -> None:
    """A value behind abs or a minus is expected too; an argument of what is tested is not."""
    hidden = "import program\nassert abs(program.f('some input') - 53.1301) < 1e-9\nassert program.g() == -77_777\n"
    judged = suite(task(99, verify={"files": files(judge__py=hidden)}))
    for text, count in (("53.1301", 1), ("77777", 1), ("some input", 0)):
        assert len(copied_from_suite("", text, judged)) == count


def test_a_deep_tree_does_not_stop_the_checks() -> None:
    """A sum of thousands of terms is read, not fallen over."""
    hidden = "assert x == " + " + ".join(["1"] * 900) + " + 98_765\n" + "assert y == " + "(" * 500 + ")" * 500
    checks = check_suite(suite(task(99, verify={"files": files(judge__py=hidden)})))
    assert checks == ()
