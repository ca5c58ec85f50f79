"""Story: the examples of the job run where there is no network at all, and come to a Decision."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twin_project import ASSAY, ROOT

from assay.core.agent import AgentRuns
from assay.core.decision import EXIT_CODES
from assay.core.events import EventType
from assay.core.vocabulary import Outcome
from assay.ledger.home import Home

UNSHARED = ("unshare", "--user", "--map-root-user", "--net")
SMALL = ("--set", "search.max_runs=45", "--set", "deploy.looks=[1]", "--set", "preflight_repeats=1")
LEVEL = """
from assay.core.agent import AgentCommand
from assay.core.errors import ComponentMissing
from assay.runtime.agents.isolation import chosen
try:
    print(chosen(AgentCommand(command=("x",), network=False)).told)
except ComponentMissing:
    print("")
"""
REACHED = """
import socket
try:
    socket.create_connection(("192.0.2.1", 9), 2)
except OSError as error:
    print(error.errno)
"""


def _unshared() -> bool:
    """Whether a command can be run without a network here."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARED, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not _unshared(), reason="`unshare` can make no network namespace here"),
]


def alone(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a network."""
    return subprocess.run(
        [*UNSHARED, *command],
        cwd=ROOT,
        env={**os.environ, "ASSAY_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def evidence(home: Path) -> list[AgentRuns]:
    """The agent runs that the study left."""
    opened = Home(home)
    found = [e.data["evidence"] for e in opened.ledger.read() if e.type is EventType.STEP_FINISHED]
    documents: list[dict[str, Any]] = [dict(opened.store.get(d)) for d in found if d]
    opened.ledger.close()
    return [AgentRuns.from_json(d) for d in documents if d["kind"] == "agent_runs"]


def better_skill(folder: Path) -> Path:
    """The example's skill with the first lines of its pool."""
    skill = next((ROOT / "examples" / "evolve-skill" / "skill").glob("*/SKILL.md"))
    pool = [
        x for x in (ROOT / "examples" / "evolve-skill" / "pool.txt").read_text().splitlines() if x.strip()
    ]
    body = skill.read_text().split("---\n", 2)[2].strip("\n")
    (folder / "better.md").write_text("\n".join([body, *pool[:2]]), encoding="utf-8")
    return folder / "better.md"


@pytest.mark.parametrize("example", ["evolve-rules", "evolve-skill"])
def test_an_example_without_a_network(tmp_path: Path, example: str) -> None:
    """A search and a text that was handed in end in Decisions; what the agents were kept from is on record."""
    assert alone(tmp_path, sys.executable, "-c", REACHED).stdout.strip() == "101", (
        "the network is unreachable"
    )
    level = alone(tmp_path, sys.executable, "-c", LEVEL).stdout.strip()
    rules = ROOT / "examples" / "evolve-rules" / "rules" / "known-good.txt"
    given = rules if example == "evolve-rules" else better_skill(tmp_path)
    home = tmp_path / "home"
    command = (*ASSAY, "run", f"examples/{example}.yaml", "--json", "--no-report", "--force", "--anyway")
    done = alone(home, *command, *SMALL, "--set", f"candidates=[{given}]")
    assert "Traceback" not in done.stderr
    if not level:
        assert done.returncode == 6
        assert "the agent cannot be kept from the machine as asked" in done.stderr
        return
    study = json.loads(done.stdout)
    assert done.returncode == EXIT_CODES[Outcome(study["outcome"])], done.stderr[-2000:]
    judged, searched = study["trials"]
    words = {Outcome.ACCEPT, Outcome.NO_GAIN, Outcome.REGRESSION, Outcome.INCONCLUSIVE}
    assert {judged["outcome"], searched["outcome"]} <= words, done.stderr[-2000:]
    assert "deploy" in {g["gate"] for g in judged["gates"] if g["status"]}
    runs = evidence(home)
    assert len(runs) >= 2, "preflight and at least one confirmation"
    assert {r.isolation for r in runs} == {level}
    assert not [r for e in runs for r in e.runs if not r.learned], "no agent missed the network"
