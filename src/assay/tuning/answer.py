"""The answer of a tuning study: what is proven, what is the best guess, and what the source's rule would say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from assay.core.base import Noun
from assay.core.load import PointState
from assay.core.tuning import ExitReason, Reading, ReadingState, Stage, Standing
from assay.stats.percentiles import limit_test
from assay.stats.selection import Standings, half_width, sequential_band, standings
from assay.tuning.search import Search

LEVEL = 0.9
"""Two-sided level of the intervals that are shown."""
COLD = 2.0
"""The first reading of a setting is called cold when its TTFT is so many times the median of the others."""
LENGTHS_FRAC = 0.05
"""Difference of the mean length of answers from which on it is told."""
SHARED_FRAC = 0.1
"""Others' share of the processors in one launch from which on it is told."""
SENTINEL_SDS = 3.0
"""A sentinel that is further off than so many standard deviations of a reading says that the machine changed."""


class Estimate(Noun):
    """One setting, over all its launches of the race."""

    cell: str
    readings: int
    """Launches with a valid value."""
    median: float | None = None
    """Of its valid values, as they were measured."""
    value: float | None = None
    """Estimate with drift taken out; None = not measured in the race."""
    low: float | None = None
    high: float | None = None
    ttft_p95_ms: float | None = None
    """Median over launches of p95 TTFT at its point; None = no launch had enough requests to bound it."""
    point: str = ""
    """The load point that counts for it."""
    levels: tuple[tuple[str, Literal["met", "missed", "undecided"], int, int, int], ...] = ()
    """Service level, how it stands by an exact binomial test over all launches, late, requests, and requests that
    would be needed."""


class Proof(Noun):
    """What the fresh pairs of one challenger say against the default."""

    cell: str
    pairs: int
    gain: float
    """Relative gain over the default; 0.1 = 10 % more."""
    low: float
    """It is at least this, at the error rate that the look may spend."""
    high: float | None
    """It is less than this, at the rate by which it is given up; null = nothing is known."""
    proven: bool


class Sentinel(Noun):
    """The default, measured again after a pause."""

    session: int
    change: float | None
    """Relative to what it gave before; None = not measured."""
    agrees: bool


class Answer(Noun):
    """What a search came to."""

    exit_reason: ExitReason
    standing: Standing | None = None
    recommended: str | None = None
    """Cell; None = nothing serves."""
    model: str | None = None
    default: str | None = None
    best_estimate: str | None = None
    sequential_band: str | None = None
    """What the source's rule answers from the same readings."""
    policy: str = "race"
    tie_set: tuple[str, ...] = ()
    """Cells that cannot be told from the recommended one, itself first."""
    open: tuple[str, ...] = ()
    """Cells that may still be better by more than matters."""
    estimates: tuple[Estimate, ...] = ()
    proofs: tuple[Proof, ...] = ()
    infeasible: Mapping[str, str] = Field(default_factory=dict)
    """Cell → reason; of the models before the chosen one, and of settings."""
    unmeasured: tuple[str, ...] = ()
    """Cells that were launched and never validly measured: nothing is known of them."""
    noise_frac: float | None = None
    """Log standard deviation of one reading; None = it cannot be told."""
    noise_df: float = 0.0
    drift_frac: float = 0.0
    """Change of the machine's speed over the race."""
    sentinels: tuple[Sentinel, ...] = ()
    launches: int = 0
    readings: int = 0
    """Valid readings of the race."""
    partial: bool = False
    remarks: tuple[str, ...] = ()

    def estimate(self, cell: str | None) -> Estimate | None:
        """The estimate of a cell."""
        return next((e for e in self.estimates if e.cell == cell), None)

    @property
    def settled(self) -> bool:
        """It may be applied without a second thought."""
        return self.recommended is not None and not self.partial and self.standing is not Standing.UNRESOLVED

    @property
    def sentence(self) -> str:
        """For people."""
        return _sentence(self)


def answer(search: Search) -> Answer:
    """What can be said now; the same readings always give the same answer."""
    partial = search.partial
    failed = _infeasible(search)
    if search.chosen is None or not search.arms:
        unknown = ExitReason.INTERNAL_ERROR if search.unmeasured else ExitReason.NO_FEASIBLE
        reason = ExitReason.BUDGET_NO_MODEL if partial else unknown
        return Answer(
            exit_reason=reason,
            policy=search.plan.race.policy,
            infeasible=failed,
            unmeasured=tuple(search.unmeasured),
            launches=len(search.readings),
            partial=partial,
        )
    now = standings(search.arms, search.default.id, search.looks, search.rule)
    band = _band(search)
    by_band = search.plan.race.policy == "sequential_band" and band is not None
    recommended = band if by_band and band is not None else now.reference
    sentinels = _sentinels(search, now)
    cell = search.plan.cell(recommended)
    found = Answer(
        exit_reason=ExitReason.BUDGET_PARTIAL if partial else ExitReason.OK,
        standing=_standing(search, now, band) if by_band else _raced(search, now),
        recommended=recommended,
        model=cell.model if cell else None,
        default=search.default.id,
        best_estimate=now.best,
        sequential_band=band,
        policy=search.plan.race.policy,
        tie_set=tuple(dict.fromkeys((recommended, *((now.reference,) if by_band else ()), *now.near))),
        open=now.open,
        estimates=tuple(_estimate(search, c.id, now) for c in search.field if search.point(c.id) is not None),
        proofs=_proofs(now),
        infeasible=failed,
        unmeasured=tuple(search.unmeasured),
        noise_frac=now.noise_sd if now.noise_df >= 1 else None,
        noise_df=now.noise_df,
        drift_frac=now.drift,
        sentinels=sentinels,
        launches=len(search.readings),
        readings=now.readings,
        partial=partial,
        remarks=_remarks(search, now, sentinels, recommended),
    )
    return Answer.from_json(_rounded(found.to_json()))


def _rounded(value: Any) -> Any:
    """Six digits are more than is known, and the same in every process: anybody must derive the very same answer."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _raced(search: Search, now: Standings) -> Standing:
    """Settled when no setting is left that may be better by more than matters."""
    if now.open or search.unmeasured or (search.partial and not now.proven):
        return Standing.UNRESOLVED
    return Standing.TIED if now.equal else Standing.RESOLVED


def _standing(search: Search, now: Standings, band: str | None) -> Standing:
    """By the source's rule nothing is proven: what it says stands only where the race agrees."""
    return Standing.UNRESOLVED if band != now.reference or now.open else _raced(search, now)


def _estimate(search: Search, cell: str, now: Standings) -> Estimate:
    k = search.point(cell)
    mine = [r for r in search.readings if r.launch.cell == cell and r.launch.stage in _COUNTED]
    points = [r.points[k] for r in mine if k is not None and len(r.points) > k]
    values = [p.value for p in points if p.value is not None]
    late = [p.ttft_p95_ms for p in points if p.ttft_p95_ms is not None]
    mean, sd = now.estimates.get(cell), now.sds.get(cell, 0.0)
    reach = half_width(sd, LEVEL)
    return Estimate(
        cell=cell,
        readings=len(values),
        median=statistics.median(values) if values else None,
        value=math.exp(mean) if mean is not None else None,
        low=math.exp(mean - reach) if mean is not None else None,
        high=math.exp(mean + reach) if mean is not None else None,
        ttft_p95_ms=statistics.median(late) if late else None,
        point=points[0].name if points else "",
        levels=tuple(_level(c.level.text, c.level.q, c.late, c.n) for c in search.counts(cell) if c.n),
    )


_COUNTED = (Stage.FIT, Stage.SCREEN, Stage.CONFIRM, Stage.SENTINEL)


def _level(
    text: str, q: float, late: int, n: int
) -> tuple[str, Literal["met", "missed", "undecided"], int, int, int]:
    test = limit_test(late, n, q)
    return text, "met" if test.met else "missed" if test.missed else "undecided", late, n, test.needed


def _proofs(now: Standings) -> tuple[Proof, ...]:
    return tuple(
        Proof(
            cell=g.arm,
            pairs=g.pairs,
            gain=g.ratio - 1,
            low=g.low - 1,
            high=g.high - 1 if math.isfinite(g.high) else None,
            proven=g.proven,
        )
        for g in now.gains
    )


def _band(search: Search) -> str | None:
    """The source's rule over the readings of the race, in the order in which they were taken."""
    points = {c.id: search.point(c.id) for c in search.field}
    rows = []
    for r in search.readings:
        k = points.get(r.launch.cell)
        if r.launch.stage in (Stage.SCREEN, Stage.CONFIRM) and r.launch.cell in points:
            held = r.points[k] if k is not None and len(r.points) > k else None
            value = held.value if held is not None and r.state is ReadingState.MEASURED else None
            rows.append((r.launch.cell, value, held.ttft_worst_ms if held is not None else None))
    race = search.plan.race
    found = sequential_band(rows, race.replicates, race.band)
    return found if found is not None or rows else search.default.id


def _infeasible(search: Search) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in search.plan.models:
        for cell in model.cells:
            mine = [r for r in search.readings if r.launch.cell == cell.id]
            if cell.id in search.known:
                found[cell.id] = search.known[cell.id]
            elif cell.id in search.excluded:
                found[cell.id] = search.excluded[cell.id]
            elif mine and not any(r.state is ReadingState.MEASURED for r in mine):
                found[cell.id] = mine[-1].detail
    return found


def _sentinels(search: Search, now: Standings) -> tuple[Sentinel, ...]:
    """Each against the median of what the default gave in the sessions before."""
    found = []
    for r in search.readings:
        if r.launch.stage is not Stage.SENTINEL:
            continue
        k = search.point(r.launch.cell)
        values = [
            x.points[k].value
            for x in search.readings
            if x.launch.cell == r.launch.cell
            and x.session < r.session
            and k is not None
            and len(x.points) > k
        ]
        before = [v for v in values if v is not None]
        value = r.points[k].value if k is not None and len(r.points) > k else None
        if value is None or not before:
            found.append(Sentinel(session=r.session, change=None, agrees=False))
            continue
        off = math.log(value / statistics.median(before))
        limit = SENTINEL_SDS * now.noise_sd * math.sqrt(1 + 1.57 / len(before))
        found.append(Sentinel(session=r.session, change=math.expm1(off), agrees=abs(off) <= max(0.02, limit)))
    return tuple(found)


def _remarks(
    search: Search, now: Standings, sentinels: Sequence[Sentinel], recommended: str
) -> tuple[str, ...]:
    """What a reader should know."""
    told = []
    for s in sentinels:
        if not s.agrees:
            change = f"{s.change:+.0%}" if s.change is not None else "not measured"
            told.append(
                f"after a pause the default was measured again and disagrees ({change}): readings before and after "
                "it are compared within their own blocks only"
            )
    if abs(now.drift) > 0.1 and now.noise_df >= 1:
        told.append(f"the machine's speed changed by {now.drift:+.0%} while settings were compared")
    told += _cold(search.readings)
    told += _shared(search.readings)
    bad = [r for r in search.readings if r.state is ReadingState.INVALID]
    for state in (PointState.CLIENT_LIMITED, PointState.CACHED):
        count = sum(any(p.state is state for p in r.points) for r in bad)
        if count:
            told.append(f"{count} launches do not count: {state.value.replace('_', ' ')}")
    told += [f"nothing is known of {cell}: {why}" for cell, why in search.unmeasured.items()]
    told += _told_of(search, recommended)
    told += _lengths(search, recommended)
    best = search.counts(recommended)
    for c in best:
        if not (c.n and limit_test(c.late, c.n, c.level.q).met):
            told.append(
                f"not enough requests to claim {c.level.text} of {recommended}: {c.late} of {c.n} late"
            )
    return tuple(told)


def _told_of(search: Search, cell: str) -> list[str]:
    """What the last launch of a setting told of how it was measured, at the load that counts for it."""
    k = search.point(cell)
    mine = [r for r in search.readings if r.launch.cell == cell and r.launch.stage in _COUNTED]
    held = [r.points[k] for r in mine if k is not None and len(r.points) > k]
    return [f"{cell}: {text}" for text in held[-1].remarks] if held else []


def _lengths(search: Search, cell: str) -> list[str]:
    """Settings whose answers are not as long as those of the recommended one: speed depends on length."""
    means = {c.id: _output_tokens(search, c.id) for c in search.field}
    mine = means.get(cell)
    if not mine:
        return []
    off = {
        id_: mean / mine - 1 for id_, mean in means.items() if mean and abs(mean / mine - 1) > LENGTHS_FRAC
    }
    if not off:
        return []
    other, share = max(off.items(), key=lambda item: abs(item[1]))
    differ = f"{abs(share):.0%} {'longer' if share > 0 else 'shorter'}"
    return [f"answers of {other} are {differ} than those of {cell}: compare their speeds with care"]


def _output_tokens(search: Search, cell: str) -> float | None:
    """Tokens of an answer, over all launches of a setting at its point."""
    k = search.point(cell)
    mine = [
        r.points[k] for r in search.readings if r.launch.cell == cell and k is not None and len(r.points) > k
    ]
    told = [p.output_tokens for p in mine if p.output_tokens is not None]
    return statistics.fmean(told) if told else None


def _cold(readings: Sequence[Reading]) -> list[str]:
    """The first launch of all, where its latency stands out."""
    late = [
        (r, r.points[0].ttft_worst_ms) for r in readings if r.points and r.points[0].ttft_worst_ms is not None
    ]
    rest = [w for _, w in late[1:] if w is not None]
    if len(rest) < 3 or late[0][1] is None or late[0][1] < COLD * statistics.median(rest):
        return []
    return [
        f"the first launch was cold: TTFT up to {late[0][1]:.0f} ms, {statistics.median(rest):.0f} ms later"
    ]


def _shared(readings: Sequence[Reading]) -> list[str]:
    """Processors that others used as well."""
    shares = [r.others_frac for r in readings if r.others_frac is not None]
    if not shares or max(shares) < SHARED_FRAC:
        return []
    size = f"{statistics.median(shares):.0%} of the processors (median; at most {max(shares):.0%})"
    return [f"other processes used {size} while launches were measured: readings scatter more"]


def _sentence(a: Answer) -> str:
    if a.recommended is None:
        if a.exit_reason is ExitReason.BUDGET_NO_MODEL:
            return "the time was up before a model was found that serves"
        told = "; ".join(f"{cell}: {why}" for cell, why in reversed(list(a.infeasible.items())))
        if a.unmeasured:
            return f"nothing could be measured validly, so nothing is known. {told}"[:600]
        return f"no candidate can serve what was asked. {told}"[:600]
    proof = next((p for p in a.proofs if p.cell == a.recommended and p.proven), None)
    if a.policy == "sequential_band":
        why = "by the source's rule, which proves nothing"
    elif proof is not None:
        why = f"{proof.gain:+.1%} over the default, at least {proof.low:+.1%}, in {proof.pairs} fresh pairs"
    elif len(a.estimates) + len(a.infeasible) <= 1:
        why = "the only setting" if not a.partial else "the only setting that was measured"
    else:
        why = "no setting was proven better than the default"
    word = a.standing.value if a.standing is not None else ""
    ties = f" with {len(a.tie_set) - 1} more" if a.standing is Standing.TIED and len(a.tie_set) > 1 else ""
    best = f"; best estimate {a.best_estimate}" if a.best_estimate != a.recommended else ""
    up = ": the time was up" if a.exit_reason is ExitReason.BUDGET_PARTIAL else ""
    more = f", partial{up}" if a.partial else ""
    return f"{a.recommended}: {why}; {word}{ties}{best}{more}"
