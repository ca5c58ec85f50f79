"""The settings that a spec spans: one cell a combination, without those that cannot differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from assay.core.base import Noun
from assay.core.recommendation import KV_BITS
from assay.core.study import AdapterRef
from assay.core.tuning import Cell, Knob
from assay.flows._tune.spec import ModelRef, TuneSpec

SLOTS = frozenset(
    {"slots", "max_num_seqs", "max_running_requests", "max_batch_size", "num_parallel", "parallel"}
)
"""Knobs that limit how many requests are worked on at once."""
KV_TYPES = frozenset({"kv_type", "kv_dtype", "cache_type"})
KV_BYTES: Mapping[str, float] = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip


class Inert(Noun):
    """Values of a knob that cannot act under the workload, and are not searched."""

    knob: str
    kept: JsonValue
    dropped: tuple[JsonValue, ...]
    reason: str


def inert(spec: TuneSpec) -> tuple[Inert, ...]:
    """Knobs, or some of their values, that cannot change anything here."""
    most = spec.load.most_in_flight
    found = []
    for knob in spec.knobs:
        if knob.name not in SLOTS or most is None:
            continue
        enough = [v for v in knob.values if isinstance(v, int) and not isinstance(v, bool) and v >= most]
        if len(enough) > 1:
            kept = knob.values[0] if knob.values[0] in enough else min(enough)
            why = f"at most {most} in flight: a larger limit only takes memory"
            found.append(
                Inert(knob=knob.name, kept=kept, dropped=tuple(v for v in enough if v != kept), reason=why)
            )
    return tuple(found)


def searched(spec: TuneSpec) -> tuple[Knob, ...]:
    """The knobs without their inert values."""
    dropped = {i.knob: i.dropped for i in inert(spec)}
    return tuple(
        k.model_copy(update={"values": tuple(v for v in k.values if v not in dropped.get(k.name, ()))})
        for k in spec.knobs
    )


def cells(spec: TuneSpec, model: ModelRef) -> Iterator[Cell]:
    """Every setting of a model at the target context, the default first."""
    knobs = searched(spec)
    for values in itertools.product(*(k.values for k in knobs)):
        chosen: dict[str, JsonValue] = {k.name: v for k, v in zip(knobs, values, strict=True)}
        default = all(k.values[0] == v for k, v in zip(knobs, values, strict=True))
        yield Cell(
            id=cell_id(model.name, chosen),
            model=model.name,
            values=chosen,
            serve=serve_ref(spec, chosen, spec.contexts[0]),
            elsewhere={str(c): serve_ref(spec, chosen, c) for c in spec.contexts[1:]},
            default=default,
            memory=_memory(spec, chosen),
        )


def cell_id(model: str, values: Mapping[str, JsonValue]) -> str:
    """Such as `7b kv_type=q8_0 slots=4`."""
    return " ".join([model, *(f"{k}={'unset' if v is None else v}" for k, v in values.items())])


def serve_ref(spec: TuneSpec, values: Mapping[str, JsonValue], context: int) -> AdapterRef:
    """The engine with the values of a setting; a value that is null leaves its option away."""
    options = {**spec.engine.options, **{k: v for k, v in values.items() if v is not None}}
    for name, value in values.items():
        if value is None:
            options.pop(name, None)
    if spec.context_knob:
        options[spec.context_knob] = context
    if spec.engine.kind == "command":
        return AdapterRef(kind="command", options=_commanded(spec, values, context))
    return AdapterRef(kind=spec.engine.kind, options=options)


def _commanded(spec: TuneSpec, values: Mapping[str, JsonValue], context: int) -> dict[str, JsonValue]:
    """Any server by its command line: `{knob}` stands for its value; null drops the word and the flag before it."""
    given = {**values, **({spec.context_knob: context} if spec.context_knob else {})}
    words: list[str] = []
    for word in spec.engine.options["command"]:
        used = [k for k in given if f"{{{k}}}" in word]
        if any(given[k] is None for k in used):
            if words and words[-1].startswith("-"):
                words.pop()
            continue
        for name in used:
            word = word.replace(f"{{{name}}}", str(given[name]))  # noqa: PLW2901
        words.append(word)
    facts = {**spec.engine.options.get("facts", {}), **given}
    return {**spec.engine.options, "command": words, "facts": facts}


def _memory(spec: TuneSpec, values: Mapping[str, JsonValue]) -> tuple[float, ...]:
    """Sizes that memory grows with: context, slots, bytes of a KV element. Other knobs make settings incomparable."""
    others = [v for k, v in values.items() if k not in SLOTS | KV_TYPES]
    if others and any(len(k.values) > 1 for k in searched(spec) if k.name not in SLOTS | KV_TYPES):
        return ()
    slots = next((v for k, v in values.items() if k in SLOTS), 1)
    kind = next((v for k, v in values.items() if k in KV_TYPES), "f16")
    width = _width(kind)
    if width is None or not isinstance(slots, int):
        return ()
    return (float(spec.contexts[0]), float(slots), width)


def _width(kind: JsonValue) -> float | None:
    if kind in (None, "auto"):
        return 2.0
    if isinstance(kind, str) and kind in KV_BYTES:
        return KV_BYTES[kind]
    bits = KV_BITS.get(str(kind))
    return None if bits is None else bits / 8
