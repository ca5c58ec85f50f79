"""What a load test asks for and what it measured: workload, load, service levels, one record a request, one point."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.evidence import Evidence

_LEVEL_KEY = re.compile(r"(ttft|tpot|itl|e2e)(?:_p(\d{1,2}(?:\.\d+)?))?_ms")


class Metric(StrEnum):
    """A latency of one request. Names as the trade uses them; all in milliseconds."""

    TTFT = "ttft"
    """Time to first token: from the intended send time to the first text."""
    TPOT = "tpot"
    """Time per output token after the first: (last - first) / (tokens - 1)."""
    ITL = "itl"
    """Gap between two neighbouring pieces of text; one token each where the server streams so."""
    E2E = "e2e"
    """From the intended send time to the end of the answer."""


class RequestError(StrEnum):
    """Why a request failed. Closed."""

    CONNECT = "connect"
    """No connection: refused, unreachable, TLS."""
    TIMEOUT = "timeout"
    RESET = "reset"
    """The connection broke before the answer ended."""
    OVERLOAD = "overload"
    """429 or 503: the server turns work away."""
    CONTEXT = "context"
    """The prompt does not fit the server's context."""
    AUTH = "auth"
    """401 or 403."""
    REFUSED = "refused"
    """Another 4xx: the request itself is not taken."""
    SERVER = "server"
    """5xx."""
    STREAM = "stream"
    """An error object inside a stream that began with 200."""
    PROTOCOL = "protocol"
    """No HTTP, no event stream, no JSON."""
    EMPTY = "empty"
    """200, and no text at all."""
    OTHER = "other"
    """Another load tool says that it failed, and not why."""
    CANCELLED = "cancelled"
    """We stopped it: interrupted, or the run was over. Counts for nothing."""


class TokenSource(StrEnum):
    """Where a count of output tokens comes from, most trusted first."""

    USAGE = "usage"
    """The server's own `usage` (or llama.cpp's `timings`)."""
    TOKENIZER = "tokenizer"
    """Counted here with the tokenizer file that was given."""
    CHUNKS = "chunks"
    """Pieces of the stream: an estimate, too low where a piece holds several tokens."""


class PointState(StrEnum):
    """What a load point is worth. Only VALID counts."""

    VALID = "valid"
    PARTIAL = "partial"
    """Interrupted, or out of time: what was measured until then."""
    SATURATED = "saturated"
    """Open loop beyond the server's capacity: no steady state, hence no percentiles."""
    CLIENT_LIMITED = "client_limited"
    """This client was too slow: the figures say more about it than about the server."""
    CACHED = "cached"
    """Prompts that must be new were found in a prefix cache: their TTFT means nothing."""
    FAILED = "failed"
    """No request, or too few, came to a good end."""


class Length(Noun):
    """Distribution of a number of tokens. `128`, `uniform:64-256`, `normal:512,128` and `lognormal:512,0.8` mean one."""

    kind: Literal["fixed", "uniform", "normal", "lognormal"] = "fixed"
    mean: float = Field(gt=0)
    """Mean; of a log-normal its median."""
    spread: float = Field(default=0.0, ge=0)
    """Standard deviation in tokens; of a log-normal sigma of the logarithm."""
    low: int = Field(default=1, ge=1)
    """Fewest tokens."""
    high: int = Field(default=1 << 20, ge=1)
    """Most tokens."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"mean": value}
        return cls._parsed(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    @staticmethod
    def _parsed(text: str) -> Mapping[str, Any]:
        number = r"(\d+(?:\.\d+)?)"
        if match := re.fullmatch(number, text):
            return {"mean": float(match[1])}
        if match := re.fullmatch(r"uniform:(\d+)-(\d+)", text):
            low, high = int(match[1]), int(match[2])
            return {"kind": "uniform", "mean": (low + high) / 2, "low": low, "high": high}
        if match := re.fullmatch(rf"(normal|lognormal):{number},{number}", text):
            return {"kind": match[1], "mean": float(match[2]), "spread": float(match[3])}
        raise ValueError(
            f"{text!r} is no length: write 128, uniform:64-256, normal:512,128 or lognormal:512,0.8"
        )

    def draw(self, uniform: float, normal: float) -> int:
        """The length for a uniform (0..1) and a standard normal draw."""
        drawn = self.mean
        if self.kind == "uniform":
            drawn = self.low + math.floor(uniform * (self.high - self.low + 1))
        elif self.kind == "normal":
            drawn = self.mean + self.spread * normal
        elif self.kind == "lognormal":
            drawn = self.mean * math.exp(min(100.0, self.spread * normal))
        return min(self.high, max(self.low, round(drawn)))


class Workload(Noun):
    """What each request looks like."""

    api: Literal["chat", "completions"] = "chat"
    prompt_tokens: Length = Length(mean=128)
    """Tokens of a prompt, as the server counts them."""
    output_tokens: Length = Length(mean=64)
    """Tokens asked for. Their number is forced where the server can."""
    shared_prefix_frac: float = Field(default=0.0, ge=0, le=1)
    """Share of each prompt that other prompts begin with too; the rest is new in every request."""
    shared_prefixes: int = Field(default=1, ge=1)
    """How many different shared prefixes there are."""
    turns: int = Field(default=1, ge=1)
    """Requests of one conversation; each sends all before it, answers included."""
    think_time_s: float = Field(default=0.0, ge=0)
    """Pause between an answer and the next turn."""
    length_control: Literal["auto", "ignore_eos", "generation_config", "none"] = "auto"
    """How the full output length is forced; `auto` tries what the server takes."""
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """Fields added to every request."""
    seed: int = Field(default=0, ge=0)


class Arrivals(Noun):
    """When requests are sent: a number of them kept in flight (closed loop), or a schedule (open loop)."""

    kind: Literal["closed", "constant", "poisson", "gamma", "trace"] = "closed"
    concurrency: int | None = Field(default=None, ge=1)
    """Closed loop: conversations in flight at once."""
    rate_rps: float | None = Field(default=None, gt=0)
    """Open loop: conversations begun per second, on average."""
    burstiness: float = Field(default=1.0, gt=0)
    """Shape of the gamma distribution of gaps: 1 is Poisson, below 1 comes in bursts, above 1 is calmer."""
    speed: float = Field(default=1.0, gt=0)
    """Trace: how much faster than recorded it is played."""

    @model_validator(mode="after")
    def _one_kind_of_load(self) -> Self:
        wanted = {"closed": (True, False), "trace": (False, False)}.get(self.kind, (False, True))
        if (self.concurrency is not None, self.rate_rps is not None) != wanted:
            needs = {"closed": "concurrency alone", "trace": "neither concurrency nor rate_rps"}
            raise ValueError(
                f"{self.kind} arrivals take {needs.get(self.kind, 'rate_rps alone')}: a rate under a cap of "
                "concurrency would silently become a closed loop under overload"
            )
        return self

    @property
    def open_loop(self) -> bool:
        """Whether requests are sent on schedule, however the server does."""
        return self.kind != "closed"

    @property
    def text(self) -> str:
        """For people, such as `8 in flight` or `12.5/s poisson`."""
        if self.kind == "closed":
            return f"{self.concurrency} in flight"
        return "trace" if self.kind == "trace" else f"{self.rate_rps:g}/s {self.kind}"


class PointPlan(Noun):
    """One load point: how requests come, and when it is over."""

    arrivals: Arrivals
    requests: int | None = Field(default=None, ge=1)
    """Measured requests; null = until `duration_s`."""
    duration_s: float | None = Field(default=None, gt=0)
    """Seconds in which requests are sent; null = until `requests`. Of both, whichever ends first."""
    warmup_requests: int | None = Field(default=None, ge=0)
    """Requests sent first and left out; null = as many as are in flight, at least 2."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.requests is None and self.duration_s is None and self.arrivals.kind != "trace":
            raise ValueError("requests or duration_s must say when the point is over")
        return self


class ServiceLevel(Noun):
    """A promise: this percentile of a latency stays within a limit."""

    metric: Metric
    q: float = Field(default=0.95, gt=0, le=0.9999)
    """Share of the requests that must keep the limit."""
    limit_ms: float = Field(gt=0)

    @property
    def text(self) -> str:
        """Such as `ttft p95 <= 2000 ms`."""
        return f"{self.metric.value} p{self.q * 100:g} <= {self.limit_ms:g} ms"


class ServiceLevels(Noun):
    """What good service means. A request is good when it keeps every limit."""

    levels: tuple[ServiceLevel, ...] = ()
    goodput_frac: float | None = Field(default=None, gt=0, le=1)
    """Share of all requests that must be good; null = not asked."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`{ttft_p95_ms: 2000, e2e_ms: 9000}` is the short form; without a percentile p95 is meant."""
        if not isinstance(value, Mapping):
            return value
        if "levels" in value:
            # what a validator hands on counts as Python's, not as JSON's: lists and words must be converted here
            held = tuple(ServiceLevel.model_validate(x) for x in value["levels"])
            return {**value, "levels": held}
        levels: list[ServiceLevel] = []
        rest: dict[str, Any] = {}
        for key, limit in value.items():
            match = _LEVEL_KEY.fullmatch(str(key))
            if match is not None and isinstance(limit, int | float) and not isinstance(limit, bool):
                share = round(float(match[2] or 95) / 100, 6)
                levels.append(ServiceLevel(metric=Metric(match[1]), q=share, limit_ms=limit))
            elif str(key) in cls.model_fields:
                rest[str(key)] = limit
            else:
                allowed = "ttft, tpot, itl or e2e, with a percentile, in milliseconds: `ttft_p95_ms: 2000`"
                raise ValueError(f"`{key}: {limit}` is no limit (allowed: {allowed})")
        return {"levels": tuple(levels), **rest} if levels else value


class RequestRecord(Noun):
    """What became of one request. Times are seconds on a monotonic clock since the point began."""

    index: int
    session: int
    """Conversation."""
    turn: int = 0
    warmup: bool = False
    intended_s: float
    """When the schedule wanted it sent; all latencies count from here."""
    sent_s: float | None = None
    """When it was really sent."""
    first_s: float | None = None
    """First non-empty text, reasoning included; a role alone is none."""
    last_s: float | None = None
    end_s: float | None = None
    error: RequestError | None = None
    status: int | None = None
    """HTTP status."""
    detail: str = ""
    """The server's own words about an error."""
    prompt_target: int = 0
    output_target: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    token_source: TokenSource | None = None
    chunks: int = 0
    """Pieces of text, and of reasoning, that came."""
    finish_reason: str = ""
    gaps_ms: tuple[float, ...] = ()
    """Times between neighbouring pieces."""
    reconnected: bool = False
    """The kept-alive connection was gone; it was sent again on a new one."""

    @property
    def ok(self) -> bool:
        """It ended as it should."""
        return self.error is None

    def latency_ms(self, metric: Metric) -> float | None:
        """One latency of this request (of ITL the mean gap); None where it has none."""
        if self.error is not None or self.first_s is None or self.last_s is None or self.end_s is None:
            return None
        if metric is Metric.TTFT:
            return (self.first_s - self.intended_s) * 1e3
        if metric is Metric.E2E:
            return (self.end_s - self.intended_s) * 1e3
        if metric is Metric.ITL:
            return sum(self.gaps_ms) / len(self.gaps_ms) if self.gaps_ms else None
        tokens = self.output_tokens or 0
        return (self.last_s - self.first_s) * 1e3 / (tokens - 1) if tokens > 1 else None


class Percentile(Noun):
    """A percentile with what it rests on. Without a value there were not enough samples."""

    q: float
    value_ms: float | None
    """None = not enough samples to bound it."""
    low_ms: float | None = None
    high_ms: float | None = None
    """Ends of the 95 % interval that orders alone give; None = open."""
    n: int
    needed: int
    """Samples from which on the percentile can be bounded at all."""


class Latency(Noun):
    """One latency over the good requests of a point."""

    metric: Metric
    n: int
    mean_ms: float
    min_ms: float
    max_ms: float
    percentiles: tuple[Percentile, ...] = ()

    def percentile(self, q: float) -> Percentile | None:
        """The percentile of that share, or None."""
        return next((p for p in self.percentiles if abs(p.q - q) < 1e-9), None)


class LevelResult(Noun):
    """How a service level stands, by an exact binomial test at 95 %."""

    level: ServiceLevel
    verdict: Literal["met", "missed", "undecided"]
    late: int
    """Requests beyond the limit; failed ones count as late."""
    n: int
    needed: int
    """Requests needed to call it met, had none of the further ones been late."""


class ClientHealth(Noun):
    """Whether the client itself kept up."""

    cpu_frac: float
    """CPU of this process per wall second: 1 = a whole core."""
    loop_lag_p99_ms: float
    """How long an event that arrives at a random moment waits for this client, 99 of 100 times less."""
    loop_lag_max_ms: float
    send_lag_p99_ms: float
    """How late requests were sent, behind the schedule."""
    cpu_us_per_chunk: float | None = None


class LoadPoint(Noun):
    """What one load point measured."""

    plan: PointPlan
    state: PointState
    reasons: tuple[str, ...] = ()
    """Why it is not valid."""
    remarks: tuple[str, ...] = ()
    """What a reader should know and what does not make it invalid."""
    stopped_by: str
    """`requests`, `duration`, `saturated`, `errors`, `interrupted`, `budget`."""
    started: str
    """UTC, ISO 8601: the one wall-clock time; everything else is monotonic."""
    wall_s: float
    window_s: float
    """Seconds over which throughput was taken."""
    window: Literal["steady", "whole"]
    """`steady` = while requests kept coming; `whole` = ramps included, as the point was too short."""
    sent: int
    completed: int
    failed: int
    warmup: int
    offered_rps: float | None = None
    """Requests per second that the schedule wanted; None in a closed loop."""
    achieved_rps: float | None = None
    """Requests per second that came to a good end."""
    in_flight_mean: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens found in a prefix cache; None = the server does not say."""
    output_tokens: int = 0
    token_source: TokenSource | None = None
    """The least trusted source among the requests."""
    output_tps: float | None = None
    """Output tokens per second."""
    total_tps: float | None = None
    """Prompt and output tokens per second."""
    latencies: tuple[Latency, ...] = ()
    ttft_from_send_p50_ms: float | None = None
    """Median TTFT from the real send time, to be set beside the median from the intended one."""
    itl_per_token: bool = False
    """Each piece held one token; otherwise ITL is the gap between pieces."""
    short_outputs: int = 0
    """Answers that ended with fewer tokens than asked for, and not by the model's own will."""
    levels: tuple[LevelResult, ...] = ()
    good: int | None = None
    """Requests that kept every limit; None without limits."""
    goodput_rps: float | None = None
    errors: Mapping[RequestError, int] = Field(default_factory=dict)
    error_texts: tuple[str, ...] = ()
    """At most three distinct ones."""
    client: ClientHealth | None = None

    @property
    def valid(self) -> bool:
        """Whether it may be compared."""
        return self.state is PointState.VALID

    def latency(self, metric: Metric) -> Latency | None:
        """The latency of that name, or None."""
        return next((x for x in self.latencies if x.metric is metric), None)


class Load(Evidence):
    """What a load test of one endpoint measured."""

    kind: Literal["load"] = "load"
    client: str
    """Which load client, with its version."""
    workload: Workload
    service_levels: ServiceLevels = ServiceLevels()
    points: tuple[LoadPoint, ...] = ()
