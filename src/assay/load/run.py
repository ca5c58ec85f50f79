"""One load point: sends requests as planned, keeps what became of each, and stops when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from assay.core.load import PointPlan, RequestError
from assay.load.arrivals import TraceRow, schedule
from assay.load.connection import Connection, Exchange, Pool
from assay.load.futility import INFEASIBLE, Futility
from assay.load.requests import Ask, Requests

MOST_IN_FLIGHT = 8192
"""Open loop: with more the point is over, saturated."""
HOPELESS_AFTER = 10
"""Requests that failed, none having succeeded, after which a point is given up."""
READY_ASKS = 20_000
READY_S = 0.3
READY_BYTES = 64 << 20
SATURATED_AFTER_S = 10.0
CHECK_S = 1.0


@dataclass(slots=True)
class Outcome:
    """What became of one request."""

    session: int
    turn: int
    warmup: bool
    ask: Ask
    intended_ns: int
    in_flight: int
    """Requests in flight when it was sent, itself included."""
    exchange: Exchange | None = None
    reconnected: bool = False
    error: RequestError | None = None
    detail: str = ""
    failed_ns: int = 0


@dataclass(slots=True)
class PointRun:
    """A finished point, before it is summed up."""

    plan: PointPlan
    outcomes: list[Outcome]
    started: str
    t0_ns: int
    """The beginning: all times of the records count from here."""
    sending_ns: int
    """When the last request was sent."""
    end_ns: int
    cpu_s: float
    """CPU of this process between beginning and end."""
    lag_p99_ms: float
    lag_max_ms: float
    stopped_by: str
    pieces: int
    offered_rps: float | None = None


@dataclass
class Runner:
    """Runs one point on a pool of connections.

    Args:
        pool: connections to the server.
        requests: makes the requests.
        plan: when they are sent.
        first_index: number of the first conversation; later points must not repeat prompts.
        timeout_s: a request is given up after this long.
        limit_s: the whole point is cut short after this long.
        keep_text: answers are kept, to be counted by a tokenizer.
    """

    pool: Pool
    requests: Requests
    plan: PointPlan
    first_index: int = 0
    timeout_s: float = 600.0
    limit_s: float | None = None
    keep_text: bool = False
    trace: tuple[TraceRow, ...] = ()
    stop_when_saturated: bool = True
    futility: Futility | None = None
    """Ends a point that is lost; None = it is measured to its end."""
    progress: Callable[[int, int], None] | None = None
    """Told of requests ended and failed, about once a second."""

    outcomes: list[Outcome] = field(default_factory=list, init=False)
    sessions: int = field(default=0, init=False)
    """Conversations begun."""
    _stopped_by: str = field(default="", init=False)
    _in_flight: dict[Exchange, Connection] = field(default_factory=dict, init=False)
    _waiting: int = field(default=0, init=False)
    _wake: asyncio.Future[None] | None = field(default=None, init=False)
    _sent: int = field(default=0, init=False)
    _ended: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _t0_ns: int = field(default=0, init=False)
    _measured_from: float | None = field(default=None, init=False)
    _sending_ns: int = field(default=0, init=False)
    _asks: dict[int, Ask] = field(default_factory=dict, init=False)
    _flight_log: list[tuple[float, int]] = field(default_factory=list, init=False)

    @property
    def warmup(self) -> int:
        """Requests that are left out."""
        arrivals = self.plan.arrivals
        if self.plan.warmup_requests is not None:
            return self.plan.warmup_requests
        if arrivals.kind == "trace":
            return 0
        return max(2, arrivals.concurrency or min(64, round(2 * (arrivals.rate_rps or 1))))

    async def run(self) -> PointRun:
        """Send, wait, and return what was measured."""
        with stopping_signals(self.pool.loop, lambda: self.stop("interrupted")):
            return await self._run()

    async def _run(self) -> PointRun:
        loop = self.pool.loop
        self._prepare_asks()
        await self.pool.open(min(MOST_IN_FLIGHT, self.plan.arrivals.concurrency or 32))
        checker = loop.create_task(self._check())
        limit = loop.call_later(self.limit_s, self.stop, "budget") if self.limit_s is not None else None
        with _no_garbage_collection():
            started = datetime.now(UTC).isoformat()
            loop.stamps.watch()
            cpu = time.process_time()
            self._t0_ns = self._sending_ns = time.perf_counter_ns()
            await (self._open_loop() if self.plan.arrivals.open_loop else self._closed_loop())
            end = time.perf_counter_ns()
            cpu = time.process_time() - cpu
            lag, longest = loop.stamps.lag_ms(0.99), loop.stamps.longest_ms()
        checker.cancel()
        if limit is not None:
            limit.cancel()
        return PointRun(
            plan=self.plan,
            outcomes=self.outcomes,
            started=started,
            t0_ns=self._t0_ns,
            sending_ns=self._sending_ns,
            end_ns=end,
            cpu_s=cpu,
            lag_p99_ms=lag,
            lag_max_ms=longest,
            stopped_by=self._stopped_by or ("requests" if self._all_sent else "duration"),
            pieces=sum(o.exchange.reply.pieces for o in self.outcomes if o.exchange is not None),
            offered_rps=self._offered(),
        )

    def stop(self, why: str) -> None:
        """End it now: nothing more is sent, and what is under way is cancelled."""
        if self._stopped_by:
            return
        self._stopped_by = why
        now = time.perf_counter_ns()
        for exchange, connection in list(self._in_flight.items()):
            exchange.fail(RequestError.CANCELLED, why, now)
            connection.abort()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    @property
    def _total(self) -> int | None:
        if self.plan.requests is None:
            return len(self.trace) if self.plan.arrivals.kind == "trace" else None
        return self.plan.requests + self.warmup

    @property
    def _all_sent(self) -> bool:
        return self._total is not None and self._sent >= self._total

    def _prepare_asks(self) -> None:
        """Make requests before the clock runs: long prompts cost a millisecond each."""
        total = self._total or READY_ASKS
        until = time.perf_counter() + READY_S
        size = 0
        for at in range(min(READY_ASKS, -(-total // self.requests.workload.turns))):
            ask = self._make(at)
            size += len(ask.data)
            self._asks[at] = ask
            if size > READY_BYTES or time.perf_counter() > until:
                return

    def _make(self, at: int) -> Ask:
        if self.plan.arrivals.kind == "trace":
            row = self.trace[at % len(self.trace)]
            return self.requests.first(self.first_index + at, row.prompt_tokens, row.output_tokens)
        return self.requests.first(self.first_index + at)

    def _may_send(self) -> bool:
        """Whether another conversation may begin."""
        if self._stopped_by or self._all_sent:
            return False
        if self.plan.duration_s is None or self._measured_from is None:
            return True
        return self.pool.loop.time() - self._measured_from < self.plan.duration_s

    async def _closed_loop(self) -> None:
        workers = self.plan.arrivals.concurrency or 1
        await asyncio.gather(*(self._worker() for _ in range(workers)))

    async def _worker(self) -> None:
        while self._may_send():
            number = self.sessions
            self.sessions += 1
            await self._conversation(number, time.perf_counter_ns())

    async def _open_loop(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        begin = self.pool.loop.time()
        self._t0_ns = int(begin * 1e9)
        for at in schedule(self.plan.arrivals, self.requests.workload.seed, self.trace):
            await self._until(begin + at)
            if not self._may_send():
                break
            number = self.sessions
            self.sessions += 1
            task = self.pool.loop.create_task(self._conversation(number, int((begin + at) * 1e9)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if self._waiting > MOST_IN_FLIGHT:
                self.stop("saturated")
        while tasks:
            await asyncio.wait(tasks)

    async def _until(self, when: float) -> None:
        """Sleep until a moment, or until the point is stopped."""
        loop = self.pool.loop
        if when <= loop.time():
            if self._sent % 16 == 0:
                await asyncio.sleep(0)  # behind schedule: answers must be read all the same
            return
        self._wake = loop.create_future()
        timer = loop.call_at(when, _settle, self._wake)
        if not self._stopped_by:
            await self._wake
        timer.cancel()

    async def _conversation(self, number: int, intended_ns: int) -> None:
        ask = self._asks.pop(number, None) or self._make(number)
        workload = self.requests.workload
        for turn in range(workload.turns):
            outcome = self._outcome(number, turn, ask, intended_ns)
            await self._ask(outcome, keep_text=self.keep_text or turn + 1 < workload.turns)
            exchange = outcome.exchange
            if outcome.error or exchange is None or exchange.reply.error or self._stopped_by:
                return
            if turn + 1 < workload.turns:
                if workload.think_time_s:
                    await asyncio.sleep(workload.think_time_s)
                if self._stopped_by or self._all_sent:
                    return
                ask = self.requests.following(number + self.first_index, turn + 1, ask, exchange.reply.text)
                intended_ns = time.perf_counter_ns()

    def _outcome(self, number: int, turn: int, ask: Ask, intended_ns: int) -> Outcome:
        warm = self._sent < self.warmup
        if not warm and self._measured_from is None:
            self._measured_from = intended_ns / 1e9
        self._sent += 1
        outcome = Outcome(number, turn, warm, ask, intended_ns, self._waiting + 1)
        self.outcomes.append(outcome)
        return outcome

    async def _ask(self, outcome: Outcome, *, keep_text: bool) -> None:
        self._waiting += 1
        try:
            connection = self.pool.idle()
            while True:
                fresh = connection is None
                if connection is None:
                    connection = await self.pool.connect()
                exchange = await self._exchange(connection, outcome, keep_text=keep_text)
                gone = exchange.reply.error is RequestError.RESET and exchange.response.untouched
                if fresh or not gone or self._stopped_by:
                    break
                # The server had closed the kept-alive connection; the request never reached it.
                outcome.reconnected, connection = True, None
                self.pool.found_gone()
        except OSError as error:
            outcome.error = RequestError.CONNECT
            outcome.detail = f"{type(error).__name__}: {error.strerror or error}"
            outcome.failed_ns = time.perf_counter_ns()
        finally:
            self._waiting -= 1
        self._count(outcome)

    async def _exchange(self, connection: Connection, outcome: Outcome, *, keep_text: bool) -> Exchange:
        loop = self.pool.loop
        exchange = outcome.exchange = Exchange(loop.create_future(), keep_text=keep_text)
        if self._stopped_by:
            exchange.fail(RequestError.CANCELLED, self._stopped_by, time.perf_counter_ns())
            self.pool.give_back(connection)
            return exchange
        self._in_flight[exchange] = connection
        timer = loop.call_later(self.timeout_s, self._give_up, exchange, connection)
        connection.send(outcome.ask.data, exchange)
        self._sending_ns = max(self._sending_ns, exchange.sent_ns or 0)
        await exchange.finished
        timer.cancel()
        del self._in_flight[exchange]
        return exchange

    def _give_up(self, exchange: Exchange, connection: Connection) -> None:
        exchange.fail(RequestError.TIMEOUT, f"no end after {self.timeout_s:g} s", time.perf_counter_ns())
        connection.abort()

    def _count(self, outcome: Outcome) -> None:
        self._ended += 1
        failed = outcome.error or (outcome.exchange and outcome.exchange.reply.error)
        if failed and failed is not RequestError.CANCELLED:
            self._failed += 1
            if self._failed == self._ended >= HOPELESS_AFTER:
                self.stop("errors")
        lost = self.futility is not None and not outcome.warmup and self.futility.lost
        if lost and lost(outcome.intended_ns, outcome.exchange):
            self.stop(INFEASIBLE)

    async def _check(self) -> None:
        """Once a second: tell how far it is, and look whether an open loop runs away."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self.progress is not None:
                self.progress(self._ended, self._failed)
            if self.plan.arrivals.open_loop and self.stop_when_saturated and self._runs_away():
                self.stop("saturated")

    def _runs_away(self) -> bool:
        """Whether at least a fifth of what is sent has been piling up, over the last third of the time.

        The middle third must be beyond the first answers' own length, or a slow server's first wave would count.
        """
        elapsed = (time.perf_counter_ns() - self._t0_ns) / 1e9
        self._flight_log.append((elapsed, self._waiting))
        if elapsed < SATURATED_AFTER_S or self._sent < 100 or self._ended < 20:
            return False
        lengths = sorted(
            (o.exchange.end_ns - o.intended_ns) / 1e9
            for o in self.outcomes[: self._ended]
            if o.exchange is not None and o.exchange.end_ns is not None
        )
        if not lengths or lengths[len(lengths) // 10] > elapsed / 3:
            return False
        middle = [n for t, n in self._flight_log if elapsed / 3 <= t < 2 * elapsed / 3]
        last = [n for t, n in self._flight_log if t >= 2 * elapsed / 3]
        growth = sum(last) / len(last) - sum(middle) / len(middle) if middle and last else 0.0
        return growth > 0.2 * self._sent / 3

    def _offered(self) -> float | None:
        if not self.plan.arrivals.open_loop or not self.outcomes:
            return None
        if self.plan.arrivals.rate_rps is not None:
            return self.plan.arrivals.rate_rps
        span = (self.outcomes[-1].intended_ns - self.outcomes[0].intended_ns) / 1e9
        return len(self.outcomes) / span if span > 0 else None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection stops the loop for milliseconds: it waits until the point is over."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def stopping_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> Iterator[None]:
    """SIGINT and SIGTERM stop the work instead of raising somewhere in the loop; what stood there comes back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.getsignal(number)
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
