"""Evaluate kind `load`: Assay's own load client against a served target, one launch for any number of load points."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, Interrupted
from assay.core.evidence import Evidence
from assay.core.load import PointPlan, ServiceLevels, Workload
from assay.core.ports import Component, Session, Target
from assay.core.vocabulary import FailureClass
from assay.load.arrivals import read_trace
from assay.load.client import NAME, ClientOptions, LoadClient, LoadTarget, Measured, api_key
from assay.load.evidence import load_evidence
from assay.load.neighbours import Neighbours
from assay.load.rows import describe, write_rows
from assay.runtime.files import artifact, digest_file

ROWS = "requests.jsonl"
LIMIT = "limit_s"
"""Key of a candidate's intent: seconds that may be measured."""
LEAST_S = 1e-3
ELSEWHERE = "openai"
"""Serve kind of a server that somebody else runs: where its time counts is not known."""


class Options(Noun):
    """Options of `evaluate: {kind: load}`."""

    points: tuple[PointPlan, ...] = Field(min_length=1)
    """Load points, measured one after the other on the same server."""
    workload: Workload = Workload()
    service_levels: ServiceLevels = ServiceLevels()
    """Limits such as `{ttft_p95_ms: 2000, tpot_p95_ms: 80}`."""
    trace: SpecPath | None = None
    """JSON lines with times and lengths, for arrivals `trace`."""
    tokenizer: SpecPath | None = None
    """`tokenizer.json` that counts tokens where the server sends no usage."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    reuse_connections: bool = True
    stop_when_infeasible: bool = False
    """End a point that clearly misses a service level, or has too many errors: it is then `partial`."""
    failed_frac: float = Field(default=0.0, ge=0, lt=1)
    """Share of a point's requests that may fail before it is ended for that."""


class Adapter:
    """The load client as an evaluation."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """It needs nothing beside Assay."""
        return Component(verb="evaluate", kind="load", state="ready", vendor={"assay": NAME.split()[1]})

    def protocol(self) -> Mapping[str, Any]:
        """Workload, points and the files they read: everything that decides what is asked."""
        options = self.options
        return {
            "harness": "load",
            "client": NAME,
            "workload": options.workload.content_digest,
            "points": [p.to_json() for p in options.points],
            "reuse_connections": options.reuse_connections,
            **({"trace": digest_file(Path(options.trace))} if options.trace else {}),
            **({"tokenizer": str(options.tokenizer)} if options.tokenizer else {}),
        }

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Measure every point; the rows of all requests are kept as a file.

        Raises:
            ComponentFailed: if nothing is served, or the server takes no request.
            Interrupted: if SIGINT or SIGTERM came; what was measured until then is in the file.
        """
        if target.endpoint is None:
            raise ComponentFailed(
                "load needs a served target",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                next="add a `serve:` to the step",
            )
        options, endpoint = self.options, target.endpoint
        key = api_key(str(endpoint.facts["api_key_env"]) if endpoint.facts.get("api_key_env") else None)
        client_options = ClientOptions(
            request_timeout_s=options.request_timeout_s,
            reuse_connections=options.reuse_connections,
            tokenizer=Path(options.tokenizer) if options.tokenizer else None,
            trace=read_trace(Path(options.trace)) if options.trace else (),
            stop_when_infeasible=options.stop_when_infeasible,
            failed_frac=options.failed_frac,
        )
        limit = _Limit(target, session)
        rows = session.workdir / ROWS
        measured: list[Measured] = []
        with LoadClient(
            LoadTarget(endpoint.base_url, endpoint.model, key),
            options.workload,
            options.service_levels,
            client_options,
        ) as client:
            facts = dict(client.prepare())
            neighbours = Neighbours()
            for number, plan in enumerate(options.points):
                session.note(f"load: {plan.arrivals.text}", number / len(options.points))
                measured.append(client.measure(plan, limit_s=limit.left_s()))
                session.note(f"load: {describe(measured[-1].point)}")
                if measured[-1].point.stopped_by in ("interrupted", "budget"):
                    break
            shares = {} if target.engine == ELSEWHERE else neighbours.shares()
        write_rows(rows, measured)
        _raise_if_cut_short(measured, limit)
        return load_evidence(
            target.name,
            NAME,
            options.workload,
            options.service_levels,
            [m.point for m in measured],
            artifacts=(artifact(rows),),
            facts={
                "server": facts,
                "engine": endpoint.engine,
                "engine_version": endpoint.engine_version,
                **({"machine": shares} if shares else {}),
            },
        )


class _Limit:
    """How long may be measured: the study's wall time, and what the proposer left for this launch.

    A launch that used up its own time is a reading like any other, cut short; the study goes on to its answer.
    """

    def __init__(self, target: Target, session: Session) -> None:
        given = target.intent.get(LIMIT)
        self._session = session
        self._until = None if given is None else time.monotonic() + float(given)

    def left_s(self) -> float | None:
        """Seconds from now; None = no limit."""
        own = None if self._until is None else max(LEAST_S, self._until - time.monotonic())
        found = [s for s in (own, self._session.remaining_s()) if s is not None]
        return min(found, default=None)

    def own_is_up(self) -> bool:
        """Whether the launch's own time is up, and not the study's."""
        left = self._session.remaining_s()
        return self._until is not None and time.monotonic() >= self._until and (left is None or left > 0)


def _raise_if_cut_short(measured: list[Measured], limit: _Limit) -> None:
    why = measured[-1].point.stopped_by
    if why == "budget" and limit.own_is_up():
        return
    if why == "interrupted":
        raise Interrupted("a signal while the load was measured", where="load")
    if why == "budget":
        raise ComponentFailed(
            "the wall-time budget ended while the load was measured",
            failure_class=FailureClass.BUDGET_EXHAUSTED,
            where="load",
        )
