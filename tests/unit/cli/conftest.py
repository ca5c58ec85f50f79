"""What the tests of the command line share: Assay called in this process, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_call import SPEC, Call, Said

from assay import cli


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Assay in an empty folder; whatever happens, it never shows a traceback."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = cli._run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "a defect of Assay" not in err
        return Said(code, out, err)

    return call


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec that is right."""
    path = tmp_path / "release.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path
