"""Build kind `recommendation`: writes down what a tuning study came to, with the machine that it was measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.ports import Component, Session
from assay.core.recommendation import Machine, sealed, whole_gib
from assay.core.tuning_record import TuningRecord
from assay.runtime.files import write_json
from assay.runtime.memory import detect_memory

DOCUMENT = "recommendation.json"
RECORD = "tuning.json"


class Options(Noun):
    """Options of `build: {kind: recommendation}`. The proposer fills them in."""

    record: TuningRecord
    """Everything but the machine and what follows from it."""


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
            place = f"{machine.chip}, {machine.ram_gb} GiB"
            basis = basis.model_copy(
                update={"machine": place, "os": machine.os_version, "driver": machine.driver}
            )
        ended = datetime.now(UTC).isoformat()
        told = sealed(
            found.model_copy(
                update={
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


def candidate_study(run_id: str, session: Session) -> str:
    """The study's id; one that ends before its first launch is known by its folder."""
    return run_id or Path(session.workdir).parent.parent.name


def describe_machine(binary_version: str) -> Machine:
    """What this machine is, as far as it tells."""
    memory = detect_memory()
    own = [d for d in memory.devices if not d.unified and d.total_bytes]
    total = own[0].total_bytes if own else memory.total_bytes
    return Machine(
        ram_gb=whole_gib(total or 0),
        chip=own[0].name if own else chip(),
        os_version=platform.platform(),
        binary_version=binary_version,
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


def chip() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()
