"""A real agent in small: a script that applies the regex rules of a file to words, and tasks that judge it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

AGENT = """
import json, re, sys, pathlib
work, text, seed = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(), int(sys.argv[3])
log = pathlib.Path(__file__).with_name("agent-runs.log")
with log.open("a") as handle:
    handle.write("run\\n")
rules = []
for line in text.splitlines():
    label, _, pattern = line.partition(" ")
    if pattern:
        try:
            rules.append((label, re.compile(pattern)))
        except re.error:
            pass
words = (work / "words.txt").read_text().splitlines()
slip = len(sys.argv) > 4 and seed % int(sys.argv[4]) == 0
found = ["?" if slip else next((n for n, p in rules if p.fullmatch(w)), "?") for w in words]
(work / "labels.txt").write_text("\\n".join(found))
"""
JUDGE = """
import sys
words, labels = open("words.txt").read().split("\\n"), open("labels.txt").read().split("\\n")
wanted = sys.argv[1].split(",")
bad = 0
for word, label, want in zip(words, labels, wanted):
    if label != want:
        bad += 1
        print(f"missed {want}: {word}" if label == "?" else f"wrong {label}: {word}")
sys.exit(bad > 0)
"""
WORDS = {
    "day": ("2024-01-02", "1999-12-31", "2031-07-15", "2000-02-29", "1987-06-05"),
    "time": ("10:45", "23:59", "00:01", "07:30", "12:12"),
    "num": ("42", "7", "1000", "365", "99"),
    "word": ("apple", "pear", "fig", "plum", "quince"),
}
LEARN = {
    "kind": "from-failure",
    "weight": 2.0,
    "options": {
        "positive": r"(?m)^missed (?P<label>\w+): (?P<text>.*)$",
        "negative": r"(?m)^wrong \w+: (?P<text>.*)$",
        "line": "{label} {pattern}",
        "support": 1,
    },
}
"""A label's pattern from the words that had none; with one word a task, each is an example of its own."""


def write_world(folder: Path) -> dict[str, Any]:
    """A rules file, an agent, a suite; what every search over them shares."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.py").write_text(AGENT)
    (folder / "judge.py").write_text(JUDGE)
    rules = folder / "rules.txt"
    rules.write_text("# nothing yet\nother [A-Z]+\n")
    lines = []
    for n in range(5):
        for label, words in WORDS.items():
            chosen = [words[n], words[(n + 1) % 5]]
            lines.append(
                {
                    "task_id": f"{label}-{n}",
                    "user_message": "Label the words.",
                    "fixture_setup": {"words.txt": "\n".join(chosen)},
                    "test_command": f"python3 -I -S {folder / 'judge.py'} {label},{label}",
                }
            )
    (folder / "suite.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    ids = [x["task_id"] for x in lines]
    return {
        "suite": str(folder / "suite.jsonl"),
        "tasks_train": tuple(i for i in ids if i.endswith(("-0", "-1"))),
        "tasks_select": tuple(i for i in ids if i.endswith("-2")),
        "agent": {
            "command": [
                sys.executable,
                "-I",
                "-S",
                str(folder / "agent.py"),
                "{workdir}",
                "{text_file}",
                "{seed}",
            ],
            "timeout_s": 20,
            "isolation": "none",
            "price_per_run": 0.01,
            "parallel": 2,
        },
        "proposers": [LEARN, {"kind": "add-line"}, {"kind": "delete-line"}],
        "pool": ["word [a-z]+", "num [0-9]+", "junk .*"],
        "rules": {"fresh": False, "pick": "best", "minibatch": 2},
        "max_runs": 120,
    }


def agent_runs(folder: Path) -> int:
    """How often the agent was really started."""
    log = folder / "agent-runs.log"
    return len(log.read_text().splitlines()) if log.exists() else 0
