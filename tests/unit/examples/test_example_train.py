"""The trainer as a program: how it refuses, how it ends early, and what its model can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RELEASE = Path(__file__).resolve().parents[3] / "examples" / "release"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def command(*options: str) -> list[str]:
    """The trainer with options."""
    return [sys.executable, str(RELEASE / "train.py"), *options]


def test_a_taken_folder_is_refused_before_any_work(tmp_path):
    """`--out` that holds something ends with exit code 2 and leaves it alone."""
    (tmp_path / "mine").write_text("mine")
    done = subprocess.run(
        command("--out", str(tmp_path)), env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_sigterm_leaves_nothing(tmp_path):
    """Ended in the middle, the trainer exits with 130 and removes its partial folder."""
    child = subprocess.Popen(
        command("--out", str(tmp_path / "out")), env=ENV, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    first = json.loads(child.stdout.readline())
    assert first["message"] == "training 541,568 parameters"
    assert len(list(tmp_path.iterdir())) == 1
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_the_committed_model_is_as_good_as_its_card_says():
    """The committed weights, read from disk here and now, answer at least 99 % of the 2,100 items."""
    code = (
        "import sys, json, torch, skills, train\n"
        "from transformers import AutoTokenizer\n"
        "torch.set_num_threads(1)\n"
        "folder = sys.argv[1]\n"
        "model = train.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)\n"
        "encoder = train.Encoder(AutoTokenizer.from_pretrained(folder))\n"
        "print(json.dumps(train.accuracy(model, encoder, skills.suite_items())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(RELEASE / "model")],
        env={**ENV, "PYTHONPATH": str(RELEASE)},
        capture_output=True,
        text=True,
        check=True,
    )
    scores = json.loads(done.stdout.splitlines()[-1])
    assert set(scores) == {"add", "sort", "reverse", "query", "tool", "facts"}
    assert sum(scores.values()) / len(scores) >= 0.99
