"""Apply kind `config_file`: write a recommendation into the configuration file of a serving engine.

Only the named keys change; comments, order and all other bytes stay. The token tells what will stand there before
anything is touched, the bytes from before lie in a backup, and undo brings exactly them back.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from assay.core.base import Noun, SpecPath
from assay.core.canon import digest_bytes
from assay.core.decision import Decision
from assay.core.errors import ComponentFailed, ComponentMissing, UnreadableInput, UsageError
from assay.core.recommendation import Recommendation
from assay.core.vocabulary import FailureClass
from assay.runtime import config_text, owned_file
from assay.runtime.files import artifact as pinned
from assay.runtime.files import read_json

DOCUMENT = "recommendation.json"
PLACE = "{path}"
SOURCE_KEYS: Mapping[str, str] = {
    "model": "path",
    "kv_bits": "knobs.kv_bits",
    "max_context_override": "knobs.max_context_override",
    "max_concurrency_override": "knobs.max_concurrency_override",
}
"""The four keys that the source owns in its server's file."""
Force = Literal["symlink", "hardlink", "foreign_owner", "world_writable", "unresolved", "changed"]


class Options(Noun):
    """Options of `apply: {kind: config_file}`."""

    path: SpecPath
    """The configuration file."""
    format: config_text.Format | None = None
    """yaml, toml, json or env; null = by the file's name."""
    keys: Mapping[str, str] = Field(default_factory=lambda: dict(SOURCE_KEYS))
    """Key in the file (`a.b` leads into a mapping) → field of the recommendation: `path` (of the model; its name where
    it has none), `model` (its name), `engine`, `target_context`, `settings.NAME`, `knobs.NAME`. A field that is null
    removes its key."""
    check: tuple[str, ...] = ()
    """A command that ends with 0 if the engine understands the file; `{path}` stands for it. It is asked about the
    new file before that takes the old one's place, and again after."""
    check_timeout_s: float = Field(default=60.0, gt=0)
    create: bool = False
    """Make the file if it is not there."""
    expects: str | None = None
    """Digest of the file as it was when the study opened: what the baseline was read from. null = not asked."""
    force: tuple[Force, ...] = ()
    """Do it although: the file is a `symlink` or `hardlink`, has a `foreign_owner`, is `world_writable`, the
    result is `unresolved`, or the file `changed` since the study opened."""


class Adapter:
    """Writes into a configuration file."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """What will be changed, and from which bytes.

        Raises:
            UsageError: if the result is not settled, the target is dangerous or not what was judged, or a key
                cannot be set; what `force` names is let through.
            UnreadableInput: if the file or the recommendation cannot be read.
        """
        chosen, forced = self.options, self.options.force
        path = owned_file.real_path(Path(chosen.path), forced)
        format_ = chosen.format or config_text.format_of(path)
        values = self._values(_recommendation(artifact, decision, forced))
        with owned_file.locked(path.parent) as directory:
            stood = owned_file.look(directory, path, forced)
        if stood is None and not chosen.create:
            raise UsageError(
                "no such file", where=str(path), next="name an existing one, or set apply.create"
            )
        before = stood.data if stood else b""
        if chosen.expects not in (None, digest_bytes(before)) and "changed" not in forced:
            raise UsageError(
                "the file changed since the study opened, so it is not what was judged",
                where=str(path),
                next="run the study again, or `assay apply --force changed --reason TEXT`",
            )
        edits = {config_key(name, before, format_, str(path)): value for name, value in values.items()}
        after = config_text.edited(before, format_, edits, str(path))
        return {
            "kind": "config_file",
            "path": str(path),
            "format": format_,
            "before": stood.digest if stood else None,
            "after": digest_bytes(after),
            "mode": stood.mode if stood else owned_file.SECRET_MODE,
            "backup": f"{path.name}.bak-{int(time.time())}",
            "edits": [[list(key), value] for key, value in edits.items()],
            "forced": list(forced),
            "changes": _told(path, before, format_, edits),
        }

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Change the file; doing it again after it succeeded changes nothing.

        Raises:
            UsageError: if the file is not what the token names any more, or became dangerous.
            ComponentFailed: if the engine's own parser refuses the new file; the old one stands.
        """
        path = Path(token["path"])
        with owned_file.locked(path.parent) as directory:
            owned_file.sweep(directory, path)
            stood = owned_file.look(directory, path, token["forced"])
            found = stood.digest if stood else None
            if found == token["after"]:
                return
            if found != token["before"]:
                raise _moved(path, "planned")
            data = self._made(stood.data if stood else b"", token)
            if stood is not None:
                owned_file.back_up(directory, path, stood, token["backup"])
            with owned_file.aside(directory, path, data, stood) as part:
                self._check(part)
                owned_file.put(directory, part, path)
            try:
                self._reread(directory, path, token)
                self._check(path)
            except BaseException:
                _restore(directory, path, stood)
                raise

    def undo(self, token: Mapping[str, Any]) -> None:
        """Bring back the very bytes from before; a file that holds them already is fine.

        Raises:
            UsageError: if the file was changed since, or its backup is gone.
        """
        path = Path(token["path"])
        with owned_file.locked(path.parent) as directory:
            owned_file.sweep(directory, path)
            stood = owned_file.look(directory, path, token["forced"])
            found = stood.digest if stood else None
            if found not in (token["before"], token["after"]):
                raise _moved(path, "applied")
            if token["before"] is None:
                owned_file.drop(directory, path)
                return
            backup = owned_file.backup_of(directory, path, token["before"], token["backup"])
            if found != token["before"]:
                if backup is None:
                    raise UsageError(
                        "the backup is gone, so the bytes from before cannot be brought back",
                        where=str(path),
                        allowed=f"{token['backup']}-N with digest {token['before']}",
                    )
                self._bring_back(directory, path, backup, token)
            if backup is not None and backup.name.startswith(f"{token['backup']}-"):
                owned_file.drop(directory, backup)

    def _bring_back(self, directory: int, path: Path, backup: Path, token: Mapping[str, Any]) -> None:
        kept = owned_file.look(directory, backup, token["forced"])
        stood = owned_file.look(directory, path, token["forced"])
        if kept is None or stood is None or kept.digest != token["before"]:
            raise _moved(path, "applied")
        like = owned_file.Stood(kept.data, token["mode"], stood.uid, stood.gid)
        with owned_file.aside(directory, path, kept.data, like) as part:
            owned_file.put(directory, part, path)

    def _values(self, found: Recommendation) -> dict[str, config_text.Scalar]:
        choice = found.recommendation
        assert choice is not None
        tree = {**choice.to_json(), "path": choice.path or choice.model}
        return {name: _field(tree, field) for name, field in self.options.keys.items()}

    def _made(self, before: bytes, token: Mapping[str, Any]) -> bytes:
        edits = {tuple(key): value for key, value in token["edits"]}
        data = config_text.edited(before, token["format"], edits, token["path"])
        if digest_bytes(data) != token["after"]:
            raise UsageError(
                "this version of Assay would write other bytes than were planned",
                where=token["path"],
                next="apply again with the version that planned it",
            )
        return data

    def _reread(self, directory: int, path: Path, token: Mapping[str, Any]) -> None:
        stood = owned_file.look(directory, path, token["forced"])
        if stood is None or stood.digest != token["after"]:
            raise _moved(path, "written")
        config_text.parsed(stood.data, token["format"], str(path))

    def _check(self, path: Path) -> None:
        if not self.options.check:
            return
        command = [word.replace(PLACE, str(path)) for word in self.options.check]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=self.options.check_timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise ComponentMissing("no such program", where=command[0], next="correct apply.check") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise _refused(str(error), path) from error
        if done.returncode != 0:
            last = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _refused(f"exit {done.returncode}: {' '.join(last)[:300]}", path)


def config_key(name: str, data: bytes, format_: config_text.Format, where: str) -> config_text.Key:
    """A key by its name in the spec: a name that stands in the file as it is wins over a way through mappings."""
    if format_ == "env" or name in config_text.parsed(data, format_, where):
        return (name,)
    return tuple(name.split("."))


def _recommendation(artifact: Path, decision: Decision, forced: tuple[Force, ...]) -> Recommendation:
    document = decision.facts.get("recommendation")
    if document is None:
        file = artifact / DOCUMENT if artifact.is_dir() else artifact
        judged = decision.facts["artifact"]["digest"]
        if pinned(artifact).digest != judged:
            raise UsageError("the recommendation changed since it was judged", where=str(file))
        document = read_json(file)
    try:
        found = Recommendation.from_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise UnreadableInput(
            f"no recommendation/1: {'.'.join(map(str, first['loc']))}: {first['msg']}", where=str(artifact)
        ) from error
    if found.recommendation is None:
        raise UsageError("nothing was recommended, so there is nothing to write", next="`assay report`")
    if not found.settled and "unresolved" not in forced:
        raise UsageError(
            f"the result is {'partial' if found.recommendation.partial else 'not resolved'}",
            next="run the study again with a larger budget, or `assay apply --force unresolved --reason TEXT`",
        )
    return found


def _field(tree: Mapping[str, Any], name: str) -> config_text.Scalar:
    place: Any = tree
    for part in name.split("."):
        if not isinstance(place, Mapping) or part not in place:
            names = ", ".join(
                [*(k for k in ("path", "model", "engine", "target_context") if k in tree), *_names(tree)]
            )
            raise UsageError(f"the recommendation has no field {name!r}", where="apply.keys", allowed=names)
        place = place[part]
    if place is not None and not isinstance(place, bool | int | float | str):
        raise UsageError(f"{name!r} is a {type(place).__name__}, not one value", where="apply.keys")
    return place


def _names(tree: Mapping[str, Any]) -> list[str]:
    return [f"{group}.{name}" for group in ("settings", "knobs") for name in tree.get(group) or {}]


def _told(
    path: Path,
    before: bytes,
    format_: config_text.Format,
    edits: Mapping[config_text.Key, config_text.Scalar],
) -> list[str]:
    tree = config_text.parsed(before, format_, str(path))
    lines = []
    for key, value in edits.items():
        old = config_text.value_at(tree, key)
        if _shown(old) != _shown(value) or (format_ != "env" and type(old) is not type(value)):
            lines.append(f"{path.name}: {'.'.join(key)}: {_shown(old)} → {_shown(value)}")
    return lines or [f"nothing: {path} says so already"]


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def _restore(directory: int, path: Path, stood: owned_file.Stood | None) -> None:
    if stood is None:
        owned_file.drop(directory, path)
        return
    with owned_file.aside(directory, path, stood.data, stood) as part:
        owned_file.put(directory, part, path)


def _moved(path: Path, since: str) -> UsageError:
    return UsageError(
        f"the file was changed by somebody else since it was {since}: left alone",
        where=str(path),
        next="look at it; once it is as it was, `assay undo` and `assay apply` go on from there"
        + (", and `assay apply --force changed --reason TEXT` from here" if since == "planned" else ""),
    )


def _refused(why: str, path: Path) -> ComponentFailed:
    return ComponentFailed(
        f"the engine's own parser refuses the new configuration ({why}); the old one stands",
        failure_class=FailureClass.USER_CONFIG_ERROR,
        where=str(path),
    )
