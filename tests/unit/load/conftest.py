"""A simulated engine as a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Launch = Callable[..., str]


@contextlib.contextmanager
def engine(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start one on a free port of the loopback address; yields its address."""
    command = [sys.executable, "-m", "assay.testing.engine", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("simulated engine: "), process.stderr.read()
        yield line.split()[2], process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start engines; all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(engine(*arguments))[0]


@pytest.fixture
def truth_log(tmp_path: Path) -> Path:
    """Where an engine writes what it really did."""
    return tmp_path / "truth.jsonl"
