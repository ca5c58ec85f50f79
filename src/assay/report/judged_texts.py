"""The two texts of a trial, out of the evidence, with the files that they stand in, out of what was built.

The baseline's own file may have changed since, above all when the candidate was applied. Its bytes are then put together
from the built copy, and used only if they have the digest that was judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.agent import BASELINE, CANDIDATE
from assay.core.artifact_text import TextArtifact, TextKind, changed
from assay.core.canon import digest_bytes
from assay.core.errors import AssayError
from assay.core.history import StudyHistory
from assay.ledger.evolve_records import EvolveRecord
from assay.readers.evolved import read_evolved
from assay.readers.texts import read_text

DELIVERY = "delivery"
"""Folder of a study's delivered files."""


@dataclass(frozen=True)
class TrialTexts:
    """What a trial changes, as text and as bytes. None = it cannot be told."""

    kind: str = ""
    file: str = ""
    """The file that changes, as it is seen from `root`."""
    root: str = ""
    """The project, where the file lies inside it; else the folder of the text."""
    inside: bool = False
    """Whether `root` is the project."""
    baseline: str | None = None
    candidate: str | None = None
    before: bytes | None = None
    """The whole file with the baseline."""
    after: bytes | None = None
    """The whole file with the candidate."""
    problem: str = ""
    """Why something is None."""

    @property
    def suffix(self) -> str:
        """Of the file, with its dot."""
        return Path(self.file).suffix or ".txt"

    @property
    def stem(self) -> str:
        """What copies of the file are called."""
        return self.kind if self.kind in {TextKind.SKILL.value, TextKind.TOOL.value} else "text"


def texts_of(home: Path, history: StudyHistory, record: EvolveRecord) -> TrialTexts:
    """The texts of one trial; never raises for what lies on the disk.

    Args:
        home: the `.assay` folder.
        history: the study.
        record: the trial.
    """
    problems: list[str] = []
    facts = record.evolution.facts if record.evolution else {}
    old, new = _artifact(facts.get(BASELINE)), _artifact(facts.get(CANDIDATE))
    folder = home / record.artifact if record.artifact else None
    if folder is None:
        problems.append("no candidate was built")
    elif new is None:
        new = _built(folder, problems)
    old = old or _source(history, home.parent)
    after = (
        _bytes(new, folder, "the built text", problems) if folder is not None and new is not None else None
    )
    before = _bytes(old, Path(old.path), "", []) if old is not None else None
    if before is None and old is not None and new is not None and after is not None:
        before = _again(old, new, after) or _kept(old, home / "studies" / history.study.id / DELIVERY)
    if before is None:
        problems.append("the file of the baseline is no longer the one that was judged")
    root, file = _place(home.parent, Path(history.study.source.path), old or new)
    held = old or new
    return TrialTexts(
        kind=held.kind.value if held else "",
        file=file,
        root=root,
        inside=root == str(home.parent),
        baseline=old.text if old else None,
        candidate=new.text if new else None,
        before=before,
        after=after,
        problem="; ".join(problems),
    )


def stored_texts(record: EvolveRecord) -> TrialTexts:
    """The texts alone, from the evidence: the same ledger always gives the same ones."""
    facts = record.evolution.facts if record.evolution else {}
    old, new = _artifact(facts.get(BASELINE)), _artifact(facts.get(CANDIDATE))
    why = "" if old and new else "it was not read back yet" if record.artifact else "no candidate was built"
    return TrialTexts(
        kind=old.kind.value if old else "",
        baseline=old.text if old else None,
        candidate=new.text if new else None,
        problem=why,
    )


def _artifact(value: Any) -> TextArtifact | None:
    try:
        return TextArtifact.from_json(value) if isinstance(value, Mapping) else None
    except ValueError:
        return None


def _built(folder: Path, problems: list[str]) -> TextArtifact | None:
    try:
        return read_evolved(folder).artifact
    except AssayError as error:
        problems.append(f"what was built: {error.what}")
        return None


def _source(history: StudyHistory, project: Path) -> TextArtifact | None:
    """The baseline where it lies, if it is still the one that the study opened with."""
    spec = history.study.spec.get("text")
    spec = spec if isinstance(spec, Mapping) else {}
    path = project / history.study.source.path
    try:
        kind = TextKind(spec["kind"]) if spec.get("kind") else None
        found = read_text(path, kind, str(spec.get("name") or ""))
    except (AssayError, ValueError):
        return None
    return found if history.study.source.digest in {found.digest, found.file_digest} else None


def _bytes(found: TextArtifact, place: Path, what: str, problems: list[str]) -> bytes | None:
    """The file of a text, if it still has the digest that was read.

    Args:
        found: the text.
        place: its own path, or the folder that it was built in.
        what: how it is called in a problem.
        problems: grows.
    """
    name = Path(found.path).name
    path = place if place.name == name else place / name
    try:
        data = (path / found.file if found.file and path.is_dir() else path).read_bytes()
    except OSError as error:
        problems.append(f"{what} cannot be read: {error.strerror or error}")
        return None
    if digest_bytes(data) == found.file_digest:
        return data
    problems.append(f"{what} changed since")
    return None


def _again(old: TextArtifact, new: TextArtifact, after: bytes) -> bytes | None:
    """The baseline's file, put together from the candidate's; None unless it is the one that was judged."""
    name = old.file or Path(old.path).name
    behind = next((f.size_bytes for f in old.files if f.path == name), old.end) - old.end
    tries = [after[: old.start] + old.text.encode("utf-8", "replace") + after[len(after) - behind :]]
    with contextlib.suppress(AssayError):  # a tool's text is written as JSON
        tries.append(changed(new, after, old.text)[0])
    return next((data for data in tries if digest_bytes(data) == old.file_digest), None)


def _kept(old: TextArtifact, folder: Path) -> bytes | None:
    """The baseline's file as it was delivered before."""
    for path in sorted(folder.glob("**/baseline_*")):
        with contextlib.suppress(OSError):
            if digest_bytes(data := path.read_bytes()) == old.file_digest:
                return data
    return None


def _place(project: Path, source: Path, found: TextArtifact | None) -> tuple[str, str]:
    """The folder that a patch is applied in, and the file as it is seen from there."""
    whole = project / source
    base = project if whole.is_relative_to(project) else whole.parent
    if found is not None and found.file and whole.name != found.file:
        whole /= found.file
    return str(base), whole.relative_to(base).as_posix()
