"""Build kind `recommendation`: the documents, with the machine and a command that anybody may copy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from assay import registry
from assay.core.candidate import Candidate
from assay.core.recommendation import Choice, Inputs, Machine, Recommendation, Standing
from assay.core.study import AdapterRef
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import Verb
from assay.runtime.files import read_json
from assay.testing.session import make_session

STARTED = "python llama_launcher.py -m m.gguf --port 8080"


CHOICE = Choice(
    model="7b", path="models/7b.gguf", target_context=512, name="7b slots=2", serve_command=STARTED
)


def built(tmp_path: Path, serves: dict[str, Any], choice: Choice = CHOICE, **more: Any) -> dict[str, Any]:
    """The recommendation as it was written down."""
    record = TuningRecord(
        recommendation=Recommendation(
            run_id="tune-1", started_at="2026-01-01T00:00:00Z", machine=Machine(ram_gb=0, chip=""),
            inputs=Inputs(target_context=512, candidate_models=("7b",)), recommendation=choice,
            standing=Standing.RESOLVED, **more,
        )
    )  # fmt: skip
    options = {"record": record.to_json(), "serves": serves}
    ref = AdapterRef(kind="recommendation", options=options)
    candidate = Candidate(name="recommendation", parent="sha256:m", build=ref)
    out = tmp_path / "out"
    registry.adapter(Verb.BUILD, ref).build(candidate, tmp_path, out, make_session(tmp_path))
    found = read_json(out / "recommendation.json")
    assert read_json(out / "tuning.json")["recommendation"] == found
    return dict(found)


def test_the_command_is_the_engines_own(tmp_path: Path) -> None:
    """Not our launcher with paths of this machine, but the engine's program with what was measured, all of it."""
    options = {
        "slots": 2,
        "context_tokens": 512,
        "threads": 0,
        "kv_type": "q8_0",
        "python": "/venv/bin/python",
    }
    found = built(tmp_path, {"7b slots=2": {"kind": "llama_cpp", "options": options}})
    command = found["recommendation"]["serve_command"]
    assert command.startswith("GOMP_SPINCOUNT=1000 llama-server -m models/7b.gguf")
    assert "/venv" not in command
    words = command.split()
    pairs = dict(itertools.pairwise(words))
    assert (pairs["-c"], pairs["-np"], pairs["-ctk"], pairs["-cram"]) == ("1024", "2", "q8_0", "0")
    assert int(pairs["-t"]) == found["machine"]["cpus"]


def test_a_command_of_ones_own_stays(tmp_path: Path) -> None:
    """Assay knows no flags of a server that a person started his own way."""
    serve = {"kind": "command", "options": {"command": ["mine", "--port", "{port}"]}}
    assert built(tmp_path, {"7b slots=2": serve})["recommendation"]["serve_command"] == STARTED
    assert built(tmp_path / "no", {})["recommendation"]["serve_command"] == STARTED


def test_the_machine_is_told(tmp_path: Path) -> None:
    """Memory, processors and the hash that follows from them."""
    found = built(tmp_path, {})
    assert found["machine"]["ram_gb"] > 0
    assert found["machine"]["cpus"] >= 1
    assert found["recipe_hash"].startswith("sha256:")
    assert found["ended_at"]


def test_of_a_checkpoint_folder_the_file_that_was_served_is_named(tmp_path: Path) -> None:
    """llama.cpp reads no folder: command and path name the GGUF that was written of it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    file = tmp_path / "gguf" / "model.gguf"
    choice = Choice(
        model="7b", path=str(folder), target_context=512, name="7b", engine="llama_cpp",
        serve_command=f"python llama_launcher.py -m {file} --port 8080",
    )  # fmt: skip
    found = built(tmp_path, {"7b": {"kind": "llama_cpp", "options": {}}}, choice=choice)["recommendation"]
    assert f"llama-server -m {file} " in found["serve_command"]
    assert found["path"] == str(file)
