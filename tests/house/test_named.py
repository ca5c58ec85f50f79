"""What is named in documents, docstrings and messages exists: commands with their options, files, links, decisions."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from assay.cli import cli

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "assay"
DOCUMENTS = sorted(f for g in ("*.md", "docs/**/*.md", "examples/**/*.md") for f in ROOT.glob(g))
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
TEXTS = [*DOCUMENTS, *EXAMPLES, *sorted(f for g in ("*.py", "*.j2", "*.yaml") for f in SRC.rglob(g))]
FOLDERS = sorted(p.name for p in SRC.iterdir() if p.is_dir() and p.name != "__pycache__")

COMMAND = re.compile(r"(?:(?<=[`\"'])|^[ \t]*(?:\$ )?)assay (?P<words>[a-z][^\n`\"'#|;]*)", re.MULTILINE)
"""`assay run SPEC`, between quotes or at the beginning of a line of an example."""
NO_COMMAND = re.compile(r"sandbox:|[a-z]+/\d")
"""The beginning of a message, and the name of a schema."""
LINK = re.compile(r"\]\((?P<path>[^)#\s:]+)(?:#[^)]*)?\)")
FILE = re.compile(
    rf"`((?:src/assay|docs|benchmarks|examples|schemas|{'|'.join(FOLDERS)})/[\w./-]+\.(?:py|md|yaml|json))`"
)
PLACEHOLDER = re.compile(r"[A-Z]{4}")
"""`adapters/VERB/KIND.py` names no file."""
DECISION = re.compile(r"docs/decisions/(\d{4})")


def problem(words: list[str]) -> str:
    """What of a command line does not exist; empty if all of it does."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0].rstrip(".,:"))
        if found is None:
            shown = words[0].isupper() or words[0].startswith(("-", "{", "[", "<"))
            return "" if shown and command is not cli else f"no command {words[0]!r}"
        command, words = found, words[1:]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    if "--" in words:
        words = words[: words.index("--")]
    named = [m[1] for word in words if (m := re.match(r"[\[(]*(--[a-z][\w-]*)", word))]
    return ", ".join(f"no option {name}" for name in named if name not in known)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run SPEC --set a=b", ""),
        ("runs SPEC", "no command 'runs'"),
        ("run SPEC --sett a=b", "no option --sett"),
        ("train -- python train.py --anything", ""),
        ("gate compare A B", ""),
        ("gate compares A B", "no command 'compares'"),
    ],
)
def test_a_wrong_name_is_found(line: str, told: str) -> None:
    """The test below can fail."""
    assert problem(line.split()) == told


def test_every_command_that_is_named_exists() -> None:
    """`assay X --y` in a document, a docstring or a message is a command with that option."""
    wrong, seen = [], 0
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for found in COMMAND.finditer(text):
            if NO_COMMAND.match(found["words"].split(" ", 1)[-1]) or NO_COMMAND.match(found["words"]):
                continue
            seen += 1
            if told := problem(found["words"].split()):
                line = text.count("\n", 0, found.start()) + 1
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {found[0].strip()}: {told}")
    assert wrong == []
    assert seen > 300


def test_every_link_of_a_document_leads_somewhere() -> None:
    """Links to files are relative, and the files are there."""
    wrong = [
        f"{path.relative_to(ROOT)}: {found['path']}"
        for path in DOCUMENTS
        for found in LINK.finditer(path.read_text(encoding="utf-8"))
        if not (path.parent / found["path"]).exists()
    ]
    assert wrong == []


def test_every_file_that_is_named_exists() -> None:
    """A path between backticks is seen from the root, from the package, or from the folder that it is named in."""
    wrong = []
    for path in TEXTS:
        for name in FILE.findall(path.read_text(encoding="utf-8")):
            places = (ROOT, SRC, *path.parents)
            if not PLACEHOLDER.search(name) and not any((place / name).exists() for place in places):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_every_decision_that_is_named_exists() -> None:
    """`docs/decisions/NNNN` is a page."""
    pages = {p.name[:4] for p in (ROOT / "docs" / "decisions").glob("*.md")}
    named = {n for path in TEXTS for n in DECISION.findall(path.read_text(encoding="utf-8"))}
    assert named <= pages
