"""A small world for agents: a text, tasks, and agents that are real programs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from assay.core.agent import AgentCommand
from assay.core.artifact_text import TextArtifact
from assay.core.suite import Fixture, Suite, Task, Verifier
from assay.readers.texts import read_text

OBEY = """
import json, sys
text, result = open(sys.argv[1]).read(), sys.argv[2]
open("answer.txt", "w").write(text)
json.dump({"status": "ok", "cost_usd": 0.25, "tokens": {"input": 3, "output": 4}, "tool_calls": ["Write"],
           "final_text": "wrote it"}, open(result, "w"))
"""
"""An agent that writes its text into answer.txt."""


def rules(folder: Path, text: str = "right\n") -> TextArtifact:
    """A plain text file, read."""
    path = folder / "rules.txt"
    path.write_text(text)
    return read_text(path)


def agent(folder: Path, code: str = OBEY, **more: Any) -> AgentCommand:
    """An agent that is a Python script; it gets the text's file and the result file."""
    script = folder / "agents" / "agent.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(code)
    command = (sys.executable, "-I", "-S", str(script), "{text_file}", "{result_file}")
    return AgentCommand(**{"command": command, "timeout_s": 20, "isolation": "none", **more})


def task(task_id: str = "a", expected: str = "right", **more: Any) -> Task:
    """A task that wants a content of answer.txt; no process judges it."""
    wanted = (Fixture(path="answer.txt", content=expected),)
    return Task(**{"task_id": task_id, "prompt": "do it", "verifier": Verifier(equals=wanted), **more})


def suite(*tasks: Task) -> Suite:
    """A suite of tasks."""
    return Suite(name="s", path="s", format="jsonl", source_digest="sha256:0", tasks=tasks)


def alive_with(mark: str) -> list[int]:
    """Processes that carry a mark on their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(mark in part for part in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def gone(mark: str, limit_s: float = 10.0) -> bool:
    """Whether no process carries the mark any more, after waiting for it."""
    deadline = time.monotonic() + limit_s
    while alive_with(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
