"""A program-repair agent that a skill steers: the body of SKILL.md says which edits to try, and in which order.

    python repair.py --skill SKILL.md --workdir FOLDER --result result.json --attempts 6 --seed 1

Each bullet of the skill is a phrase that the agent knows (`--phrases` prints them); other lines are left alone and told.
The agent really edits program.py, really runs the visible tests after each edit, and keeps the first edit with which
they pass. It has a limited number of attempts, so what the skill names and in which order matters. Where a phrase fits
several places, the seed draws their order. It needs nothing but Python, no network and no model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import select
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # `python -I` leaves it out

from editing import Program
from templates import FAMILIES, NAMED, TEMPLATES, special_case

sys.dont_write_bytecode = True
TEST_LIMIT_S = 2.0
MEMORY_BYTES = 1 << 30
BULLET = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(?P<phrase>\S.*)")
SET = re.compile(r"set (?P<name>\w+) to (?P<value>\S+)", re.IGNORECASE)
USE = re.compile(r"use (?P<new>\w+) instead of (?P<old>\w+)", re.IGNORECASE)


class Rule:
    """A line of the skill that the agent knows: a phrase, and the edits that it stands for."""

    def __init__(
        self, phrase: str, edits: Sequence[Any], conventions: Mapping[str, str] | None = None
    ) -> None:
        self.phrase = phrase
        self.edits = edits
        self.conventions = conventions or {}


def body(text: str) -> str:
    """A skill's text without its frontmatter."""
    found = re.match(r"\ufeff?---\r?\n.*?\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    return text[found.end() :] if found else text


def plain(line: str) -> str:
    """The phrase of a bullet: without marks of code, emphasis and a full stop, in lower case. Empty for other lines."""
    found = BULLET.match(line)
    if not found:
        return ""
    phrase = re.sub(r"\s+", " ", re.sub(r"[`*\"]", "", found["phrase"])).strip()
    return re.sub(r"\s*\([^)]*\)$", "", phrase.rstrip(".")).rstrip(".")


def read_rules(text: str) -> tuple[list[Rule], list[str]]:
    """Rules in the order of the text, each once, and the bullets that were not understood."""
    rules, unknown, seen = [], [], set()
    for line in body(text).splitlines():
        phrase = plain(line)
        if not phrase or phrase.lower() in seen:
            continue
        seen.add(phrase.lower())
        rule = rule_of(phrase)
        if rule:
            rules.append(rule)
        else:
            unknown.append(phrase)
    return rules, unknown


def rule_of(phrase: str) -> Rule | None:
    """The rule that a phrase stands for; None for an unknown one."""
    key = phrase.lower()
    if found := SET.fullmatch(phrase):
        return Rule(phrase, [], {found["name"]: found["value"]})
    if found := USE.fullmatch(phrase):
        return Rule(phrase, [NAMED(found["new"], found["old"])])
    names = FAMILIES.get(key, (key,))
    edits = [TEMPLATES[name] for name in names if name in TEMPLATES]
    return Rule(phrase, edits) if edits else None


def candidates(
    rules: Sequence[Rule], source: str, tests: str, rng: random.Random
) -> Iterator[tuple[str, str]]:
    """(phrase, new source) in the order in which they are tried: of the rules; the places of one rule are drawn."""
    seen = {source}
    for rule in rules:
        found = []
        for template in rule.edits:
            program = Program(source)  # templates work on it, so each gets its own
            edits = special_case(program, tests) if template is special_case else template(program)
            found += [new for new in edits if new is not None]
        rng.shuffle(found)
        for new in found:
            if new not in seen and compiles(new):
                seen.add(new)
                yield rule.phrase, new


def compiles(source: str) -> bool:
    """Whether a text is a program at all; what is none needs no run of the tests."""
    try:
        compile(source, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def run_visible(workdir: Path) -> dict[str, str]:
    """Test name → what went wrong, of the tests that the agent may see; run in a forked child with limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _child(workdir, writer)
    os.close(writer)
    try:
        said = _read(reader, TEST_LIMIT_S)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        return dict(json.loads(said))
    except ValueError:
        return {"run_tests.py": "the tests did not end"}


def _child(workdir: Path, writer: int) -> NoReturn:
    """Never returns: says the outcomes, and ends without the parent's clean-up."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource  # noqa: PLC0415 - not on every system

            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.chdir(workdir)
        sys.path.insert(0, str(workdir))
        import run_tests  # noqa: PLC0415 - the folder's

        os.write(writer, json.dumps(run_tests.outcomes("test_visible")).encode()[:65000])
    finally:
        os._exit(0)


def _read(reader: int, limit_s: float) -> str:
    said = b""
    until = time.monotonic() + limit_s
    while (left := until - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            break
        piece = os.read(reader, 65536)
        if not piece:
            break
        said += piece
    return said.decode("utf-8", "replace")


def repair(skill: str, workdir: Path, attempts: int, seed: str) -> dict[str, Any]:
    """Do what the skill says in a folder, and tell how it went."""
    rules, unknown = read_rules(skill)
    path = workdir / "program.py"
    source = path.read_text(encoding="utf-8")
    tools = []
    for rule in rules:
        for name, value in rule.conventions.items():
            new = Program(source).with_constant(name, value)
            if new:
                source = new
                path.write_text(source, encoding="utf-8")
                tools.append({"name": "edit", "input": rule.phrase})
    tried, kept = _try_edits(rules, source, path, attempts, random.Random(f"{seed} {source}"), tools)
    said = f"kept: {kept}" if kept else "nothing that was tried makes the visible tests pass"
    if kept == "":
        said = "the visible tests pass"
    if unknown:
        said += f"; not understood: {'; '.join(unknown)}"
    return {
        "status": "ok",
        "cost_usd": None,
        "tokens": None,
        "tool_calls": tools,
        "final_text": f"{said} ({tried} of {attempts} attempts, {len(rules)} rules)",
    }


def _try_edits(
    rules: Sequence[Rule],
    source: str,
    path: Path,
    attempts: int,
    rng: random.Random,
    tools: list[dict[str, str]],
) -> tuple[int, str | None]:
    """How many edits were tried, and the phrase that was kept; empty for none needed, None for none found."""
    tools.append({"name": "run_tests"})
    failing = run_visible(path.parent)
    if not any(failing.values()):
        return 0, ""
    tests = (path.parent / "test_visible.py").read_text(encoding="utf-8")
    tried = 0
    for phrase, new in candidates(rules, source, tests, rng):
        if tried == attempts:
            break
        tried += 1
        path.write_text(new, encoding="utf-8")
        tools += [{"name": "edit", "input": phrase}, {"name": "run_tests"}]
        if not any(run_visible(path.parent).values()):
            return tried, phrase
    path.write_text(source, encoding="utf-8")
    return tried, None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the agent came to an end, repaired or not; 2 for what it cannot work with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skill", type=Path, help="SKILL.md, its folder, or a file with its body alone")
    parser.add_argument("--workdir", type=Path, default=Path.cwd())
    parser.add_argument("--result", type=Path)
    parser.add_argument("--attempts", type=int, default=6, help="edits that may be tried")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--phrases", action="store_true", help="print the phrases that are known, and end")
    parser.add_argument("--version", action="store_true", help="print what tells this program from another")
    chosen = parser.parse_args(arguments)
    if chosen.version:
        own = b"".join(p.read_bytes() for p in sorted(Path(__file__).resolve().parent.glob("*.py")))
        print(f"repair {zlib.crc32(own):08x}, Python {sys.version.split()[0]}")
        return 0
    if chosen.phrases:
        print(*sorted({*TEMPLATES, *FAMILIES}), "use NAME instead of NAME", "set NAME to VALUE", sep="\n")
        return 0
    if not chosen.skill:
        parser.error("--skill is needed")
    path = chosen.skill / "SKILL.md" if chosen.skill.is_dir() else chosen.skill
    try:
        told = repair(
            path.read_text(encoding="utf-8"), chosen.workdir.resolve(), chosen.attempts, chosen.seed
        )
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        told = {"status": "agent_error", "cost_usd": None, "tokens": None, "tool_calls": []}
        told["final_text"] = f"{type(error).__name__}: {error}"
    if chosen.result:
        chosen.result.write_text(json.dumps(told), encoding="utf-8")
    print(told["final_text"])
    return 0 if told["status"] == "ok" else 2


if __name__ == "__main__":
    sys.exit(main())
