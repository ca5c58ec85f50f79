"""Kind → module. Nothing is imported until its kind is used, so a missing vendor costs nothing.

A kind is a file name in `adapters/VERB/`, the name of an entry point in group `assay.VERB`, or `module:Adapter`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from assay.core.base import PathMark
from assay.core.errors import SpecError
from assay.core.evidence import Artifact
from assay.core.gate import Gate
from assay.core.study import AdapterRef, GateRef
from assay.core.vocabulary import Verb
from assay.runtime.files import artifact

_GATES: Mapping[str, tuple[str, str, str]] = {
    "setup": ("assay.gates.setup", "SetupGate", "SetupPolicy"),
    "checkpoint": ("assay.gates.checkpoint", "CheckpointGate", "CheckpointPolicy"),
    "results": ("assay.gates.results", "ResultsGate", "ResultsPolicy"),
    "comparability": ("assay.gates.comparability", "ComparabilityGate", "ComparabilityPolicy"),
    "compare": ("assay.gates.compare", "CompareGate", "ComparePolicy"),
    "external": ("assay.gates.external", "ExternalGate", "ExternalPolicy"),
}


@cache
def kinds(verb: Verb) -> list[str]:
    """The kinds of a verb: those shipped and those that installed packages add."""
    package = importlib.import_module(f"assay.adapters.{verb.value}")
    shipped = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    added = [e.name for e in importlib.metadata.entry_points(group=f"assay.{verb.value}")]
    return sorted({*shipped, *added})


def module(verb: Verb, kind: str, where: str = "") -> Any:
    """The module of a kind.

    Raises:
        SpecError: if there is no such kind.
    """
    if ":" in kind:
        name = kind.partition(":")[0]
    elif kind in _added(verb):
        name = _added(verb)[kind].value.partition(":")[0]
    elif kind in kinds(verb):
        name = f"assay.adapters.{verb.value}.{kind}"
    else:
        raise SpecError(
            f"unknown {verb.value} kind {kind!r}",
            where=where,
            allowed=", ".join(kinds(verb)),
            next="`assay doctor` lists all kinds and what they need",
        )
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SpecError(f"{verb.value} kind {kind!r} cannot be imported: {error}", where=where) from error


@cache
def _added(verb: Verb) -> dict[str, importlib.metadata.EntryPoint]:
    return {e.name: e for e in importlib.metadata.entry_points(group=f"assay.{verb.value}")}


def options(verb: Verb, ref: AdapterRef, where: str = "") -> BaseModel:
    """The validated options of a reference.

    Raises:
        SpecError: naming the option and its place in the spec.
    """
    model: type[BaseModel] = module(verb, ref.kind, where).Options
    try:
        return model.model_validate(dict(ref.options))
    except ValidationError as error:
        raise spec_error(error, where, model) from error


def adapter(verb: Verb, ref: AdapterRef, where: str = "") -> Any:
    """An adapter, made with its options."""
    values = options(verb, ref, where)
    name = ref.kind.partition(":")[2] or "Adapter"
    return getattr(module(verb, ref.kind, where), name)(values)


def resolved(verb: Verb, ref: AdapterRef, base: Path, where: str = "") -> AdapterRef:
    """The reference with every default filled in and every path made absolute, so that it stands alone."""
    values = options(verb, ref, where)
    filled = values.model_dump(mode="json")
    for name, field in type(values).model_fields.items():
        marked = any(isinstance(m, PathMark) for m in field.metadata) or "PathMark" in repr(field.annotation)
        if marked and isinstance(filled.get(name), str):
            filled[name] = str((base / Path(filled[name]).expanduser()).absolute())
    return AdapterRef(kind=ref.kind, options=filled)


def gate(ref: GateRef) -> Gate:
    """A gate with its policy.

    Raises:
        SpecError: if there is no such gate, or its policy is not one.
    """
    try:
        name, class_name, policy_name = _GATES[ref.gate]
    except KeyError:
        raise SpecError(f"unknown gate {ref.gate!r}", allowed=", ".join(_GATES)) from None
    found = importlib.import_module(name)
    try:
        policy = getattr(found, policy_name).model_validate(dict(ref.policy))
    except ValidationError as error:
        raise spec_error(error, f"gate {ref.gate}", getattr(found, policy_name)) from error
    made: Gate = getattr(found, class_name)(policy)
    return made


def spec_error(error: ValidationError, where: str, model: type[BaseModel]) -> SpecError:
    """The first of pydantic's findings in our words: what, at which key, and what is allowed there."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    place = ".".join(p for p in (where, path) if p)
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_keys(model, first["loc"][:-1])))
        return SpecError("unknown key", where=place, allowed=known)
    more = len(error.errors()) - 1
    also = f" (and {more} more)" if more else ""
    return SpecError(f"{first['msg']}{also}, not {first['input']!r:.80}", where=place)


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterator[str]:
    """The keys that a model knows at a place."""
    here: Any = model
    for part in path:
        field = getattr(here, "model_fields", {}).get(part)
        here = field.annotation if field is not None else here
    fields = getattr(here, "model_fields", model.model_fields)
    return iter(f.alias or name for name, f in fields.items())


class Registry:
    """The engine's components, made for real."""

    def build(self, ref: AdapterRef) -> Any:
        """A build adapter."""
        return adapter(Verb.BUILD, ref)

    def serve(self, ref: AdapterRef) -> Any:
        """A serve adapter."""
        return adapter(Verb.SERVE, ref)

    def evaluate(self, ref: AdapterRef) -> Any:
        """An evaluate adapter."""
        return adapter(Verb.EVALUATE, ref)

    def propose(self, ref: AdapterRef) -> Any:
        """A propose adapter."""
        return adapter(Verb.PROPOSE, ref)

    def apply(self, ref: AdapterRef) -> Any:
        """An apply adapter."""
        return adapter(Verb.APPLY, ref)

    def execute(self) -> Any:
        """The execute adapter."""
        return adapter(Verb.EXECUTE, AdapterRef(kind="local"))

    def gate(self, ref: GateRef) -> Gate:
        """A gate with its policy."""
        return gate(ref)

    def pin(self, path: Path) -> Artifact:
        """Digest and size of a file or folder."""
        return artifact(path)
