"""From a YAML file to a resolved spec: every key known, every option validated by its adapter, every path absolute."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from assay import registry
from assay.cli import evolve_spec, tune_spec
from assay.cli.sources import located
from assay.core.errors import SpecError, UnreadableInput
from assay.core.ports import Component
from assay.core.study import AdapterRef
from assay.core.vocabulary import Verb
from assay.flows.evolve import EvolveSpec
from assay.flows.release import ReleaseSpec
from assay.flows.train import TrainSpec
from assay.flows.tune import TuneSpec
from assay.gates._checkpoint.intent import resolve

SIZE_LIMIT_BYTES = 4 << 20
MOST_VALUES = 100_000
Spec: TypeAlias = ReleaseSpec | TrainSpec | TuneSpec | EvolveSpec
"""What a spec of any job is read as."""


@dataclass(frozen=True)
class Job:
    """What reading a spec needs to know of its job."""

    spec: type[Spec]
    resolved: Callable[[Any, Path], Any]
    """The spec with every reference resolved; the second argument is the folder of its file."""
    components: Callable[[Any], list[tuple[str, Component]]]
    """Place in the spec and state of each component that it needs."""


def load_any(path: Path, overrides: Sequence[str] = ()) -> Spec:
    """Read, override, validate and resolve a spec of the job that its `schema` names.

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
        job = _job(tree.get("schema"))
        found: Spec = job.resolved(registry.validated(job.spec, _plain(tree)), path.absolute().parent)
    except SpecError as error:
        raise _located(path, tree, error) from error
    return found


def load_spec(path: Path, overrides: Sequence[str] = ()) -> ReleaseSpec:
    """Read, override, validate and resolve the spec of a release.

    Raises:
        UnreadableInput, SpecError: see `load_any`; also if it is the spec of another job.
    """
    found = load_any(path, overrides)
    if not isinstance(found, ReleaseSpec):
        raise SpecError(f"this is a spec of {found.schema_}", where=f"{path}: schema", allowed="release/1")
    return found


def components(spec: Spec) -> list[tuple[str, Component]]:
    """What the spec needs on this machine: place in the spec and state of the component."""
    return _job(spec.schema_).components(spec)


def _job(schema: Any) -> Job:
    """The job of a schema; a spec that names none is read as a release, and refused there."""
    name = str(schema).partition("/")[0] if schema is not None else "release"
    if name not in JOBS:
        raise SpecError(
            f"no such schema: {schema!r:.60}", where="schema", allowed=", ".join(f"{j}/1" for j in JOBS)
        )
    return JOBS[name]


def _read(path: Path) -> CommentedMap:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_BYTES + 1)
        if len(data) > SIZE_LIMIT_BYTES:
            raise UnreadableInput("larger than 4 MiB: not a spec", where=str(path))
        text = data.decode("utf-8")
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
    if _values(tree, {}) > MOST_VALUES:
        raise SpecError(f"more than {MOST_VALUES:,} values once its aliases are written out", where=str(path))
    return tree


def _values(node: Any, counted: dict[int, float]) -> float:
    """How many values a tree has with all aliases written out; endless if an alias holds itself."""
    if not isinstance(node, Mapping | list | tuple):
        return 1
    if id(node) not in counted:
        counted[id(node)] = math.inf
        inner = node.values() if isinstance(node, Mapping) else node
        counted[id(node)] = 1 + sum(_values(v, counted) for v in inner)
    return counted[id(node)]


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


def _release(spec: ReleaseSpec, base: Path) -> ReleaseSpec:
    def made(verb: Verb, ref: AdapterRef, where: str) -> AdapterRef:
        return registry.resolved(verb, ref, base, where)

    source = located(spec.source, base, "source")
    recipes = tuple(
        r.model_copy(
            update={
                "build": made(Verb.BUILD, r.build, f"recipes.{i}.build"),
                "serve": made(Verb.SERVE, r.serve, f"recipes.{i}.serve") if r.serve else None,
            }
        )
        for i, r in enumerate(spec.recipes)
    )
    resolved = spec.model_copy(
        update={
            "source": str(source),
            "recipes": recipes,
            "serve": made(Verb.SERVE, spec.serve, "serve"),
            "evaluate": made(Verb.EVALUATE, spec.evaluate, "evaluate"),
            "apply": made(Verb.APPLY, spec.apply, "apply"),
        }
    )
    _check_intents(resolved)
    return resolved


def _check_intents(spec: ReleaseSpec) -> None:
    """A promise that the checkpoint gate cannot understand is found before anything is built."""
    for i, recipe in enumerate(spec.recipes):
        promised = registry.adapter(Verb.BUILD, recipe.build).intent()
        try:
            resolve({**promised, **recipe.intent}, spec.checkpoint.recipes)
        except ValueError as error:
            raise SpecError(str(error), where=f"recipes.{i}.build") from error


def _train(spec: TrainSpec, base: Path) -> TrainSpec:
    source = (base / Path(spec.source).expanduser()).absolute()
    if not source.exists():
        raise SpecError(f"no such training code: {source}", where="source", next="correct `source`")
    updates: dict[str, Any] = {"source": str(source)}
    for key, verb in _TRAIN_VERBS.items():
        updates[key] = registry.resolved(verb, getattr(spec, key), base, key)
    if spec.stop.file:
        file = str((base / Path(spec.stop.file).expanduser()).absolute())
        updates["stop"] = spec.stop.model_copy(update={"file": file})
    return spec.model_copy(update=updates)


_TRAIN_VERBS: Mapping[str, Verb] = {
    "train": Verb.BUILD,
    "propose": Verb.PROPOSE,
    "evaluate": Verb.EVALUATE,
    "apply": Verb.APPLY,
}


def _train_components(spec: TrainSpec) -> list[tuple[str, Component]]:
    keys = ("train", "propose", "evaluate")
    return [(key, registry.adapter(_TRAIN_VERBS[key], getattr(spec, key)).check()) for key in keys]


def _release_components(spec: ReleaseSpec) -> list[tuple[str, Component]]:
    found: list[tuple[str, Component]] = []
    for i, recipe in enumerate(spec.recipes):
        found.append((f"recipes.{i}.build", registry.adapter(Verb.BUILD, recipe.build).check()))
        if recipe.serve:
            found.append((f"recipes.{i}.serve", registry.adapter(Verb.SERVE, recipe.serve).check()))
    if any(r.serve is None for r in spec.recipes):
        found.append(("serve", registry.adapter(Verb.SERVE, spec.serve).check()))
    found.append(("evaluate", registry.adapter(Verb.EVALUATE, spec.evaluate).check()))
    return found


JOBS: Mapping[str, Job] = MappingProxyType(
    {
        "evolve": Job(EvolveSpec, evolve_spec.resolved, evolve_spec.components),
        "release": Job(ReleaseSpec, _release, _release_components),
        "train": Job(TrainSpec, _train, _train_components),
        "tune": Job(TuneSpec, tune_spec.resolved, tune_spec.components),
    }
)
"""Every job whose spec `assay run` takes."""
