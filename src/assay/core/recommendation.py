"""Recommendation: which model to serve with which settings, how sure that is, and on what it rests. Pure.

The document of `schema: recommendation/1` holds the fields of the source's contract (its version stands in
`spec_version`) and more beside them; within a number fields are only added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.canon import digest

SPEC_VERSION = "0.3"
"""Version of the source's contract whose fields are kept."""


class Standing(StrEnum):
    """How well the choice is settled. Closed."""

    RESOLVED = "resolved"
    """Proven: no other setting is better by more than the tolerance."""
    TIED = "tied"
    """Several are equal within the tolerance; the rule's order chose among them."""
    UNRESOLVED = "unresolved"
    """The budget ended before it was settled."""


class ExitReason(StrEnum):
    """How a tuning run ended. `running` and `crashed` say that it has no end of its own. Closed."""

    RUNNING = "running"
    CRASHED = "crashed"
    OK = "ok"
    INTERRUPTED = "interrupted"
    NO_FEASIBLE = "no_feasible"
    BUDGET_NO_MODEL = "budget_exhausted_no_model_selected"
    BUDGET_PARTIAL = "budget_exhausted_with_partial_recommendation"
    PRE_WARM_INTEGRITY = "pre_warm_integrity_failure"
    PROVIDER_CONFLICT = "provider_conflict"
    CONFIG_ERROR = "config_error"
    INTERNAL_ERROR = "internal_error"


class Knobs(Noun):
    """The three settings that the source knows, by its names. None = the flag is left away."""

    kv_bits: Literal[4, 8] | None = None
    """Bits of the KV cache; None = as the engine keeps it."""
    max_concurrency_override: int | None = None
    """Requests served at once."""
    max_context_override: int | None = None
    """Tokens of one request, prompt and output."""


class Machine(Noun):
    """Where it was measured."""

    ram_gb: int = Field(ge=0)
    """Memory in GiB, rounded; of the accelerator where it serves from its own."""
    chip: str
    os_version: str = ""
    binary_version: str = ""
    """The engine's build."""
    cpus: int | None = None
    driver: str = ""
    """Driver of the accelerator; empty without one."""


class Inputs(Noun):
    """What was asked for."""

    target_context: int = Field(ge=1)
    """Tokens that must fit into one request."""
    candidate_models: tuple[str, ...]
    """In the operator's order, which is the contract."""
    stage1_replicates: int = Field(default=1, ge=1)
    stage2_replicates: int = Field(default=3, ge=1)
    gate_ttft_ms: float | None = None
    """Limit of p95 TTFT; None = no such limit."""
    tps_tie_epsilon: float = Field(default=0.02, ge=0)
    """Relative difference of throughput that counts as none."""
    service_levels: tuple[str, ...] = ()
    """In words, such as `ttft p95 <= 2000 ms`."""
    objective: str = ""
    policy: str = ""
    """Rule that chose."""


class Choice(Noun):
    """A model with its settings and what was measured of it."""

    model: str
    target_context: int = Field(ge=1)
    knobs: Knobs = Knobs()
    tps_median: float | None = None
    """Output tokens per second; None = not measured."""
    ttft_p95_ms: float | None = None
    """None = not measured, or not enough requests to bound a 95th percentile."""
    replicates: int = Field(default=0, ge=0)
    """Valid readings behind the figures."""
    serve_command: str = ""
    """For a shell."""
    partial: bool = False
    """The budget or the user ended the search."""
    name: str = ""
    """What the study calls this candidate."""
    path: str = ""
    """Where the model lies, as the spec names it: what a server's own file wants to be told."""
    engine: str = ""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """All settings by the names of the engine's adapter."""
    launches: int | None = None
    """Server starts that the readings are spread over."""
    tps: float | None = None
    """The estimate, with the machine's drift taken out; None = the median is meant."""
    tps_low: float | None = None
    tps_high: float | None = None
    """Ends of the interval around the estimate."""
    level: float | None = None
    """Two-sided confidence level of that interval."""
    gain: float | None = None
    """Gain of throughput over the default, as a share of it, from readings that chose nothing; 0.1 = 10 %."""
    gain_low: float | None = None
    gain_high: float | None = None


class Infeasible(Noun):
    """A model, or a setting of one, that cannot serve what was asked."""

    model: str
    rank: int = Field(ge=1)
    """Place of the model in the operator's order."""
    reason: str
    settings: Mapping[str, Any] = Field(default_factory=dict)
    failure_class: str = ""


class Basis(Noun):
    """What the measurements rest on. If one of these changes, they say nothing certain any more."""

    engine: str
    engine_build: str
    driver: str = ""
    os: str = ""
    machine: str
    """Chip and memory."""
    weights: str
    """Digest of the checkpoint's bytes."""
    workload: str
    """Digest of the workload and its seeds."""
    service_levels: str = ""
    """Digest of the limits."""
    command: tuple[str, ...] = ()
    """Command line of the server without program, port and paths."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """Variables that the engine reads, by an allow-list."""
    rule: str = ""
    """The deciding rule and its version."""

    @property
    def fingerprint(self) -> str:
        """`sha256:<hex>` over all of it."""
        return self.content_digest


class Change(Noun):
    """Something that is not as it was when it was measured."""

    field: str
    then: str
    now: str

    @property
    def text(self) -> str:
        """Such as `engine_build was 1.6.0, is 1.6.1`."""
        return f"{self.field} was {self.then or 'not known'}, is {self.now or 'not known'}"


class Recommendation(Noun):
    """The answer of a tuning study."""

    schema_: Literal["recommendation/1"] = Field(default="recommendation/1", alias="schema")
    spec_version: str = SPEC_VERSION
    run_id: str
    started_at: str
    """UTC, ISO 8601."""
    ended_at: str | None = None
    exit_reason: ExitReason = ExitReason.RUNNING
    machine: Machine
    inputs: Inputs
    recommendation: Choice | None = None
    """What may be relied on: the default unless another was proven better. None = nothing serves."""
    standing: Standing | None = None
    """None without a recommendation."""
    tie_set: tuple[str, ...] = ()
    """Names of the candidates that are equal to it within the tolerance, itself included."""
    best_estimate: Choice | None = None
    """The highest estimate, proven or not."""
    sequential_band: Choice | None = None
    """What the source's rule answers from the same readings."""
    alternates: tuple[str, ...] = ()
    """Smaller models, by name alone: nothing was measured of them."""
    infeasible: tuple[Infeasible, ...] = ()
    noise_frac: float | None = None
    """Standard deviation of the logarithm of throughput between launches of the default."""
    recipe_hash: str | None = None
    """The source's hash of the recipe; None without a recommendation."""
    basis: Basis | None = None
    fingerprint: str | None = None
    """Of `basis`."""
    db_path: str = ""

    model_config = Noun.model_config | {"populate_by_name": True}

    @property
    def settled(self) -> bool:
        """It may be applied without a second thought."""
        chosen = self.recommendation
        return chosen is not None and not chosen.partial and self.standing is not Standing.UNRESOLVED


def sealed(found: Recommendation) -> Recommendation:
    """The recommendation with the hashes that follow from its fields."""
    chosen = found.recommendation
    recipe = None
    if chosen is not None:
        recipe = recipe_hash(
            binary_version=found.machine.binary_version,
            candidate_models=found.inputs.candidate_models,
            chip=found.machine.chip,
            knobs=chosen.knobs,
            model=chosen.model,
            ram_gb=found.machine.ram_gb,
            target_context=chosen.target_context,
        )
    print_ = None if found.basis is None else found.basis.fingerprint
    return found.model_copy(update={"recipe_hash": recipe, "fingerprint": print_})


def recipe_hash(
    *,
    binary_version: str,
    candidate_models: Sequence[str],
    chip: str,
    knobs: Knobs,
    model: str,
    ram_gb: int,
    target_context: int,
) -> str:
    """The source's hash: `sha256:<hex>` over the RFC 8785 form of exactly these seven fields.

    Run, times, system, replicates, gate, tolerance and all that was measured are outside of it.
    """
    return digest(
        {
            "binary_version": binary_version,
            "candidate_models": list(candidate_models),
            "chip": chip,
            "knobs": knobs.to_json(),
            "model": model,
            "ram_gb": ram_gb,
            "target_context": target_context,
        }
    )


KV_BITS: Mapping[str, Literal[4, 8]] = {
    "q8_0": 8, "int8": 8, "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "int8_per_token_head": 8,
    "q4_0": 4, "q4_1": 4, "iq4_nl": 4, "int4": 4, "nvfp4": 4, "fp4_e2m1": 4, "int4_per_token_head": 4,
}  # fmt: skip
"""KV cache type → the source's `kv_bits`; every other type is `unset` to it."""


def source_knobs(settings: Mapping[str, Any]) -> Knobs:
    """An adapter's settings as the source's three knobs; what it has no word for stays out of them."""
    kind = str(settings.get("kv_type") or settings.get("kv_dtype") or "").lower()
    slots, context = settings.get("slots"), settings.get("context_tokens")
    return Knobs(
        kv_bits=KV_BITS.get(kind),
        max_concurrency_override=slots if isinstance(slots, int) else None,
        max_context_override=context if isinstance(context, int) else None,
    )


def alternates(candidates: Sequence[str], chosen: str, bytes_of: Mapping[str, int | None]) -> tuple[str, ...]:
    """The candidates that are known to be smaller than the chosen one, largest first.

    By size and not by place in the list: the operator's order need not be one of size.

    Args:
        candidates: in the operator's order.
        chosen: the recommended one.
        bytes_of: candidate → bytes of its weights; None = not known.
    """
    own = bytes_of.get(chosen)
    if own is None:
        return ()
    smaller = {n: size for n in candidates if (size := bytes_of.get(n)) is not None and size < own}
    return tuple(sorted(smaller, key=lambda n: -smaller[n]))


def changes(then: Basis, now: Basis) -> tuple[Change, ...]:
    """What makes a recommendation stale; empty = it rests on what is here now."""
    before, after = then.to_json(), now.to_json()
    return tuple(
        Change(field=name, then=_text(before[name]), now=_text(after[name]))
        for name in Basis.model_fields
        if before[name] != after[name]
    )


def whole_gib(total_bytes: float) -> int:
    """Memory as the source writes it: GiB, rounded to the nearest."""
    return math.floor(total_bytes / 2**30 + 0.5)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in sorted(value.items()))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
