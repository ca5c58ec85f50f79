"""Checks of one task: can it be failed, can it be passed, and is what decides it out of the agent's reach?"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from assay.core.artifact_text import Severity
from assay.core.suite import PYTHON, Task, same_content
from assay.gates._suite.expected import STRING_CHARS, expected_values, given_away, solution_lines
from assay.gates._text.policy import Findings

BLOCK, WARN, INFO = Severity.BLOCK, Severity.WARN, Severity.INFO
_RUNS_FILES = re.compile(
    r"python[\d.]*|pypy\d*|node|deno|bun|ruby|perl|bash|sh|zsh|pytest|py\.test|unittest|tox|nox|make|npm|npx|yarn|jest"
    r"|cargo|go|gradle|mvn"
)
_SCRIPT = re.compile(r"[\w./-]+\.(?:py|sh|js|mjs|ts|rb|pl)")
_STEERS = (
    "CLAUDE.md",
    "AGENTS.md",
    "GEMINI.md",
    ".claude",
    ".codex",
    ".cursor",
    ".mcp.json",
    ".gemini",
    ".aider*",
)


def check_task(task: Task, out: Findings) -> None:
    """All rules of one task."""
    out.where = task.task_id
    if not task.verifier.decides:
        out.add("no-verifier", BLOCK, "nothing decides: it passes whatever the agent does")
    if task.verifier.command:
        _reach(task, out)
    _tools(task, out)
    _reference(task, out)
    _equals(task, out)
    _leaks(task, out)
    _contamination(task, out)
    if task.canary and not task.verifier.decides:
        out.add("canary-undecided", BLOCK, "a canary that nothing decides proves nothing")


def collected(task: Task, path: str) -> bool:
    """Whether a file of the agent's folder is taken to be judged."""
    patterns = task.verifier.collect
    return not patterns or any(fnmatch.fnmatchcase(path, p) for p in patterns)


def _reach(task: Task, out: Findings) -> None:
    """What decides must come from outside of the folder that the agent works in."""
    own = {f.path for f in task.fixtures}
    outside = {f.path for f in task.verifier.files}
    for name in sorted(own & outside):
        out.add(
            "tests-readable",
            WARN,
            f"the agent can read the deciding file {name!r}; it is put back before judging, and its values can be copied",
        )
    for name in sorted(set(_named(task)) & own - outside):
        held = any(fnmatch.fnmatchcase(name, p) for p in task.protected)
        if not held:
            out.add("tests-inside", BLOCK, f"the deciding file {name!r} lies where the agent can change it")
    runs = _RUNS_FILES.fullmatch(task.verifier.command[0].rpartition("/")[2])
    if (runs or task.verifier.command[0] == PYTHON) and "-c" not in task.verifier.command[:3]:
        if not outside and not any(n in own for n in _named(task)):
            out.add("tests-inside", BLOCK, "no deciding file comes from outside of the agent's folder")
        elif not task.verifier.collect:
            out.add(
                "collects-all",
                WARN,
                "all that the agent leaves is judged: it can add a conftest.py or a module that shadows another; "
                "`collect` names what counts",
            )
    for name in sorted(set(_named(task)) - own - outside):
        out.add("command-file", WARN, f"the command names {name!r}, which neither task nor verifier has")


def _named(task: Task) -> Iterator[str]:
    for part in task.verifier.command:
        name = part.partition("::")[0].removeprefix("./")
        if _SCRIPT.fullmatch(name) and not name.startswith("/"):
            yield name


def _tools(task: Task, out: Findings) -> None:
    both = set(task.verifier.expected_tools) & set(task.verifier.forbidden_tools)
    if both and both >= set(task.verifier.expected_tools):
        out.add("unfillable", BLOCK, f"every expected tool is forbidden: {min(both)!r}")
    elif both:
        out.add("tools-contradict", WARN, f"{min(both)!r} is expected and forbidden")


def _reference(task: Task, out: Findings) -> None:
    if not task.reference:
        if task.verifier.command:
            out.add("no-reference", WARN, "without a reference nobody knows whether it can be passed at all")
        return
    given = {f.path: f.digest for f in task.fixtures}
    deciding = {f.path for f in task.verifier.files}
    if all(given.get(f.path) == f.digest for f in task.reference):
        out.add("already-solved", BLOCK, "the reference is what the agent is given")
    for file in task.reference:
        if file.path in deciding:
            out.add("reference-decides", BLOCK, f"the reference holds the deciding file {file.path!r}")
        elif not collected(task, file.path) and given.get(file.path) != file.digest:
            out.add("unfillable", BLOCK, f"`collect` leaves out {file.path!r}, which the reference changes")
        if any(fnmatch.fnmatchcase(file.path, p) for p in task.protected):
            out.add("unfillable", BLOCK, f"the reference changes the protected file {file.path!r}")


def _equals(task: Task, out: Findings) -> None:
    """Expected files: within reach of the agent, not there from the start, and not in what it is given."""
    wanted = task.verifier.equals
    given = {f.path: f for f in task.fixtures}
    done = [f.path for f in wanted if f.path in given and same_content(given[f.path].data, f.data)]
    if wanted and len(done) == len(wanted) and not task.verifier.command and not task.verifier.by_tools:
        out.add("already-solved", BLOCK, "every expected file is what the agent is given")
    for file in wanted:
        if file.path in done:
            continue
        if not collected(task, file.path):
            out.add("unfillable", BLOCK, f"`collect` leaves out the expected file {file.path!r}")
        elif file.path in given and any(fnmatch.fnmatchcase(file.path, p) for p in task.protected):
            out.add("unfillable", BLOCK, f"the expected file {file.path!r} is protected and differs")
        elif any(file.path == f.path and not same_content(f.data, file.data) for f in task.reference):
            out.add("unfillable", BLOCK, f"the reference's {file.path!r} is not the expected one")
        text = file.text.strip()
        if len(text) >= STRING_CHARS and given_away([text], task.prompt):
            out.add("leak-prompt", WARN, f"the prompt holds what {file.path!r} is expected to hold")
        for other in task.fixtures:
            if file.data.strip() and other.path != file.path and same_content(other.data, file.data):
                out.add("leak-reference", BLOCK, f"{other.path!r} is the expected file {file.path!r}")


def _leaks(task: Task, out: Findings) -> None:
    answers = {f.digest for f in task.reference} - {f.digest for f in task.reference if not f.data.strip()}
    known = {f.path for f in task.reference}
    for file in task.fixtures:
        if file.digest in answers and file.path not in known:
            out.add("leak-reference", BLOCK, f"{file.path!r} is a file of the reference")
    lines = solution_lines(task)
    if found := sorted(line for line in lines if line in task.prompt):
        out.add("leak-reference", BLOCK, f"the prompt holds a line of the reference: {found[0][:80]!r}")
    for file in task.fixtures:
        if file.path not in known and (found := [line for line in lines if line in file.text]):
            out.add(
                "leak-reference", BLOCK, f"{file.path!r} holds a line of the reference: {found[0][:80]!r}"
            )
    values = expected_values(task)
    in_prompt = given_away(values, task.prompt)
    if in_prompt:
        most = len(in_prompt) >= 2 and 2 * len(in_prompt) >= len(values)
        _told(out, "leak-prompt", BLOCK if most else WARN, "the prompt", in_prompt, len(values))
    for file in task.fixtures:
        shared = given_away(values, file.text)
        if len(shared) >= 3 and 2 * len(shared) >= len(values):
            _told(out, "leak-fixture", WARN, repr(file.path), shared, len(values))


def _told(out: Findings, rule: str, severity: Severity, where: str, found: list[str], of: int) -> None:
    text = f"{where} holds {len(found)} of {of} expected values, such as {found[0][:60]!r}"
    out.add(rule, severity, text, measured=len(found), limit=of)


def _contamination(task: Task, out: Findings) -> None:
    for file in task.fixtures:
        first = file.path.split("/")[0]
        if first.casefold() == ".git":
            out.add(
                "git-config",
                BLOCK,
                f"{file.path!r} can make git run commands: let the prompt or agent make it",
            )
            return
        if any(fnmatch.fnmatchcase(first, p) for p in _STEERS):
            out.add("steers-agent", WARN, f"{file.path!r} steers the agent beside the text that is judged")
