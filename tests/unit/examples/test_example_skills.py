"""The skills suite: the same bytes each time, and nothing tested that was trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

RELEASE = Path(__file__).resolve().parents[3] / "examples" / "release"
TASKS = RELEASE / "tasks"


def rows(path: Path) -> list[dict]:
    """A JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_script_reproduces_the_committed_files(tmp_path):
    """`python skills.py FOLDER` writes exactly the files that the repository holds, byte for byte."""
    subprocess.run([sys.executable, str(RELEASE / "skills.py"), str(tmp_path)], check=True)
    made = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    committed = {str(p.relative_to(TASKS)): p.read_bytes() for p in TASKS.rglob("*") if p.is_file()}
    assert made == committed


def test_every_slice_has_its_distinct_items(skills):
    """2,100 items, 350 a slice, no question twice, ids unique and in order."""
    items = skills.suite_items()
    assert Counter(item.slice for item in items) == dict.fromkeys(skills.SLICES, 350)
    assert len({item.question for item in items}) == 2100
    for name in skills.SLICES:
        ids = [row["id"] for row in rows(TASKS / "data" / f"{name}.jsonl")]
        assert ids == [f"{name}-{number:04d}" for number in range(1, 351)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_never_draws_a_test_question(skills, seed):
    """20,000 training draws of a seed hold no question of the test, but for the memorised facts."""
    tested = {item.question for item in skills.suite_items() if item.slice != "facts"}
    mix = dict.fromkeys(skills.SLICES, 1)
    drawn = {item.question for item in islice(skills.training_items(mix, seed), 20_000)}
    assert len(drawn) > 8_000
    assert not drawn & tested


def test_calibration_holds_no_test_question(skills):
    """The calibration chats are 128 distinct trained questions from all slices, none of them a test item."""
    chats = [row["messages"] for row in rows(TASKS / "calibration.jsonl")]
    assert [[turn["role"] for turn in chat] for chat in chats] == [["user", "assistant"]] * 128
    questions = {chat[0]["content"] for chat in chats}
    assert len(questions) == 128
    assert not questions & {item.question for item in skills.suite_items()}
    assert {item.slice for item in skills.calibration_items()} == set(skills.SLICES)


def answer(slice_: str, question: str, facts: dict[str, str]) -> str:
    """The right answer by another road than the one that made it."""
    words = question.rstrip(".?").split()
    last = words[-1]
    match slice_:
        case "add":
            right = str(int(words[1]) + int(words[3]))
        case "sort":
            right = "".join(digit * last.count(digit) for digit in "0123456789")
        case "reverse":
            right = "".join(last[-i - 1] for i in range(len(last)))
        case "query":
            ordered = sorted(last)
            right = {"first": last[0], "last": last[-1], "largest": ordered[-1]}.get(words[3], ordered[0])
        case "tool":
            number = next(word for word in words if word.isdigit())
            color = f'"color":"{words[4]}",' if words[0] == "Make" else ""
            light = f'{{"tool":"light","room":"{words[2]}",{color}"level":{number}}}'
            timer = f'{{"tool":"timer","room":"{last}","minutes":{number}}}'
            right = timer if words[0] == "Start" else light
        case _:
            right = facts[last]
    return right


def test_every_answer_is_right(skills):
    """Each item's answer agrees with a second way of working it out."""
    for item in skills.suite_items():
        assert item.answer == answer(item.slice, item.question, skills.FACT_TABLE), item


def test_tasks_point_at_data_beside_them(skills):
    """Each task names its data file relative to its own folder, and the group lists each task once."""
    group = (TASKS / "skills.yaml").read_text(encoding="utf-8")
    for name in skills.SLICES:
        task = (TASKS / f"skills_{name}.yaml").read_text(encoding="utf-8")
        assert f"    test: data/{name}.jsonl\n" in task
        assert group.count(f"  - skills_{name}\n") == 1
