"""What `build: search` and `build: text` leave: the artifact with its new text, and how the text was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.base import Noun
from assay.core.canon import digest_bytes
from assay.core.errors import UnreadableInput
from assay.core.evolution import Evolution
from assay.readers.texts import read_text
from assay.readers.texts.source import FILE_LIMIT_BYTES

RECORD = "evolution.json"
SCHEMA = "evolved/1"
LIMIT_BYTES = 4 * FILE_LIMIT_BYTES


class Evolved(Noun):
    """A built candidate text."""

    artifact: TextArtifact
    """As it lies there now, read from its bytes."""
    evolution: Evolution
    texts: Mapping[str, str] = {}
    """Digest → text, of the texts that the record keeps."""
    written: str
    """Digest of the artifact as it was written with the picked text."""

    @property
    def matches(self) -> bool:
        """Whether what lies there is what was written."""
        return self.artifact.digest == self.written


class _Place(Noun):
    path: str
    kind: TextKind
    name: str = ""
    digest: str


def read_evolved(folder: Path) -> Evolved:
    """What was built there.

    Args:
        folder: holds the file or folder with the text, and `evolution.json`.

    Raises:
        UnreadableInput: if either is missing or broken.
    """
    path = folder / RECORD
    value = _document(path)
    if value.get("schema") != SCHEMA:
        raise UnreadableInput(
            f"schema {str(value.get('schema'))[:40]!r}",
            where=str(path),
            allowed=SCHEMA,
            next="build it again",
        )
    try:
        place = _Place.model_validate(value.get("artifact"))
        evolution = Evolution.model_validate(value.get("evolution"))
    except (ValidationError, RecursionError) as error:
        raise UnreadableInput(f"no record of a search: {_first(error)}", where=str(path)) from error
    if "/" in place.path or "\\" in place.path or "\0" in place.path or place.path in {"", ".", "..", RECORD}:
        raise UnreadableInput(f"the artifact's name is {place.path[:60]!r}", where=str(path))
    if not any(n.number == evolution.picked for n in evolution.nodes):
        raise UnreadableInput(
            f"the text {evolution.picked} that was picked is not among the nodes", where=str(path)
        )
    name = "" if place.kind in {TextKind.SKILL, TextKind.PLAIN} else place.name
    texts = value.get("texts")
    return Evolved(
        artifact=read_text(folder / place.path, place.kind, name),
        evolution=evolution,
        texts=_texts(texts if isinstance(texts, dict) else {}, path),
        written=place.digest,
    )


def _texts(found: Mapping[str, Any], path: Path) -> dict[str, str]:
    for key, text in found.items():
        if not isinstance(text, str) or digest_bytes(text.encode("utf-8", "surrogatepass")) != key:
            raise UnreadableInput(f"the text {key[:24]!r} does not have that digest", where=str(path))
    return dict(found)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as handle:
            data = handle.read(LIMIT_BYTES + 1)
        if len(data) > LIMIT_BYTES:
            raise UnreadableInput(f"larger than {LIMIT_BYTES >> 20} MiB", where=str(path))
        value = json.loads(data)
    except OSError as error:
        raise UnreadableInput(f"cannot read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"not JSON: {error}"[:300], where=str(path)) from error
    if not isinstance(value, dict):
        raise UnreadableInput(f"an object is needed, this is {type(value).__name__}", where=str(path))
    return value


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"[:300]
