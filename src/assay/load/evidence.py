"""Load evidence for the gates: the points, and their main figures as measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assay.core.evidence import Artifact, Measurement
from assay.core.load import Load, LoadPoint, Metric, ServiceLevels, Workload
from assay.core.vocabulary import Direction, Provenance, State


def load_evidence(
    subject: str,
    client: str,
    workload: Workload,
    levels: ServiceLevels,
    points: Sequence[LoadPoint],
    *,
    artifacts: tuple[Artifact, ...] = (),
    facts: dict[str, Any] | None = None,
    provenance: Provenance = Provenance.MEASURED,
) -> Load:
    """The evidence of a load test.

    The measurements of several points carry the point's number, as in `output_tps[1]`. A point that is not valid
    yields no value: its measurements abstain and say why.
    """
    many = len(points) > 1
    return Load(
        subject=subject,
        provenance=provenance,
        client=client,
        workload=workload,
        service_levels=levels,
        points=tuple(points),
        measurements=tuple(
            m for i, point in enumerate(points) for m in _measurements(point, f"[{i}]" if many else "")
        ),
        artifacts=artifacts,
        facts=facts or {},
    )


def _measurements(point: LoadPoint, suffix: str) -> Iterator[Measurement]:
    why = "; ".join(point.reasons)
    ended = point.completed + point.failed
    yield _one("output_tps", point.output_tps, "tokens/s", Direction.HIGHER, point.completed, suffix, why)
    yield _one("requests_rps", point.achieved_rps, "1/s", Direction.HIGHER, point.completed, suffix, why)
    if point.goodput_rps is not None:
        yield _one("goodput_rps", point.goodput_rps, "1/s", Direction.HIGHER, ended, suffix, why)
    share = point.failed / ended if ended else None
    # Failures are what a failed point has measured: they never abstain.
    yield _one("failed_frac", share, "", Direction.LOWER, ended, suffix, "")
    for metric in Metric:
        latency = point.latency(metric)
        for claim in latency.percentiles if latency is not None else ():
            name = f"{metric.value}_p{claim.q * 100:g}_ms"
            few = f"not enough: {claim.n} of {claim.needed} samples" if claim.value_ms is None else ""
            yield _one(name, claim.value_ms, "ms", Direction.LOWER, claim.n, suffix, why or few)


def _one(
    name: str, value: float | None, unit: str, direction: Direction, n: int, suffix: str, why: str
) -> Measurement:
    low = 0.0
    if why:
        return Measurement(
            name=name + suffix,
            state=State.ABSTAINED,
            unit=unit,
            low=low,
            direction=direction,
            n=n,
            detail=why,
        )
    return Measurement.of(name + suffix, value, unit=unit, low=low, direction=direction, n=n)
