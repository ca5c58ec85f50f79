"""What people and scripts read, word for word. `python tests/golden/test_golden.py` writes the files again.

`ledger-1` is an `.assay` folder of schema `ledger/1` that is never written again: every later Assay must read it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from assay import cli

HERE = Path(__file__).resolve().parent
SPEC = """\
schema: release/1
name: golden
source: model
recipes:
  - {name: q4_0, build: {kind: gguf, type: Q4_0}}
  - {name: same, build: {kind: identity}, serve: {kind: llama_cpp}}
serve: {kind: openai, base_url: http://127.0.0.1:9/v1, model: m}
evaluate: {kind: command, command: [sh, -c, "true"]}
expected_samples: {facts: 350, query: 350}
compare: {margin: 0.05}
apply: {kind: directory, path: published}
budget: {trials: 2}
"""
CASES = {
    "help.txt": ("--help",),
    "help-run.txt": ("run", "--help"),
    "plan.txt": ("plan", "release.yaml"),
    "ls.txt": ("ls",),
    "show.txt": ("show", "fake-1"),
    "show-trial.txt": ("show", "fake-1-1"),
    "show.json": ("show", "fake-1", "--json"),
    "gate-compare.json": ("gate", "compare", "--baseline", "b.json", "--candidate", "c.json"),
    "gate-refused.json": ("gate", "compare", "--baseline", "b.json"),
}


def lay_out(folder: Path) -> None:
    """The files that the cases speak of."""
    shutil.copytree(HERE / "ledger-1", folder / ".assay")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "release.yaml").write_text(SPEC)
    (folder / "b.json").write_text('{"facts": 0.90, "query": 90.0}')
    (folder / "c.json").write_text('{"facts": 0.89, "query": 80.0}')


def said(arguments: tuple[str, ...], folder: Path) -> str:
    """What stands on stdout, with the folder's name taken out."""
    out = io.StringIO()
    width = mock.patch.dict(os.environ, {"COLUMNS": "100"})
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), width:
        cli._run(list(arguments))
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    return text.replace(str(folder), "/project")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A project, at a path of one length: long lines break where they broke before."""
    with tempfile.TemporaryDirectory(prefix="golden-", dir="/tmp") as made:
        lay_out(Path(made))
        yield Path(made)


@pytest.mark.parametrize("name", CASES)
def test_golden(folder: Path, name: str) -> None:
    """Word for word what it was; a change is made on purpose and seen in the diff."""
    assert said(CASES[name], folder) == (HERE / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="golden-", dir="/tmp") as made:
        lay_out(Path(made))
        for name, arguments in CASES.items():
            (HERE / name).write_text(said(arguments, Path(made)), encoding="utf-8")
