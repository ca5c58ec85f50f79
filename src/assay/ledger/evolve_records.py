"""What a study of texts left behind, read back by what it is: its agent runs, its searches, its verdicts.

Reading is tolerant: a document that is gone or damaged is named and never ends what is shown of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.agent import AgentRuns
from assay.core.errors import AssayError
from assay.core.evidence import Evidence
from assay.core.evolution import Evolution
from assay.core.history import StudyHistory
from assay.core.kinds import evidence_from_json
from assay.core.ports import Store
from assay.core.trial import Trial
from assay.core.verdict import Verdict

JOB = "evolve"
DEPLOY = "deploy"
"""The gate that decides."""
PREFLIGHT = "preflight"
SOURCE_RUNS = "source.runs"
RUNS = "candidate.runs"


@dataclass(frozen=True)
class Look:
    """One look of the deploy gate at the runs so far."""

    step: str
    verdict: Verdict


@dataclass(frozen=True)
class EvolveRecord:
    """One trial of a study of texts, as far as it went."""

    trial: Trial
    preflight: AgentRuns | None = None
    """Runs of the text as it stands, before anything else."""
    runs: AgentRuns | None = None
    """Runs of the confirmation, all looks together."""
    evolution: Evolution | None = None
    """How the candidate was found."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Gate → its last verdict."""
    looks: tuple[Look, ...] = ()
    """All verdicts of the deploy gate, in the order in which they were given."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Digest → why that document cannot be shown."""

    @property
    def deploy(self) -> Verdict | None:
        """The last word of the gate that decides."""
        return self.looks[-1].verdict if self.looks else None

    @property
    def artifact(self) -> str:
        """Folder of what was built, as it is recorded; empty if nothing was."""
        found = next((r.artifact for r in self.trial.steps.values() if r.artifact), None)
        return found.path if found else ""

    @property
    def found(self) -> bool:
        """Whether there is a candidate: a search may end with nothing better than the baseline."""
        return bool(self.artifact) and (self.evolution is None or self.evolution.picked != 0)


def of_study(history: StudyHistory, store: Store) -> tuple[EvolveRecord, ...]:
    """All trials of a study in their order."""
    return tuple(of_trial(trial, store) for trial in history.trials.values())


def of_trial(trial: Trial, store: Store) -> EvolveRecord:
    """One trial with its documents."""
    problems: dict[str, str] = {}
    preflight = runs = evolution = None
    for step in trial.steps.values():
        found = _evidence(step.evidence, store, problems)
        if isinstance(found, Evolution):
            evolution = found
        elif isinstance(found, AgentRuns):
            if step.role == RUNS:
                runs = found if runs is None or len(found.runs) >= len(runs.runs) else runs
            else:
                preflight = found
    last = {name: _verdict(line.verdict, store, problems) for name, line in trial.gates.items()}
    lines = [*(line for line in trial.looks if line.gate == DEPLOY)]
    lines += [line for name, line in trial.gates.items() if name == DEPLOY]
    looks = [(line.step, _verdict(line.verdict, store, problems)) for line in lines]
    return EvolveRecord(
        trial=trial,
        preflight=preflight,
        runs=runs,
        evolution=evolution,
        verdicts={name: verdict for name, verdict in last.items() if verdict is not None},
        looks=tuple(Look(step, verdict) for step, verdict in looks if verdict is not None),
        problems=problems,
    )


def _evidence(digest: str | None, store: Store, problems: dict[str, str]) -> Evidence | None:
    if not digest:
        return None
    try:
        return evidence_from_json(store.get(digest))
    except (AssayError, OSError, ValueError, LookupError) as error:
        problems[digest] = _line(error)
    return None


def _verdict(digest: str, store: Store, problems: dict[str, str]) -> Verdict | None:
    if not digest:
        return None
    try:
        return Verdict.from_json(store.get(digest))
    except (AssayError, OSError, ValueError, LookupError) as error:
        problems[digest] = _line(error)
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
