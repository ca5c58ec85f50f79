"""Assay called in this process: what it said; and a spec that is right."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assay import cli

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "release" / "model"
SPEC = f"""\
schema: release/1
name: small
source: {MODEL}
recipes:
  - name: first
    build: {{kind: gguf, type: Q8_0}}
  - name: second
    build: {{kind: gguf, type: Q4_0}}
serve:
  kind: llama_cpp
  slots: 1
evaluate:
  kind: command
  command: ["{sys.executable}", "-c", pass]
expected_samples: {{facts: 40}}
compare:
  margin: 0.1
apply: {{kind: directory, path: published}}
"""


@dataclass(frozen=True)
class Said:
    """How a call of Assay ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stands on stdout, as JSON."""
        return json.loads(self.out)

    def refused(self, code: int, *fragments: str) -> None:
        """It was one line on stderr, with the fragments in it, and nothing on stdout."""
        assert self.out == ""
        assert self.err.startswith("assay: ")
        assert self.err.count("\n") == 1, self.err
        for fragment in fragments:
            assert fragment in self.err
        assert self.code == code


Call = Callable[..., Said]


def calling(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Assay in that folder; whatever happens, it never shows a traceback."""
    monkeypatch.chdir(folder)

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = cli._run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "a defect of Assay" not in err
        return Said(code, out, err)

    return call
