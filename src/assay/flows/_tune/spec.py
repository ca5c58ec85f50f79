"""The spec of a tuning study: the whole question, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from assay.core.base import Noun, SpecPath
from assay.core.load import Length, PointPlan, ServiceLevels, Workload
from assay.core.study import AdapterRef, flat_ref
from assay.core.tuning import Knob, RacePolicy
from assay.gates.fit import FitPolicy

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
REQUESTS_EACH = 5
"""Requests of a load point for each one in flight: fewer say more about its ramps than about the server."""
FEWEST_REQUESTS = 8
PLACES = frozenset({"host", "port", "ready_timeout_s"})
"""Options of an engine that say where and how long it is waited for, not how it serves."""


def _model(value: Any) -> Any:
    """`models/7b.gguf` is short for a model of that path and file name."""
    if isinstance(value, str):
        return {"name": value.rstrip("/").rpartition("/")[2].removesuffix(".gguf"), "path": value}
    return value


def _knobs(value: Any) -> Any:
    """`{slots: [4, 8]}` → knobs, the first value the default."""
    if isinstance(value, Mapping):
        empty = [str(k) for k, v in value.items() if isinstance(v, list | tuple) and not v]
        if empty:
            raise ValueError(f"knob {empty[0]!r} has no value; name one or more, the default first")
        return tuple(
            {"name": k, "values": tuple(v) if isinstance(v, list | tuple) else (v,)} for k, v in value.items()
        )
    return value


class ModelRef(Noun):
    """One candidate model."""

    name: str = Field(pattern=NAME)
    """What people call it."""
    path: SpecPath
    """GGUF file or checkpoint folder."""
    digest: str = ""
    """Of its files. Filled in when the spec is read."""
    size_bytes: int = Field(default=0, ge=0)
    """Filled in when the spec is read."""


class TuneLoad(Noun):
    """The load points of each launch."""

    concurrency: tuple[int, ...] | None = None
    """Closed loop: so many in flight, one point each; null = 1 and 4, unless an open loop is named. The best point that
    keeps the service levels counts."""
    rate_rps: tuple[float, ...] = ()
    """Open loop instead: requests begun per second, one point each."""
    trace: SpecPath | None = None
    """Open loop as recorded instead: JSON lines with `timestamp_s` and, as far as known, `prompt_tokens` and
    `output_tokens`. One point."""
    trace_digest: str = ""
    """Of that file. Filled in when the spec is read."""
    speed: float = Field(default=1.0, gt=0)
    """How much faster than recorded the trace is played."""
    requests: int | None = Field(default=None, ge=2)
    """Measured requests of a point; null = 5 for each one in flight, at least 8."""
    duration_s: float | None = Field(default=None, gt=0)
    """Longest time of a point."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    """A request that takes longer has failed."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.in_flight and not self.rate_rps and not self.trace:
            raise ValueError("name at least one load point: `concurrency` or `rate_rps`")
        given = [k for k in ("concurrency", "rate_rps", "trace") if getattr(self, k)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'`{k}`' for k in given)} both say when requests come: name one")
        if any(c < 1 for c in self.in_flight) or any(r <= 0 for r in self.rate_rps):
            raise ValueError("load points are above 0")
        return self

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The points of a closed loop; none where an open loop is named."""
        if self.concurrency is None:
            return () if self.rate_rps or self.trace else (1, 4)
        return self.concurrency

    @property
    def most_in_flight(self) -> int | None:
        """Requests in flight at most; None where an open loop decides."""
        return max(self.in_flight, default=None)

    def points(self) -> tuple[PointPlan, ...]:
        """As the load client takes them."""
        plans: list[dict[str, Any]]
        if self.trace:
            plans = [{"arrivals": {"kind": "trace", "speed": self.speed}, "requests": self.requests}]
        elif self.rate_rps:
            plans = [
                {"arrivals": {"kind": "poisson", "rate_rps": r}, "requests": self.requests or 60}
                for r in self.rate_rps
            ]
        else:
            plans = [
                {
                    "arrivals": {"kind": "closed", "concurrency": c},
                    "requests": self.requests or max(FEWEST_REQUESTS, REQUESTS_EACH * c),
                }
                for c in self.in_flight
            ]
        return tuple(PointPlan.model_validate({**p, "duration_s": self.duration_s}) for p in plans)


class TuneWorkload(Noun):
    """What each request looks like; see the load client."""

    api: Literal["chat", "completions"] = "completions"
    prompt_tokens: Length | None = None
    """null = half of the context."""
    output_tokens: Length = Length(mean=32)
    shared_prefix_frac: float = Field(default=0.0, ge=0, le=1)
    shared_prefixes: int = Field(default=1, ge=1)
    turns: int = Field(default=1, ge=1)
    think_time_s: float = Field(default=0.0, ge=0)
    length_control: Literal["auto", "ignore_eos", "generation_config", "none"] = "auto"
    extra_body: Mapping[str, JsonValue] = Field(default_factory=dict)

    def at(self, context: int, target: int, seed: int) -> Workload:
        """The workload at a context: prompts grow with it, answers do not."""
        given = self.to_json()
        length = self.prompt_tokens
        mean = context / 2 if length is None else length.mean * context / target
        shape = {"mean": max(1.0, round(mean))} if length is None or context != target else length.to_json()
        return Workload.model_validate({**given, "prompt_tokens": shape, "seed": seed})


class TuneBudget(Noun):
    """What the study may use."""

    max_duration_s: float | None = Field(default=7200.0, gt=0)
    """Seconds of launches; then the best so far is told, marked partial."""
    disk_bytes: int | None = Field(default=None, gt=0)


class TuneSpec(Noun):
    """The whole question, as one YAML file."""

    schema_: Literal["tune/1"] = Field(alias="schema")
    """Version of this format."""
    name: str = Field(default="tune", pattern=NAME)
    """Name of the study; ids are made from it."""
    models: tuple[Annotated[ModelRef, BeforeValidator(_model)], ...] = Field(min_length=1)
    """Candidates, the most wanted first: this order is the contract. Usually the largest comes first."""
    engine: AdapterRef
    """How they are served: a serve kind, with the options that all settings share."""
    contexts: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(2048,), min_length=1)
    """Tokens of one request, prompt and answer. The first is the target; at the others the chosen setting is
    measured at the end."""
    context_knob: str = "context_tokens"
    """Option of the engine that holds the context; empty = it has none."""
    knobs: Annotated[tuple[Knob, ...], BeforeValidator(_knobs)] = ()
    """Options of the engine and their values; the first of each is the default."""
    workload: TuneWorkload = TuneWorkload()
    """What each request looks like."""
    load: TuneLoad = TuneLoad()
    """How requests come."""
    service_levels: ServiceLevels = ServiceLevels()
    """Limits such as `{ttft_p95_ms: 2000, tpot_p95_ms: 80}`; a setting that misses one is not feasible."""
    objective: Literal["biggest_fit", "throughput"] = "biggest_fit"
    """`biggest_fit`: the first model that serves, then its fastest setting; `throughput`: the fastest of all."""
    failed_frac: float = Field(default=0.0, ge=0, lt=1)
    """Share of requests of a load point that may fail."""
    race: RacePolicy = RacePolicy()
    """The rule that chooses."""
    fit: FitPolicy = FitPolicy()
    """What memory a model may take; only what cannot fit is left out before a launch."""
    apply: AdapterRef = AdapterRef(kind="none")
    """What happens to the recommendation."""
    apply_on_accept: bool = False
    """False leaves it to `assay apply`."""
    budget: TuneBudget = TuneBudget()
    """What the study may use."""
    conflicts: Literal["refuse", "warn", "ignore"] = "refuse"
    """What to do where another server stands in the way (a listener on the port, an engine, a managed service):
    `refuse` to begin, `warn` and go on, or `ignore` it without looking. Whatever shares the machine shares its speed."""
    seed: int = Field(default=0, ge=0)
    """Seed of orders and prompts."""
    pruned: Mapping[str, str] = Field(default_factory=dict)
    """Setting → why it cannot fit. Filled in when the spec is read."""
    fits: Mapping[str, str] = Field(default_factory=dict)
    """Model → how its default setting stands before any launch. Filled in when the spec is read."""
    remarks: tuple[str, ...] = ()
    """Known traps that the settings walk into. Filled in when the spec is read."""

    _flat = field_validator("engine", "apply", mode="before")(flat_ref)

    @property
    def source(self) -> str:
        """The first model: what the study pins."""
        return self.models[0].path

    @model_validator(mode="after")
    def _different(self) -> Self:
        for what, names in (
            ("model", [m.name for m in self.models]),
            ("knob", [k.name for k in self.knobs]),
            ("context", [str(c) for c in self.contexts]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what} listed twice: {', '.join(twice)}")
        if self.context_knob in {k.name for k in self.knobs}:
            raise ValueError(
                f"`{self.context_knob}` is no knob: a larger context is not faster; list it in `contexts`"
            )
        if not self.context_knob and len(self.contexts) > 1:
            raise ValueError("several `contexts` need a `context_knob`")
        placed = [k.name for k in self.knobs if k.name in PLACES]
        if placed:
            raise ValueError(f"`{placed[0]}` is no knob: no server is faster for it; set it under `engine`")
        if self.service_levels.goodput_frac is not None and not self.service_levels.levels:
            raise ValueError(
                "`goodput_frac` counts requests that keep the limits: name one, such as `ttft_p95_ms`"
            )
        return self

    @model_validator(mode="after")
    def _prompts_fit(self) -> Self:
        out, turns = self.workload.output_tokens, self.workload.turns
        for context in self.contexts:
            prompt = self.workload.at(context, self.contexts[0], 0).prompt_tokens
            need = prompt.mean + out.mean * turns
            if need > context:
                raise ValueError(
                    f"prompt and answer take about {need:g} tokens, more than the context of {context}"
                )
        return self
