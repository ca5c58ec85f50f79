"""Gate `fit`: does a model fit into this machine's memory, before anything is downloaded or launched?

`cannot` rests on a lower bound of bytes that no setting of the engine can avoid, and is the only word that prunes. It
means "cannot be held in memory": an engine that maps its file may still crawl along from the disk.
`fits` rests on the upper end of calibrated ranges, with a margin. Between the two only a launch can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError

from assay.core.evidence import Evidence
from assay.core.fit import (
    FitLine,
    FitVerdict,
    MachineMemory,
    MemoryEstimate,
    MemoryPart,
    ModelShape,
    Serving,
)
from assay.core.gate import Policy
from assay.core.sizes import size
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._fit import parts
from assay.gates._fit.engines import ELEMENT_BYTES, ENGINES

ROLE = "candidate.fit"
_MOST_BYTES = 2**50


class FitPolicy(Policy):
    """When a model counts as fitting."""

    margin_frac: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.05
    """Share of the free memory that must stay free for `fits`."""
    reserve_bytes: Annotated[int, Strict(), Field(ge=0)] = 0
    """Kept for other programs, beside what they use now."""
    count_swap: bool = False
    """Swap counts as capacity: then `cannot` is said only of what not even paging could hold."""


def estimate_memory(shape: ModelShape, serving: Serving) -> MemoryEstimate:
    """What a model needs under one setting. Total: what is not known is named and leaves the estimate empty.

    The lower bound is over what is known, so that it stays sound.
    """
    engine = ENGINES.get(serving.engine)
    unknown = list(shape.unknown)
    kv_type = _kv_type(shape, serving)
    if engine is None:
        unknown.append(f"engine {serving.engine!r}: known are {', '.join(ENGINES)}")
    elif kv_type not in ELEMENT_BYTES:
        unknown.append(f"KV type {kv_type!r}" if kv_type else "dtype: the config does not say it")
    elif serving.kv_type not in {"auto", *engine.kv_types}:
        unknown.append(f"{serving.engine} has no KV type {serving.kv_type!r}")
    if serving.dtype != "auto" and serving.dtype.lower() not in ELEMENT_BYTES:
        unknown.append(f"dtype {serving.dtype!r}")
    found: list[MemoryPart] = []
    if shape.weights is None:
        unknown += [] if shape.unknown else ["the weights"]
    elif _weighable(shape, serving):
        found.append(parts.weights(shape, serving, shape.weights))
    else:
        unknown.append("the size of the weights once dequantized for GGUF")
    if engine is not None and shape.known and kv_type in ELEMENT_BYTES:
        found.append(parts.kv_cache(shape, serving, engine, kv_type))
        working = parts.activations(shape, serving, engine)
        if working is None:
            unknown.append("hidden_size or intermediate_size")
        else:
            found.append(working)
        found.append(parts.process(shape, serving, engine))
    elif not shape.known and not unknown:
        unknown.append("the layers")
    return MemoryEstimate(
        engine=serving.engine,
        context_tokens=serving.context_tokens,
        concurrency=serving.concurrency,
        kv_type=kv_type or serving.kv_type,
        parts=tuple(map(_bounded, parts.converted(shape, serving, found))),
        unknown=tuple(dict.fromkeys(unknown)),
        notes=shape.notes,
    )


def judge_fit(
    estimate: MemoryEstimate, machine: MachineMemory, policy: FitPolicy | None = None, device: str = "cpu"
) -> FitLine:
    """Hold an estimate against a machine.

    Args:
        estimate: what is needed.
        machine: what there is.
        policy: margin and reserve.
        device: `cpu`, or `gpu` where the model lies on accelerators.
    """
    policy = policy or FitPolicy()
    capacity, free, place = _room(machine, policy, device)
    word, detail = _word(estimate, capacity, free, policy, place)
    return FitLine(
        verdict=word,
        estimate=estimate,
        capacity_bytes=capacity,
        free_bytes=free,
        place=place,
        detail=detail,
    )


class FitGate:
    """Judges one estimate; for studies. `cannot` fails, everything else passes: it only saves launches.

    Args:
        policy: margin and reserve.
    """

    name = "fit"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: FitPolicy | None = None) -> None:
        self.policy = policy or FitPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """PASS, or FAIL with INFEASIBLE where not even the lower bound fits; ERROR without readable evidence."""
        found = evidence.get(ROLE)
        if found is None:
            return self._broken("there is no estimate", {})
        reads = {ROLE: found.content_digest}
        try:
            estimate = MemoryEstimate.from_json(found.facts.get("estimate"))
            machine = MachineMemory.from_json(found.facts.get("machine"))
        except ValidationError:
            return self._broken("the estimate or the machine's memory cannot be read", reads)
        line = judge_fit(estimate, machine, self.policy, str(found.facts.get("device", "cpu")))
        cannot = line.verdict is FitVerdict.CANNOT
        reason = Reason(
            text=line.detail,
            ok=not cannot,
            where=line.place,
            measured=float(estimate.lower_bytes),
            limit=None if line.capacity_bytes is None else float(line.capacity_bytes),
            unit="bytes",
            evidence=found.content_digest,
        )
        return Verdict(
            gate=self.name,
            status=Status.FAIL if cannot else Status.PASS,
            failure_class=FailureClass.POINT_INFEASIBLE if cannot else None,
            outcome=Outcome.INFEASIBLE if cannot else None,
            detail=f"{line.verdict}: {line.detail}",
            reasons=(reason,),
            reads=reads,
            extra={"fit": line.verdict.value},
        )

    def _broken(self, text: str, reads: Mapping[str, str]) -> Verdict:
        return Verdict(
            gate=self.name,
            status=Status.ERROR,
            failure_class=FailureClass.UNKNOWN,
            outcome=Outcome.ANOMALOUS,
            detail=text,
            reasons=(Reason(text=text, ok=False),),
            reads=reads,
        )


def evidence_of(estimate: MemoryEstimate, machine: MachineMemory, device: str = "cpu") -> Evidence:
    """What `FitGate` reads."""
    facts: dict[str, Any] = {"estimate": estimate.to_json(), "machine": machine.to_json(), "device": device}
    return Evidence(kind="fit", subject="candidate", facts=facts)


def _bounded(part: MemoryPart) -> MemoryPart:
    """A part as a number that JSON can hold exactly; an absurd shape stays absurd, and a bound stays a bound."""
    low, middle, high = (min(n, _MOST_BYTES) for n in (part.lower, part.estimate, part.upper))
    return part.model_copy(update={"lower": low, "estimate": middle, "upper": high})


def _kv_type(shape: ModelShape, serving: Serving) -> str:
    """The type by its own name; empty where neither the setting nor the config says it."""
    if serving.kv_type != "auto":
        return serving.kv_type
    engine = ENGINES.get(serving.engine)
    by_itself = engine.kv_types[0] if engine else ""
    return by_itself or (serving.dtype if serving.dtype != "auto" else shape.dtype).lower()


def _weighable(shape: ModelShape, serving: Serving) -> bool:
    """Whether the bytes in memory follow from the bytes on disk."""
    found = shape.weights
    return not (
        serving.engine == "llama_cpp" and shape.format != "gguf" and found is not None and found.quantized
    )


def _room(machine: MachineMemory, policy: FitPolicy, device: str) -> tuple[int | None, int | None, str]:
    """All that could ever be had, what can be had now, and where."""
    own = [d for d in machine.devices if not d.unified]
    if device == "gpu" and own:
        totals = [d.total_bytes for d in own]
        frees = [d.free_bytes for d in own]
        total = None if None in totals else sum(t for t in totals if t is not None)
        # On one device it fits without question; over several only a launch can tell.
        free = None if None in frees else max(f for f in frees if f is not None)
        return total, _less(free, policy.reserve_bytes), ", ".join(d.name for d in own)
    if device == "gpu" and not machine.devices:
        return None, None, "no accelerator was found"
    caps = [c for c in (machine.total_bytes, machine.limit_bytes) if c is not None]
    left = [machine.available_bytes] if machine.available_bytes is not None else []
    if machine.limit_bytes is not None:
        left.append(max(0, machine.limit_bytes - (machine.limit_used_bytes or 0)))
    left += [d.free_bytes for d in machine.devices if device == "gpu" and d.free_bytes is not None]
    place = machine.limit_source if machine.limit_source and min(caps) == machine.limit_bytes else "memory"
    swap = machine.swap_bytes if policy.count_swap else 0
    return (min(caps) + swap if caps else None), _less(min(left, default=None), policy.reserve_bytes), place


def _less(free: int | None, reserve: int) -> int | None:
    return None if free is None else max(0, free - reserve)


def _word(
    estimate: MemoryEstimate, capacity: int | None, free: int | None, policy: FitPolicy, place: str
) -> tuple[FitVerdict, str]:
    lower, upper = estimate.lower_bytes, estimate.upper_bytes
    if capacity is not None and lower > capacity:
        exact = f" ({lower:,} of {capacity:,} bytes)" if size(lower) == size(capacity) else ""
        return FitVerdict.CANNOT, f"at least {size(lower)}, {place} has {size(capacity)}{exact}"
    if estimate.unknown:
        return FitVerdict.UNKNOWN, f"not known: {'; '.join(estimate.unknown)}"
    if capacity is None or free is None or upper is None:
        return FitVerdict.UNKNOWN, f"how much memory there is cannot be told ({place})"
    allowed = int(free * (1 - policy.margin_frac))
    if upper <= allowed:
        return FitVerdict.FITS, f"at most {size(upper)} of {size(free)} that are free"
    return (
        FitVerdict.UNCERTAIN,
        f"{size(lower)} to {size(upper)}, {size(free)} are free: only a launch can tell",
    )
