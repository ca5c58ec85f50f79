"""The twin of the example study in a folder of its own, Assay at work there, and a look at what is left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from assay.core.events import Event, EventType
from assay.core.history import StudyHistory, replay
from assay.ledger.home import Home

HERE = Path(__file__).parent / "twin"
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "release" / "model"
WORKER = ROOT / "src" / "assay" / "workers" / "quantize_gguf.py"
DATA = ROOT / "examples" / "release" / "tasks" / "data"
ASSAY = (sys.executable, "-m", "assay")
GONE_S = 3.0
"""Nothing of ours may live longer after Assay is gone."""


@dataclass
class Project:
    """A user's folder with a spec in it, and Assay at work there."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def spec(self) -> Path:
        """The spec."""
        return self.folder / "release.yaml"

    @property
    def home(self) -> Path:
        """The ledger's folder."""
        return self.folder / ".assay"

    @property
    def published(self) -> Path:
        """Where an accepted candidate goes."""
        return self.folder / "published"

    @property
    def hold(self) -> Path:
        """The harness waits in the middle while this file is there."""
        return self.folder / "hold"

    def start(self, *arguments: str, via: Sequence[str] = ASSAY, **environment: str) -> subprocess.Popen[str]:
        """Start Assay here."""
        child = subprocess.Popen(
            [*via, *arguments],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run Assay here to its end; whatever it says, it never shows a traceback."""
        child = self.start(*arguments, **more)
        out, err = child.communicate(timeout=120)
        assert "Traceback" not in out + err, err
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def killed(self, when: str, number: int, *arguments: str) -> int:
        """Run Assay until it kills itself at an event; returns the exit code."""
        via = (sys.executable, str(HERE / "killed.py"), when, str(number))
        child = self.start(*arguments, via=via)
        child.communicate(timeout=120)
        return child.returncode

    def events(self) -> list[Event]:
        """All events of the ledger."""
        home = Home(self.home)
        found = list(home.ledger.read())
        home.ledger.close()
        return found

    def history(self, study: str = "twin-1") -> StudyHistory:
        """What the ledger says of a study."""
        return replay(self.events())[study]

    def document(self, digest: str) -> Mapping[str, Any]:
        """A stored document."""
        home = Home(self.home)
        home.ledger.close()
        return home.store.get(digest)

    def left(self) -> list[str]:
        """Command lines of all processes that work here and are no Assay that we wait for."""
        ours = {p.pid for p in self.started if p.poll() is None} | {os.getpid()}
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if process.pid not in ours and any(str(self.folder) in word for word in words):
                    found.append(f"{process.pid} {' '.join(words)[:300]}")
            except psutil.Error:
                continue
        return found

    def nothing_left(self) -> None:
        """Wait the time that guards have, then insist."""
        deadline = time.monotonic() + GONE_S
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []

    def until(self, what: str, condition: Callable[[], Any], limit_s: float = 30.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.01)

    def asking(self) -> None:
        """Wait until a harness of the twin is in the middle of its questions."""
        self.until(
            "a harness", lambda: any("harness.py" in line and "guard.py" not in line for line in self.left())
        )


def lent(made: Project) -> Iterator[Project]:
    """The folder for a test; at the end nothing of it may run."""
    yield made
    for child in made.started:
        if child.poll() is None:
            child.kill()
            child.communicate()
    made.nothing_left()


def lay_out(folder: Path, spec: str = "release.yaml") -> Project:
    """The twin in a folder that does not exist yet, with that one of its specs."""
    folder.mkdir(parents=True)
    text = (HERE / spec).read_text(encoding="utf-8")
    values = {
        "MODEL": MODEL,
        "PYTHON": sys.executable,
        "HERE": HERE,
        "WORKER": WORKER,
        "DATA": DATA,
        "PROJECT": folder,
    }
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    (folder / "release.yaml").write_text(text, encoding="utf-8")
    return Project(folder)


def published_right(project: Project) -> None:
    """The release folder holds the accepted artifact, its manifest, and nothing else beside it."""
    history = project.history()
    kept = history.decisions[-1]
    manifest = json.loads((project.published / "assay-manifest.json").read_text())
    assert manifest["artifact"] == kept.facts["artifact"]["digest"]
    assert sorted(p.name for p in project.folder.iterdir()) == [".assay", "published", "release.yaml"]
    assert list(history.applied) == [kept.trial]


def finished_once(events: Sequence[Event]) -> None:
    """No finished step was done again."""
    keys = [(e.data["trial"], e.data["step"]) for e in events if e.type is EventType.STEP_FINISHED]
    shared = [e.data["key"] for e in events if e.type is EventType.STEP_FINISHED and e.data["shared"]]
    assert len(keys) == len(set(keys))
    assert len(shared) == len(set(shared))
    started = [e.data["trial"] for e in events if e.type is EventType.TRIAL_STARTED]
    assert len(started) == len(set(started))
