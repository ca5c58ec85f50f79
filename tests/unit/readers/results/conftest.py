"""Small complete lm-eval folders, cut from recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parents[3] / "recorded" / "results"
STAMP = "2026-11-20T09-22-33.139497"
TASKS = ("skills_add", "skills_tool")

Edit = Callable[[dict[str, Any]], None]


class Folder:
    """A results folder whose files can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / f"results_{STAMP}.json"

    def samples(self, task: str) -> Path:
        """The samples file of a task."""
        return self.path / f"samples_{task}_{STAMP}.jsonl"

    def edit(self, change: Edit) -> None:
        """Change the results document in place."""
        document = json.loads(self.results.read_text())
        change(document)
        self.results.write_text(json.dumps(document))

    def edit_rows(self, task: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace the rows of a task."""
        rows = [json.loads(line) for line in self.samples(task).read_text().splitlines()]
        self.samples(task).write_text("".join(json.dumps(r) + "\n" for r in change(rows)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A complete run of two tasks of four samples, without a limit."""
    path = tmp_path / "run"
    path.mkdir()
    source = RECORDED / "lm_eval_chat"
    for task in TASKS:
        name = f"samples_{task}_{STAMP}.jsonl"
        (path / name).write_bytes((source / name).read_bytes())
    document = json.loads((source / f"results_{STAMP}.json").read_text())
    for key in ("results", "n-samples", "configs", "versions", "n-shot", "higher_is_better", "task_hashes"):
        document[key] = {k: v for k, v in document[key].items() if k in TASKS or k == "skills"}
    document["n-samples"] = {t: {"original": 4, "effective": 4} for t in TASKS}
    document["config"]["limit"] = None
    (path / f"results_{STAMP}.json").write_text(json.dumps(document))
    return Folder(path)
