"""Apply kind `directory`: publish an accepted checkpoint into a release folder, with the proof beside it.

The folder appears whole, by a rename, and holds `assay-manifest.json`: the digest of every file and the Decision.
Undo removes the folder if it still is what was published, and refuses if somebody changed it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from assay.core.base import Noun, SpecPath
from assay.core.decision import Decision
from assay.core.errors import UsageError
from assay.runtime.files import artifact as pinned
from assay.runtime.files import copy_tree, digest_file, files_of, read_json, remove, write_json

MANIFEST = "assay-manifest.json"


class Options(Noun):
    """Options of `apply: {kind: directory}`."""

    path: SpecPath
    """The release folder that is made. It must not exist, or be what this study published before."""
    mode: Literal["copy", "link"] = "copy"
    """`link` makes hard links: no second copy on disk, but a later change of the artifact changes both."""


class Adapter:
    """Publishes to a folder."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """What will be made, and from which bytes.

        Raises:
            UsageError: if the folder exists, or the artifact is no longer what was judged.
        """
        target = Path(self.options.path)
        judged = decision.facts["artifact"]["digest"]
        found = pinned(artifact).digest
        if found != judged:
            raise UsageError(f"the artifact changed since it was judged ({found})", where=str(artifact))
        if target.exists() or target.is_symlink():
            raise UsageError(
                "the release folder exists already",
                where=str(target),
                next="`assay undo` the earlier release, or name another `apply.path`",
            )
        return {
            "kind": "directory",
            "path": str(target),
            "artifact": judged,
            "changes": [f"creates {target}"],
        }

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Publish; doing it again after it succeeded changes nothing.

        Raises:
            UsageError: if something else has appeared at the target.
        """
        target = Path(token["path"])
        if target.exists():
            self._require_ours(target, token)
            return
        aside = target.with_name(f".{target.name}.assay-part")
        remove(aside)
        if self.options.mode == "copy":
            copy_tree(artifact, aside)
        else:
            _link_tree(artifact, aside)
        folder = aside if aside.is_dir() else _as_folder(aside, artifact.name)
        write_json(folder / MANIFEST, _manifest(folder, decision, token))
        folder.replace(target)

    def undo(self, token: Mapping[str, Any]) -> None:
        """Remove what was published; a folder that is gone already is fine.

        Raises:
            UsageError: if the folder is not what was published any more.
        """
        target = Path(token["path"])
        if not target.exists():
            return
        self._require_ours(target, token)
        remove(target)

    def _require_ours(self, target: Path, token: Mapping[str, Any]) -> None:
        manifest = read_json(target / MANIFEST) if (target / MANIFEST).is_file() else {}
        if manifest.get("artifact") != token["artifact"]:
            raise UsageError("not what was published here: left alone", where=str(target))
        changed = [n for n, d in manifest["files"].items() if not _has(target / n, d)]
        extra = {str(f.relative_to(target.resolve())) for f in files_of(target)} - {
            *manifest["files"],
            MANIFEST,
        }
        if changed or extra:
            names = ", ".join(sorted([*changed, *extra])[:3])
            raise UsageError(f"changed since it was published ({names}): left alone", where=str(target))


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and digest_file(path) == digest


def _manifest(folder: Path, decision: Decision, token: Mapping[str, Any]) -> dict[str, Any]:
    root = folder.resolve()
    return {
        "schema": "manifest/1",
        "artifact": token["artifact"],
        "files": {str(f.relative_to(root)): digest_file(f) for f in files_of(folder)},
        "decision": decision.to_json(),
    }


def _as_folder(file: Path, name: str) -> Path:
    """A release is a folder also where the artifact is one file."""
    folder = file.with_name(file.name + ".d")
    remove(folder)
    folder.mkdir()
    file.replace(folder / name)
    return folder


def _link_tree(source: Path, target: Path) -> None:
    if source.is_file():
        os.link(source, target)
        return
    root = source.resolve()
    for file in files_of(source):
        link = target / file.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, link)
