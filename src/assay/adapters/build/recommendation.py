"""Build kind `recommendation`: writes down what a tuning study came to, with the machine that it was measured on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.ports import Component, Session
from assay.core.recommendation import Choice, sealed
from assay.core.study import AdapterRef
from assay.core.tuning_record import TuningRecord
from assay.runtime.engine_flags import copied_command
from assay.runtime.files import write_json
from assay.runtime.machine import cpus, describe_machine, place

DOCUMENT = "recommendation.json"
RECORD = "tuning.json"
_AS_STARTED: Mapping[str, Mapping[str, Any]] = {"llama_cpp": {"cache_ram_mib": 0}}
"""Serve kind → what Assay starts it with beside the options: without it, it would not be what was measured."""


class Options(Noun):
    """Options of `build: {kind: recommendation}`. The proposer fills them in."""

    record: TuningRecord
    """Everything but the machine and what follows from it."""
    serves: Mapping[str, AdapterRef] = Field(default_factory=dict)
    """Name of a choice → how it is served: what its command line is made of."""


class Adapter:
    """Writes `recommendation.json` and the whole record beside it."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """It needs nothing beside Assay."""
        return Component(verb="build", kind="recommendation", state="ready")

    def intent(self) -> Mapping[str, Any]:
        """It promises nothing about a checkpoint."""
        return {}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Write the documents.

        Raises:
            UsageError, ComponentFailed: if they cannot be written.
        """
        given = self.options.record
        found = given.recommendation
        machine = describe_machine(found.basis.engine_build if found.basis else "")
        basis = found.basis
        if basis is not None:
            here = {"machine": place(machine), "os": machine.os_version, "driver": machine.driver}
            basis = basis.model_copy(update=here)
        ended = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        serves = self.options.serves
        told = sealed(
            found.model_copy(
                update={
                    "recommendation": _commanded(found.recommendation, serves),
                    "best_estimate": _commanded(found.best_estimate, serves),
                    "sequential_band": _commanded(found.sequential_band, serves),
                    "run_id": candidate_study(found.run_id, session),
                    "machine": machine,
                    "basis": basis,
                    "ended_at": ended,
                }
            )
        )
        out.mkdir(parents=True)
        write_json(out / DOCUMENT, told.to_json())
        write_json(out / RECORD, given.model_copy(update={"recommendation": told}).to_json())
        return {"recipe_hash": told.recipe_hash, "fingerprint": told.fingerprint}


def _commanded(choice: Choice | None, serves: Mapping[str, AdapterRef]) -> Choice | None:
    """The choice with the engine's own command; one without a known engine keeps the command that started it."""
    if choice is None or choice.name not in serves:
        return choice
    serve = serves[choice.name]
    options = {**_AS_STARTED.get(serve.kind, {}), **serve.options}
    if options.get("threads") == 0:
        options["threads"] = cpus()
    path = _served(choice)
    made = copied_command(serve.kind, path, options, choice.serve_command)
    return choice.model_copy(update={"serve_command": made, "path": path})


def _served(choice: Choice) -> str:
    """What the engine was given: of a checkpoint folder, llama.cpp serves the GGUF that was written of it."""
    words = shlex.split(choice.serve_command)
    if choice.engine != "llama_cpp" or "-m" not in words or not Path(choice.path).is_dir():
        return choice.path
    return words[words.index("-m") + 1]


def candidate_study(run_id: str, session: Session) -> str:
    """The study's id; one that ends before its first launch is known by its folder."""
    return run_id or Path(session.workdir).parent.parent.name
