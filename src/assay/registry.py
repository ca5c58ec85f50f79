"""Kind → module. Nothing is imported until its kind is used, so a missing vendor costs nothing.

A kind is a file name in `adapters/VERB/`, the name of an entry point in group `assay.VERB`, or `module:Adapter`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from assay.core.base import PathMark
from assay.core.errors import SpecError
from assay.core.evidence import Artifact
from assay.core.gate import Gate
from assay.core.study import AdapterRef, GateRef
from assay.core.vocabulary import Verb
from assay.runtime.files import artifact

M = TypeVar("M", bound=BaseModel)

_GATES: Mapping[str, tuple[str, str, str]] = {
    "setup": ("assay.gates.setup", "SetupGate", "SetupPolicy"),
    "checkpoint": ("assay.gates.checkpoint", "CheckpointGate", "CheckpointPolicy"),
    "results": ("assay.gates.results", "ResultsGate", "ResultsPolicy"),
    "comparability": ("assay.gates.comparability", "ComparabilityGate", "ComparabilityPolicy"),
    "compare": ("assay.gates.compare", "CompareGate", "ComparePolicy"),
    "rank": ("assay.gates.rank", "RankGate", "ComparePolicy"),
    "contract": ("assay.gates.contract", "ContractGate", "ContractPolicy"),
    "noise": ("assay.gates.noise", "NoiseGate", "NoisePolicy"),
    "ablation": ("assay.gates.ablation", "AblationGate", "AblationPolicy"),
    "preflight": ("assay.gates.preflight", "PreflightGate", "PreflightPolicy"),
    "text": ("assay.gates.evolution", "TextGate", "TextPolicy"),
    "deploy": ("assay.gates.deploy", "DeployGate", "DeployPolicy"),
    "external": ("assay.gates.external", "ExternalGate", "ExternalPolicy"),
    "improvement": ("assay.gates.improvement", "ImprovementGate", "ImprovementPolicy"),
    "reading": ("assay.gates.tuning", "ReadingGate", "TuningPolicy"),
    "tuning": ("assay.gates.tuning", "TuningGate", "TuningPolicy"),
    "training": ("assay.gates.training", "TrainingGate", "TrainingPolicy"),
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
        found = importlib.import_module(name)
    except ImportError as error:
        raise SpecError(f"{verb.value} kind {kind!r} cannot be imported: {error}", where=where) from error
    lacking = [n for n in ("Options", _class_name(kind)) if not hasattr(found, n)]
    if lacking:
        raise SpecError(f"{verb.value} kind {kind!r}: module {name} has no {lacking[0]!r}", where=where)
    return found


def _class_name(kind: str) -> str:
    return kind.partition(":")[2] or "Adapter"


def validated(model: type[M], values: Any, where: str = "") -> M:
    """Values of a spec as a model. Strict as JSON is: `true` is no number, and `"1"` is text.

    Raises:
        SpecError: naming the key, its place, and what is allowed there.
    """
    try:
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise spec_error(error, where, model) from error


@cache
def _added(verb: Verb) -> dict[str, importlib.metadata.EntryPoint]:
    return {e.name: e for e in importlib.metadata.entry_points(group=f"assay.{verb.value}")}


def options(verb: Verb, ref: AdapterRef, where: str = "") -> BaseModel:
    """The validated options of a reference.

    Raises:
        SpecError: naming the option and its place in the spec.
    """
    model: type[BaseModel] = module(verb, ref.kind, where).Options
    return validated(model, dict(ref.options), where)


def adapter(verb: Verb, ref: AdapterRef, where: str = "") -> Any:
    """An adapter, made with its options."""
    values = options(verb, ref, where)
    return getattr(module(verb, ref.kind, where), _class_name(ref.kind))(values)


def resolved(verb: Verb, ref: AdapterRef, base: Path, where: str = "") -> AdapterRef:
    """The reference with every default filled in and every path made absolute, so that it stands alone.

    Raises:
        SpecError: also if a file or folder that is read is not there; what `apply` makes is not there yet.
    """
    values = options(verb, ref, where)
    filled = values.model_dump(mode="json")
    for name, field in type(values).model_fields.items():
        marked = any(isinstance(m, PathMark) for m in field.metadata) or "PathMark" in repr(field.annotation)
        if not marked or not isinstance(filled.get(name), str):
            continue
        path = (base / Path(filled[name]).expanduser()).absolute()
        if verb is not Verb.APPLY and not path.exists():
            raise SpecError(f"no such file or folder: {path}", where=f"{where}.{name}")
        filled[name] = str(path)
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
    policy = validated(getattr(found, policy_name), dict(ref.policy), f"gate {ref.gate}")
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
    given = first["input"]
    shown = "" if isinstance(given, Mapping) else f", not {given!r:.80}"
    return SpecError(f"{first['msg'].removeprefix('Value error, ')}{shown}{also}", where=place)


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterator[str]:
    """The keys that a model knows at a place."""
    here = model
    for part in path:
        field = here.model_fields.get(str(part))
        here = (_model_in(field.annotation) if field is not None else None) or here
    return iter(f.alias or name for name, f in here.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: alone, optional, or as the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _model_in(a)) is not None), None)


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
