"""The reference: JSON Schemas of specs and outputs, with the docstring of every field as its description."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from assay import registry
from assay.core.decision import Decision
from assay.core.study import Study
from assay.core.verdict import Verdict
from assay.core.vocabulary import Verb
from assay.flows.evolve import EvolveSpec
from assay.flows.release import ReleaseSpec
from assay.flows.train import TrainSpec
from assay.flows.tune import TuneSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: Mapping[str, type[BaseModel]] = {
    "evolve": EvolveSpec,
    "release": ReleaseSpec,
    "train": TrainSpec,
    "tune": TuneSpec,
    "verdict": Verdict,
    "decision": Decision,
    "study": Study,
}
_FLAT = {
    "build": Verb.BUILD,
    "engine": Verb.SERVE,
    "train": Verb.BUILD,
    "serve": Verb.SERVE,
    "evaluate": Verb.EVALUATE,
    "propose": Verb.PROPOSE,
    "apply": Verb.APPLY,
}
"""Keys of a spec that name an adapter, written flat: `{kind: gguf, type: Q4_0}`."""


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a spec or of an output, by the name that `assay schema` takes."""
    model = MODELS[name]
    value = described(model)
    if name in {"evolve", "release", "train", "tune"}:
        _write_flat(value)
    return {"$schema": DIALECT, **value}


def described(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema with the fields' docstrings."""
    value: dict[str, Any] = model.model_json_schema(by_alias=True)
    _describe(value, model)
    for nested in _models(model):
        part = value.get("$defs", {}).get(nested.__name__)
        if part is not None:
            _describe(part, nested)
    return value


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field → the docstring under it, also of inherited fields."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)  # the source of a class is a class
        docs.update(_pairs(body))
    return docs


def _pairs(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id, " ".join(str(text.value.value).split())


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    docs = field_docs(model)
    for name, field in model.model_fields.items():
        part = schema.get("properties", {}).get(field.alias or name)
        if part is not None and name in docs:
            part["description"] = docs[name]


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Models that are reached from a model's fields."""
    seen: set[type[BaseModel]] = set()
    todo = [model]
    while todo:
        for field in todo.pop().model_fields.values():
            for found in _inside(field.annotation):
                if found not in seen:
                    seen.add(found)
                    todo.append(found)
                    yield found


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inside(part)


def _write_flat(schema: dict[str, Any]) -> None:
    """Replace references to adapters by one alternative a kind, as people write them."""
    defs = schema["$defs"]
    for place in (schema, *(defs[name] for name in ("Recipe",) if name in defs)):
        for key, verb in _FLAT.items():
            part = place["properties"].get(key)
            if part is None:
                continue
            kinds = [_kind(verb, kind, defs) for kind in registry.kinds(verb)]
            optional = [{"type": "null"}] if "anyOf" in part else []
            description = {"description": part["description"]} if "description" in part else {}
            place["properties"][key] = {**description, "anyOf": [*kinds, *optional]}
    defs.pop("AdapterRef", None)


def _kind(verb: Verb, kind: str, defs: dict[str, Any]) -> dict[str, str]:
    options = registry.module(verb, kind).Options
    value = described(options)
    defs.update(value.pop("$defs", {}))
    value["title"] = f"{verb.value}: {kind}"
    value["properties"] = {"kind": {"const": kind}, **value.get("properties", {})}
    value["required"] = ["kind", *value.get("required", [])]
    name = f"{verb.value}_{kind}"
    defs[name] = value
    return {"$ref": f"#/$defs/{name}"}
