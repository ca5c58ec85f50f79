"""What the tests of the command line share: Assay called in this process, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from service_manager import SYSTEMCTL

from cli_call import SPEC, Call, calling


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Assay in an empty folder; whatever happens, it never shows a traceback."""
    return calling(tmp_path, monkeypatch, capsys)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec that is right."""
    path = tmp_path / "release.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all processes only those of this test are seen: other tests run engines at the same time."""
    everything = psutil.process_iter

    def ours(*arguments: Any) -> Iterator[psutil.Process]:
        for process in everything(*arguments):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if line and line[0].startswith(str(tmp_path)):
                yield process

    monkeypatch.setattr(psutil, "process_iter", ours)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> Iterator[Path]:
    """A folder with a `systemctl` that manages one engine, which runs."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "llama-server").symlink_to("/bin/sleep")
    program = place / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("ASSAY_RUN_ID", raising=False)
    subprocess.run([program, "start", "our-engine.service"], check=True)
    yield place
    subprocess.run([program, "stop", "our-engine.service"], check=False)
