"""Writes what a search, or a person, made of a text: the whole artifact with it, and the record of how it was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from assay.core.artifact_text import TextArtifact
from assay.core.errors import UsageError
from assay.core.evolution import Evolution
from assay.runtime.files import explaining, remove, sync_dir, write_json
from assay.runtime.staging import StagedSource

RECORD = "evolution.json"
SCHEMA = "evolved/1"


def write_evolved(
    out: Path, artifact: TextArtifact, text: str, evolution: Evolution, texts: Mapping[str, str]
) -> Path:
    """Write an artifact and its record; they appear at `out` whole or not at all.

    Args:
        out: where; what an attempt before left there is replaced.
        artifact: the baseline as it was read.
        text: what takes the place of its text.
        evolution: how it was found.
        texts: digest → text of the texts that the record names.

    Returns:
        The copy of the file or folder.

    Raises:
        UsageError: if the baseline is no longer what was read, or has the record's own name.
        UnreadableInput: if it cannot be read.
        ComponentFailed: if the disk is full.
    """
    source = StagedSource(artifact)
    if source.name == RECORD:
        raise UsageError(f"a text's file cannot be named {RECORD}", where=artifact.path)
    aside = out.with_name(f".{out.name}.aside")
    remove(aside)
    remove(out)
    with explaining(aside):
        aside.mkdir(parents=True)
    source.lay(text, aside)
    place = {
        "path": source.name,
        "kind": artifact.kind.value,
        "name": artifact.name,
        "digest": source.digest(text),
    }
    record = {"schema": SCHEMA, "artifact": place, "evolution": evolution.to_json(), "texts": dict(texts)}
    write_json(aside / RECORD, record)
    with explaining(out):
        aside.replace(out)
    sync_dir(out.parent)
    return out / source.name
