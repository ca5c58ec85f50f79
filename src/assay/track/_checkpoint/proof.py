"""Starts `restored` in a process of its own and collects the answer; the training goes on meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.track._checkpoint.arrays import loaded
from assay.track._checkpoint.restored import ANSWER
from assay.track.sidecar import environment

_TAIL_BYTES = 65536


@dataclass(frozen=True)
class Answer:
    """What a restore found."""

    ok: bool | None
    """None: it could not be asked (killed, timed out, no such function)."""
    detail: str
    replayed: int = 0


class Restore:
    """One restore in the background.

    Args:
        folder: of the checkpoint.
        replay: where the function is that replays steps (`replay_of`), if the script has one.
        expected: the losses of the live run after this checkpoint, a row a step.
        tolerance: relative difference of losses that is still the same; 0 asks for equal bits.
        timeout_s: after which it is given up.

    Raises:
        OSError: if no process can be started.
    """

    def __init__(
        self,
        folder: Path,
        replay: Mapping[str, str] | None = None,
        expected: Sequence[Sequence[float]] = (),
        *,
        tolerance: float = 0.0,
        timeout_s: float = 600.0,
    ) -> None:
        self.name = folder.name
        self._timeout_s = timeout_s
        torch = loaded("torch")
        job = {
            "folder": str(folder.resolve()),
            "replay": dict(replay) if replay and expected else None,
            "expected": [[float(n).hex() for n in row] for row in expected],
            "tolerance": tolerance,
            "threads": torch.get_num_threads() if torch is not None else None,
            "sys_path": [entry for entry in sys.path if entry] if replay else [],
            "timeout_s": timeout_s,
        }
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            # -P: a file of the user's folder that is called like a library must not be taken for it.
            [sys.executable, "-P", "-m", "assay.track._checkpoint.restored"],
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(json.dumps(job).encode())

    def poll(self) -> Answer | None:
        """The answer, or None while it works."""
        return None if self._process.poll() is None else self._answer()

    def wait(self) -> Answer:
        """The answer, waited for."""
        try:
            self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return self._answer()

    def stop(self) -> None:
        """End it; nobody wants the answer any more."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()

    def _answer(self) -> Answer:
        if self._out.closed:
            return Answer(None, "stopped")
        size = self._out.seek(0, os.SEEK_END)
        self._out.seek(max(0, size - _TAIL_BYTES))
        text = self._out.read().decode("utf-8", "replace")
        self._out.close()
        for line in reversed(text.splitlines()):
            if line.startswith(ANSWER):
                value: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return Answer(value["ok"], str(value["detail"]), int(value.get("replayed", 0)))
        tail = " ".join(text.split())[-300:]
        return Answer(None, f"the restore ended with {self._process.returncode} and no answer: {tail}")
