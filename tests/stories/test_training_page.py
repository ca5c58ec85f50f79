"""Story: the quickstart of docs/training.md, as a reader would follow it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training.md"

pytestmark = pytest.mark.slow


def test_the_quickstart_runs_resumes_and_passes_the_gate(tmp_path: Path) -> None:
    """Trained, killed and resumed it ends in ADVANCE; every command that the page shows is one."""
    text = PAGE.read_text("utf-8")
    script = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert script is not None
    (tmp_path / ".assay").mkdir()
    stumble = (
        "torch.manual_seed(0)\ndef _stumble(step):\n    import os\n"
        "    if step == 250 and os.environ['ASSAY_ATTEMPT'] == '1':\n        os.kill(os.getpid(), 9)"
    )
    code = script[1].replace("optimizer.step()", "optimizer.step(); _stumble(step)")
    (tmp_path / "train.py").write_text(code.replace("torch.manual_seed(0)", stumble))

    def assay(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "assay", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    first = assay("train", "--hypothesis", "64 units reach 0.9", "--", sys.executable, "train.py")
    assert first.returncode == 6, first.stderr
    assert "killed (SIGKILL" in first.stdout
    second = assay("train", "--json", "--resume", "exp-001")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["step"] == 400
    verdict = json.loads(assay("gate", "training", "exp-001").stdout)
    assert verdict["word"] == "ADVANCE", verdict["detail"]
    assert assay("report", "exp-001").returncode == 0
    assert assay("experiment", "finish", "exp-001").returncode == 0
    known = {"train", "gate", "report", "experiment", "checkpoint", "watch", "demo"}
    for line in re.findall(r"^\$ assay (\S+) ?(\S*)", text, flags=re.MULTILINE):
        assert line[0] in known
        helped = [line[0], *([line[1]] if line[0] in {"experiment", "checkpoint", "gate"} else []), "--help"]
        assert assay(*helped).returncode == 0, helped
