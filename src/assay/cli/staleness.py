"""Is a recommendation still about what is here: the same machine, driver, engine build and model files?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from assay import registry
from assay.core.errors import AssayError
from assay.core.history import StudyHistory
from assay.core.recommendation import Basis, Change, changes
from assay.core.tuning_record import TuningRecord
from assay.core.vocabulary import Verb
from assay.flows.tune import TuneSpec
from assay.runtime.files import artifact
from assay.runtime.machine import describe_machine, place
from assay.tuning.record import RULE


def stale(history: StudyHistory, record: TuningRecord | None) -> tuple[Change, ...]:
    """What is not as it was when a study measured; empty where nothing changed, or nothing was recommended."""
    then = record.recommendation.basis if record is not None else None
    if record is None or then is None or not then.machine:  # a study without an end has not told its machine
        return ()
    return changes(then, _now(history, then, record))


def _now(history: StudyHistory, then: Basis, record: TuningRecord) -> Basis:
    """The basis as it would be told today. What only the study decides stays."""
    spec = TuneSpec.from_json(history.study.spec)
    machine = describe_machine("")
    chosen = record.recommendation.recommendation
    paths = [m.path for m in spec.models if chosen is not None and m.name == chosen.model]
    return then.model_copy(
        update={
            "engine_build": _build(spec),
            "driver": machine.driver,
            "os": machine.os_version,
            "machine": place(machine),
            "weights": _weights(Path(paths[0]), history, then.weights) if paths else "",
            "rule": RULE,
        }
    )


def _build(spec: TuneSpec) -> str:
    """The engine's build by its own word; empty if it is gone."""
    try:
        return str(registry.adapter(Verb.SERVE, spec.engine).protocol().get("engine_version", ""))
    except AssayError:
        return ""


def _weights(path: Path, history: StudyHistory, then: str) -> str:
    """The digest of the model. Files that nobody touched since the study opened are not read again: they are large."""
    if not path.exists():
        return ""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    opened = datetime.fromisoformat(history.events[0].at).timestamp()
    sizes = {m.path: m.size_bytes for m in history.study.models}
    try:
        # the time of change, which a copy that keeps the time of modification cannot set
        touched = any(p.stat().st_ctime >= opened for p in files)
        same_size = sum(p.stat().st_size for p in files) == sizes.get(str(path))
        return then if same_size and not touched else artifact(path).digest
    except (AssayError, OSError):
        return ""
