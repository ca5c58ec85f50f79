"""From a YAML file to a resolved spec: every key known, every option validated by its adapter, every path absolute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from assay import registry
from assay.core.errors import SpecError, UnreadableInput
from assay.core.ports import Component
from assay.core.study import AdapterRef
from assay.core.vocabulary import Verb
from assay.flows.release import ReleaseSpec
from assay.gates._checkpoint.intent import resolve

SIZE_LIMIT_BYTES = 4 << 20


def load_spec(path: Path, overrides: Sequence[str] = ()) -> ReleaseSpec:
    """Read, override, validate and resolve a spec.

    Args:
        path: the YAML file.
        overrides: `a.b=c` items of `--set`; values are YAML.

    Raises:
        UnreadableInput: if the file is missing or no YAML mapping.
        SpecError: naming file, line and key of what is wrong.
    """
    tree = _read(path)
    for item in overrides:
        _override(tree, item)
    try:
        resolved = _resolved(registry.validated(ReleaseSpec, _plain(tree)), path.absolute().parent)
        _check_intents(resolved)
    except SpecError as error:
        raise _located(path, tree, error) from error
    return resolved


def _read(path: Path) -> CommentedMap:
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise UnreadableInput("larger than 4 MiB: not a spec", where=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "`assay init release > release.yaml` writes a starter"
        raise UnreadableInput(f"cannot read: {error.strerror}", where=str(path), next=hint) from error
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"not UTF-8 text: {error.reason}", where=str(path)) from error
    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SpecError(f"not YAML: {error.problem}", where=f"{path}:{line}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"not YAML: {str(error).splitlines()[0]}", where=str(path)) from error
    if not isinstance(tree, CommentedMap):
        raise SpecError("a spec is a mapping of keys to values", where=str(path), next="`assay init release`")
    return tree


def _plain(value: Any) -> Any:
    """YAML's own types as plain ones, so that pydantic's strictness sees what JSON would hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _override(tree: CommentedMap, item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise SpecError(f"{item!r} is not KEY=VALUE", where="--set", allowed="such as compare.margin=0.02")
    parts = key.split(".")
    here: Any = tree
    for part in parts[:-1]:
        here = _child(here, part, key)
    try:
        value = YAML(typ="safe").load(io.StringIO(text))
    except YAMLError as error:
        raise SpecError(f"{key!r}: {text!r} is no YAML value", where="--set") from error
    if isinstance(here, CommentedSeq):
        here[_index(here, parts[-1], key)] = value
    elif isinstance(here, CommentedMap):
        here[parts[-1]] = value
    else:
        raise SpecError(f"{key!r} leads into a value that has no keys", where="--set")


def _child(here: Any, part: str, key: str) -> Any:
    if isinstance(here, CommentedSeq):
        return here[_index(here, part, key)]
    if isinstance(here, CommentedMap):
        if part not in here:
            here[part] = CommentedMap()
        return here[part]
    raise SpecError(f"{key!r} leads into a value that has no keys", where="--set")


def _index(here: CommentedSeq, part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(here):
        raise SpecError(f"{key!r}: no item {part}", where="--set", allowed=f"0 to {len(here) - 1}")
    return int(part)


def _located(path: Path, tree: CommentedMap, error: SpecError) -> SpecError:
    """The same error with file and line before its key."""
    line = _line(tree, error.where.split(".")) if error.where else None
    place = f"{path}:{line}" if line else str(path)
    return SpecError(
        error.what,
        where=f"{place}: {error.where}" if error.where else place,
        allowed=error.allowed,
        next=error.next,
    )


def _line(tree: Any, parts: Sequence[str]) -> int | None:
    """The line of the deepest key of a path that the file holds."""
    here: Any = tree
    line: int | None = None
    for part in parts:
        try:
            if isinstance(here, CommentedMap) and part in here:
                line = here.lc.key(part)[0] + 1
                here = here[part]
            elif isinstance(here, CommentedSeq) and part.isdigit() and int(part) < len(here):
                line = here.lc.item(int(part))[0] + 1
                here = here[int(part)]
        except (KeyError, TypeError, AttributeError):  # set by --set: it stands in no line
            return line
    return line


def _resolved(spec: ReleaseSpec, base: Path) -> ReleaseSpec:
    def made(verb: Verb, ref: AdapterRef, where: str) -> AdapterRef:
        return registry.resolved(verb, ref, base, where)

    source = (base / Path(spec.source).expanduser()).absolute()
    if not source.exists():
        raise SpecError(f"no such checkpoint: {source}", where="source", next="correct `source`")
    recipes = tuple(
        r.model_copy(
            update={
                "build": made(Verb.BUILD, r.build, f"recipes.{i}.build"),
                "serve": made(Verb.SERVE, r.serve, f"recipes.{i}.serve") if r.serve else None,
            }
        )
        for i, r in enumerate(spec.recipes)
    )
    return spec.model_copy(
        update={
            "source": str(source),
            "recipes": recipes,
            "serve": made(Verb.SERVE, spec.serve, "serve"),
            "evaluate": made(Verb.EVALUATE, spec.evaluate, "evaluate"),
            "apply": made(Verb.APPLY, spec.apply, "apply"),
        }
    )


def _check_intents(spec: ReleaseSpec) -> None:
    """A promise that the checkpoint gate cannot understand is found before anything is built."""
    for i, recipe in enumerate(spec.recipes):
        promised = registry.adapter(Verb.BUILD, recipe.build).intent()
        try:
            resolve({**promised, **recipe.intent}, spec.checkpoint.recipes)
        except ValueError as error:
            raise SpecError(str(error), where=f"recipes.{i}.build") from error


def components(spec: ReleaseSpec) -> list[tuple[str, Component]]:
    """What the spec needs on this machine: place in the spec and state of the component."""
    found: list[tuple[str, Component]] = []
    for i, recipe in enumerate(spec.recipes):
        found.append((f"recipes.{i}.build", registry.adapter(Verb.BUILD, recipe.build).check()))
        if recipe.serve:
            found.append((f"recipes.{i}.serve", registry.adapter(Verb.SERVE, recipe.serve).check()))
    if any(r.serve is None for r in spec.recipes):
        found.append(("serve", registry.adapter(Verb.SERVE, spec.serve).check()))
    found.append(("evaluate", registry.adapter(Verb.EVALUATE, spec.evaluate).check()))
    return found
