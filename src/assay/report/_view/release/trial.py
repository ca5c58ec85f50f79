"""The subjects of the page: each trial with the documents that are shown of it, and the source beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from assay.core.candidate import Candidate
from assay.core.checkpoint import Checkpoint
from assay.core.decision import Decision
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.core.verdict import Estimate, Verdict
from assay.report._view.documents import Documents
from assay.report._view.gates import MACRO, lines
from assay.report._view.marks import Mark, decision_mark
from assay.report._view.text import one_line


@dataclass(frozen=True)
class Subject:
    """One trial, with what is held of it."""

    trial: Trial
    mark: Mark
    compare: Verdict | None
    checkpoint: Checkpoint | None
    source: Checkpoint | None
    artifact: Artifact | None

    @property
    def name(self) -> str:
        """What people call the candidate."""
        return self.trial.candidate.name

    @property
    def anchor(self) -> str:
        """Where its section is."""
        return f"candidate-{self.trial.number}"

    @property
    def bytes(self) -> int | None:
        """Bytes of the weights; of all files where the weights were not looked at."""
        if self.checkpoint is not None:
            return self.checkpoint.weight_bytes
        return self.artifact.size_bytes if self.artifact else None

    @property
    def decision(self) -> Decision | None:
        """The Decision that stands."""
        decision = self.trial.decision
        return None if decision is None or decision.interrupted else decision

    @property
    def macro(self) -> Estimate | None:
        """The estimate of the mean over tasks."""
        return next((e for e in self.compare.estimates if e.task == MACRO), None) if self.compare else None

    @property
    def reason(self) -> str:
        """Why it ended as it did, or that it did not end."""
        decision = self.trial.decision
        return decision.sentence.removeprefix("compare: ") if decision else "this trial has no Decision yet"


def subject_of(trial: Trial, history: StudyHistory, documents: Documents) -> Subject:
    """A trial with its documents."""
    known = {line.gate: documents.verdict(line.verdict) for line in lines(trial, history.study)}
    digests = {r.evidence for r in trial.steps.values() if r.evidence}
    for verdict in known.values():
        digests |= set(verdict.reads.values()) if verdict else set()
    roles = {r.evidence: r.role for r in (*history.shared.values(), *trial.steps.values())}
    checkpoint = source = None
    for digest in sorted(digests):
        evidence = documents.evidence(digest)
        if not isinstance(evidence, Checkpoint):
            continue
        if roles.get(digest) == "source.checkpoint" or evidence.subject == "source":
            source = evidence
        else:
            checkpoint = evidence
    return Subject(
        trial=trial,
        mark=decision_mark(trial.decision),
        compare=known.get("compare"),
        checkpoint=checkpoint,
        source=source,
        artifact=next((r.artifact for r in trial.steps.values() if r.artifact), None),
    )


@dataclass(frozen=True)
class Cast:
    """All subjects of a study, and what they are drawn against."""

    history: StudyHistory
    subjects: tuple[Subject, ...]
    source: Checkpoint | None
    styles: Mapping[str, str]
    """Precision → CSS class, the same on the whole page."""

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's weights; of its files where the weights were not looked at."""
        return self.source.weight_bytes if self.source else self.history.study.source.size_bytes

    @property
    def grows(self) -> bool:
        """Whether the candidates grow out of each other, as those of trainings do."""
        return self.history.study.stopping is not None

    @property
    def planned(self) -> Sequence[Candidate]:
        """The candidates that the proposer holds, where it is a ladder."""
        listed = self.history.study.proposer.options.get("candidates")
        found = []
        for value in listed if isinstance(listed, list | tuple) else ():
            try:
                found.append(Candidate.from_json(value))
            except ValidationError:
                continue
        return found

    def target(self, subject: Subject) -> str:
        """Where an accepted candidate was put; empty if nothing was changed."""
        token = self.history.applied.get(subject.trial.id)
        if not token or not token.get("changes"):
            return ""
        path = token.get("path")
        return one_line(path) if isinstance(path, str) else "its target"
