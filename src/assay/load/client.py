"""The load client: learns what a server takes, makes prompts of the wanted length, and measures load points.

One client holds one event loop and its connections over any number of points, so that a point costs nothing but
its own requests.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from assay import __version__
from assay.core.errors import ComponentFailed, Interrupted, UsageError
from assay.core.load import (
    ClientHealth,
    LoadPoint,
    PointPlan,
    RequestError,
    RequestRecord,
    ServiceLevels,
    Workload,
)
from assay.core.vocabulary import FailureClass
from assay.load.arrivals import TraceRow
from assay.load.connection import Exchange, Pool
from assay.load.futility import Futility
from assay.load.loop import MeasuringLoop
from assay.load.records import records
from assay.load.requests import WORDS, Ask, Calibration, Requests, Sized, sized
from assay.load.run import PointRun, Runner, stopping_signals
from assay.load.summary import Circumstances, summarize
from assay.load.tokens import token_counter

NAME = f"assay {__version__}"
_CONTROLS = ("ignore_eos", "generation_config", "none")
_USABLE = (None, RequestError.EMPTY)


@dataclass(frozen=True)
class LoadTarget:
    """The server."""

    base_url: str
    """Up to and including `/v1`."""
    model: str = ""
    """The id that requests name; empty = the first that the server lists."""
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class ClientOptions:
    """How the client behaves; none of it changes what is asked."""

    request_timeout_s: float = 600.0
    reuse_connections: bool = True
    stop_when_saturated: bool = True
    """An open loop that piles up requests is ended early."""
    stop_when_infeasible: bool = False
    """A point that clearly misses a service level, or has too many errors, is ended early."""
    failed_frac: float = 0.0
    """Share of a point's requests that may fail before it is ended for that."""
    tokenizer: Path | None = None
    """Counts tokens where the server sends no usage."""
    trace: tuple[TraceRow, ...] = ()


class Measured(NamedTuple):
    """A load point and the requests it rests on."""

    point: LoadPoint
    records: tuple[RequestRecord, ...]


class LoadClient:
    """Measures load points against one server.

    Args:
        target: the server.
        workload: what each request looks like.
        levels: what good service means.
        options: how the client behaves.
        progress: told of requests ended and failed, about once a second.
    """

    def __init__(
        self,
        target: LoadTarget,
        workload: Workload | None = None,
        levels: ServiceLevels | None = None,
        options: ClientOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.workload = workload or Workload()
        self.levels = levels or ServiceLevels()
        self.options = options or ClientOptions()
        self.model = target.model
        self.facts: dict[str, Any] = {}
        """What was learnt of the server: length control, usage, how words become tokens."""
        self._target = target
        self._progress = progress
        self._counter = token_counter(self.options.tokenizer) if self.options.tokenizer else None
        self._loop = MeasuringLoop()
        try:
            self._pool = Pool(target.base_url, self._loop, reuse=self.options.reuse_connections)
        except BaseException:
            self._loop.close()
            raise
        self._requests: Requests | None = None
        self._sessions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and the loop."""
        if self._loop.is_closed():
            return
        self._pool.close()
        self._loop.run_until_complete(_breathe())
        self._loop.close()

    def prepare(self) -> Mapping[str, Any]:
        """Learn what the server takes and how long prompts must be made. Done by the first `measure` otherwise.

        Raises:
            ComponentFailed: if the server cannot be reached or takes no request; the class says why.
            Interrupted: if SIGINT or SIGTERM came.
        """
        if self._requests is None:
            task = self._loop.create_task(self._prepared())
            try:
                with stopping_signals(self._loop, task.cancel):
                    self._requests = self._loop.run_until_complete(task)
            except asyncio.CancelledError:
                raise Interrupted("a signal before the first request", where=self._target.base_url) from None
        return self.facts

    def measure(self, plan: PointPlan, limit_s: float | None = None) -> Measured:
        """Measure one load point.

        SIGINT and SIGTERM end it early: the point is then `partial` and `stopped_by` says `interrupted`.

        Args:
            plan: how requests come, and when it is over.
            limit_s: cut it short after this long, as `budget`.

        Raises:
            ComponentFailed: if the server takes no request at all.
        """
        self.prepare()
        assert self._requests is not None
        runner = Runner(
            pool=self._pool,
            requests=self._requests,
            plan=plan,
            first_index=self._sessions,
            timeout_s=self.options.request_timeout_s,
            limit_s=limit_s,
            keep_text=self._counter is not None,
            trace=self.options.trace,
            stop_when_saturated=self.options.stop_when_saturated,
            futility=self._futility(plan),
            progress=self._progress,
        )
        run = self._loop.run_until_complete(runner.run())
        leaks = self._leaks(run)
        rows = records(run, self._sessions, self._counter)
        self._sessions += runner.sessions
        return Measured(summarize(rows, self.levels, self._circumstances(run, rows, leaks)), rows)

    def _futility(self, plan: PointPlan) -> Futility | None:
        if not self.options.stop_when_infeasible:
            return None
        return Futility(self.levels, plan.requests, self.options.failed_frac)

    def _leaks(self, run: PointRun) -> tuple[str, ...]:
        """Stop tokens among the text of answers. Where nothing forced the length, such an answer has failed."""
        found = [o.exchange.reply for o in run.outcomes if o.exchange is not None and o.exchange.reply.leaked]
        if self.facts.get("length_control") == "none":
            for reply in found:
                what = f"a stop token is part of the text: {reply.leaked}"
                reply.fail(RequestError.PROTOCOL, what)
        return tuple(r.leaked for r in found)

    def _circumstances(
        self, run: PointRun, rows: tuple[RequestRecord, ...], leaks: tuple[str, ...]
    ) -> Circumstances:
        wall = max(1e-9, (run.end_ns - run.t0_ns) / 1e9)
        late = [(r.sent_s - r.intended_s) * 1e3 for r in rows if r.sent_s is not None and not r.reconnected]
        return Circumstances(
            plan=run.plan,
            started=run.started,
            wall_s=wall,
            stopped_by=run.stopped_by,
            offered_rps=run.offered_rps,
            client=ClientHealth(
                cpu_frac=run.cpu_s / wall,
                loop_lag_p99_ms=run.lag_p99_ms,
                loop_lag_max_ms=run.lag_max_ms,
                send_lag_p99_ms=float(np.quantile(late, 0.99)) if late else 0.0,
                cpu_us_per_chunk=run.cpu_s * 1e6 / run.pieces if run.pieces else None,
            ),
            shared_prefix_frac=self.workload.shared_prefix_frac,
            turns=self.workload.turns,
            leaks=leaks,
        )

    def _head(self, path: str, method: str = "POST") -> tuple[bytes, bytes]:
        lines = [
            f"{method} {self._pool.path}{path} HTTP/1.1",
            f"Host: {self._pool.authority}",
            f"User-Agent: assay/{__version__}",
            "Accept-Encoding: identity",
        ]
        if self._target.api_key:
            if not self._target.api_key.isprintable() or not self._target.api_key.isascii():
                raise UsageError(
                    "the API key holds characters that no header may", where=self._target.base_url
                )
            lines.append(f"Authorization: Bearer {self._target.api_key}")
        if method == "GET":
            return ("\r\n".join([*lines, "\r\n"])).encode(), b""
        lines += ["Accept: text/event-stream", "Content-Type: application/json", "Content-Length: "]
        return "\r\n".join(lines).encode(), b"\r\n\r\n"

    async def _prepared(self) -> Requests:
        if not self.model:
            self.model = await self._listed_model()
        route = "/chat/completions" if self.workload.api == "chat" else "/completions"
        head = self._head(route)
        wanted = self.workload.length_control
        controls = _CONTROLS if wanted == "auto" else (wanted,)
        refusal: Exchange | None = None
        for control, usage in [(c, u) for u in (True, False) for c in controls]:
            made = Requests(self.workload, self.model, head, Calibration(), control=control, usage=usage)
            ask, exchange = await self._tried(made, 8)
            if exchange.reply.error in _USABLE:
                self.facts = {"model": self.model, "length_control": control, "asks_usage": usage}
                few = exchange.reply.prompt_tokens
                small = sized(ask, few) if few is not None else None
                return await self._calibrated(made, head, small, control, usage=usage)
            refusal = exchange
            if exchange.reply.error not in (RequestError.REFUSED, RequestError.SERVER):
                break
        assert refusal is not None
        raise self._refused(refusal)

    async def _calibrated(
        self, made: Requests, head: tuple[bytes, bytes], few: Sized | None, control: str, *, usage: bool
    ) -> Requests:
        """Find how many words make the wanted tokens: from a tokenizer, or from two prompts' own usage."""
        calibration = Calibration()
        if self._counter is not None:
            text = " " + " ".join(WORDS)
            calibration = Calibration(self._counter(text) / len(WORDS), 0.0, "tokenizer")
        elif few is not None:
            wanted = max(24, round(self.workload.prompt_tokens.mean))
            for words in dict.fromkeys((min(512, wanted), min(64, wanted), 24)):
                ask, exchange = await self._tried(made, words)
                many = exchange.reply
                if (
                    many.error in _USABLE
                    and many.prompt_tokens is not None
                    and many.prompt_tokens > few.tokens
                ):
                    calibration = Calibration.between(few, sized(ask, many.prompt_tokens))
                    break
        self.facts |= {
            "usage": few is not None,
            "prompt_calibration": calibration.source,
            "tokens_per_word": round(calibration.per_word, 4),
            "template_tokens": round(calibration.fixed, 2),
        }
        return Requests(self.workload, self.model, head, calibration, control=control, usage=usage)

    async def _tried(self, made: Requests, words: int) -> tuple[Ask, Exchange]:
        """One small request outside of any measurement; its prompt is never used again."""
        self._sessions += 1
        ask = made.first(self._sessions + 1_000_000_000, words, 1)
        return ask, await self._sent(ask.data)

    async def _listed_model(self) -> str:
        exchange = await self._sent(self._head("/models", "GET")[0])
        if exchange.response.status != 200:
            raise self._refused(exchange)
        try:
            found = json.loads(exchange.body)["data"][0]["id"]
        except (ValueError, LookupError, TypeError, RecursionError):
            found = None
        if not isinstance(found, str) or not found:
            raise UsageError(
                "the server lists no model", where=self._target.base_url, next="name it with --model"
            )
        return found

    async def _sent(self, data: bytes) -> Exchange:
        exchange = Exchange(self._loop.create_future(), keep_text=False)
        try:
            connection = await self._pool.connect()
        except OSError as error:
            raise ComponentFailed(
                f"no connection: {error.strerror or error}",
                failure_class=FailureClass.DEPLOYMENT_HEALTH_FAILED,
                where=self._target.base_url,
                next="start the server, or correct the address",
            ) from error
        timer = self._loop.call_later(
            self.options.request_timeout_s, exchange.fail, RequestError.TIMEOUT, "no answer", 0
        )
        connection.send(data, exchange)
        await exchange.finished
        timer.cancel()
        return exchange

    def _refused(self, exchange: Exchange) -> ComponentFailed:
        error = exchange.reply.error
        classes = {
            RequestError.AUTH: FailureClass.USER_CONFIG_ERROR,
            RequestError.REFUSED: FailureClass.USER_CONFIG_ERROR,
            RequestError.CONTEXT: FailureClass.POINT_INFEASIBLE,
            RequestError.OVERLOAD: FailureClass.INFRA_TRANSIENT,
        }
        hint = "set the key's variable" if error is RequestError.AUTH else "try the same request with curl"
        return ComponentFailed(
            f"the server takes no request: {exchange.reply.detail}",
            failure_class=classes.get(error, FailureClass.DEPLOYMENT_HEALTH_FAILED)
            if error
            else FailureClass.UNKNOWN,
            where=self._target.base_url,
            next=hint,
        )


async def _breathe() -> None:
    """Let closed transports tell their protocols."""
    await asyncio.sleep(0)


def api_key(variable: str | None) -> str:
    """The key in an environment variable; empty without one.

    Raises:
        UsageError: if the variable is named and not set.
    """
    if variable is None:
        return ""
    value = os.environ.get(variable, "")
    if not value:
        raise UsageError("the environment variable with the key is not set", where=variable)
    return value
