"""Which of several settings is fastest, on a machine that drifts: who is measured next, and what may be claimed.

Pure state machine: everything follows from the looks so far. Screening halves the field, each block holding every
survivor and the default, in an order that is mirrored from block to block. Then the best challengers stand against
the default in fresh mirrored blocks (A B B A): only these prove a gain, as what was chosen by its value is
overstated by it. All work is done on logarithms, so that differences are ratios.

Sources: Karnin, Koren & Somekh 2013 (sequential halving); Birattari 2002 (racing); Robinson 1991 (best linear
unbiased prediction); Lan & DeMets 1983 (spending of the error rate).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np

from ._special import beta_quantile, normal_cdf, normal_quantile, t_quantile
from ._validate import FloatArray
from .errors import StatsError
from .sequential import spending_boundaries

Kind: TypeAlias = Literal["screen", "confirm"]
SCREEN: Final = "screen"
CONFIRM: Final = "confirm"
GUESSED_SD, GUESSED_DF = 0.1, 4.0
"""Noise before anything is known, as a log standard deviation, and how many readings that guess is worth."""
STEP_SD = 0.2
"""How far the machine may have moved between two sessions: log standard deviation."""
DIGITS = 10
"""Decimals of every fitted number: linear algebra differs in the last bits from process to process, and a search that
is resumed must see the same ties."""
ROUGH_P = 0.01
"""Below this the pairs of an arm scatter more than the rest does, and are judged by their own scatter."""


@dataclass(frozen=True, slots=True)
class RaceRule:
    """The contract of a race. Fixed before the first reading."""

    eps: float = 0.05
    """Gain that does not matter: settings that close are equal."""

    alpha: float = 0.1
    """Chance, at most, that the default is left although no setting is better."""

    arms: int = 2
    """Challengers that may be confirmed; each has its share of alpha."""

    at_once: int = 2
    """Challengers in one block of confirmation."""

    looks: int = 6
    """Blocks of confirmation of one challenger."""

    readings: int | None = None
    """Readings at most; None = four of each setting, at least 32."""

    finalists: int = 2
    """Screening halves the challengers until no more than these are left."""

    futile_alpha: float = 0.25
    """A challenger whose gain lies below eps at this one-sided rate is not measured further."""

    new_chance: float = 0.2
    """A setting not yet confirmed enters when it beats the reference by over eps with at least this chance; as long
    as there is one, nothing is settled."""

    open_chance: float = 0.1
    """The same for one that is being confirmed already, to go on."""

    prior_sd: float = 0.15
    """How far settings usually differ: log standard deviation. Chooses whom to measure; proves nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of one arm."""

    arm: str
    value: float | None
    """Natural logarithm of what is maximised; None = the launch gave no valid value."""
    kind: Kind
    block: int
    position: int
    """Place in the block."""
    session: int = 0
    """Counts how often the study was resumed before."""


@dataclass(frozen=True, slots=True)
class Block:
    """Arms to be measured one after the other."""

    number: int
    kind: Kind
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gain:
    """What the fresh pairs of one challenger say of its ratio to the default."""

    arm: str
    pairs: int
    ratio: float
    low: float
    """Lower end of the ratio at the error rate that this look may spend."""
    high: float
    """Upper end at the rate by which a challenger is called futile."""
    proven: bool
    """It was shown to be better, at this look or an earlier one."""
    futile: bool
    looks: int


@dataclass(frozen=True, slots=True)
class Standings:
    """Where a race stands."""

    estimates: Mapping[str, float]
    """Arm → log estimate, drift taken out, drawn towards the middle by the noise."""
    sds: Mapping[str, float]
    """Arm → standard deviation of that estimate."""
    noise_sd: float
    """Log standard deviation of a reading."""
    noise_df: float
    """Degrees of freedom behind it; 0 = nothing but a guess."""
    drift: float
    """Relative change of the machine's speed from the first reading to the last."""
    reference: str
    """The arm that others must beat: the default, or a challenger that was proven better."""
    best: str
    """Arm of the highest estimate."""
    gains: tuple[Gain, ...]
    near: tuple[str, ...]
    """Arms that cannot be told from the reference: at least `open_chance` to be no worse by eps."""
    open: tuple[str, ...]
    """Arms that may be better than the reference by more than eps."""
    equal: tuple[str, ...]
    """Arms that more likely than not lie within eps of the reference."""
    readings: int

    @property
    def proven(self) -> bool:
        """The reference is a challenger."""
        return any(g.arm == self.reference and g.proven for g in self.gains)


def next_block(
    arms: Sequence[str], default: str, looks: Sequence[Look], rule: RaceRule | None = None, seed: int = 0
) -> Block | None:
    """The next block of a race; None when it is over: settled, or the readings are used up.

    Args:
        arms: all arms that can be measured, the default among them, in the user's order.
        default: what stays unless another is proven better.
        looks: readings so far, in the order of their run.
        rule: the contract.
        seed: of the order within the first block.

    Raises:
        StatsError: if the default is no arm.
    """
    rule = rule or RaceRule()
    _require(arms, default)
    left = reading_limit(len(arms), rule) - len(looks)
    number = 1 + max((x.block for x in looks), default=0)
    challengers = [a for a in arms if a != default]
    if not challengers:
        return None
    screened = [x for x in looks if x.kind == SCREEN]
    if not any(x.kind == CONFIRM for x in looks):
        field = _survivors(challengers, screened, arms, rule)
        if field is not None:
            order = _ordered([default, *field], screened, seed)
            return Block(number, SCREEN, order) if len(order) <= left else None
    active = _contenders(arms, default, looks, rule)
    if not active or 2 * (len(active) + 1) > left:
        return None
    half = [default, *active] if number % 2 else [*reversed(active), default]
    return Block(number, CONFIRM, (*half, *reversed(half)))


def standings(
    arms: Sequence[str], default: str, looks: Sequence[Look], rule: RaceRule | None = None
) -> Standings:
    """What can be said of every arm, and which of them is the reference.

    Raises:
        StatsError: if the default is no arm.
    """
    rule = rule or RaceRule()
    _require(arms, default)
    seen = [x for x in looks if x.value is not None and x.arm in set(arms)]
    fit = _Fit(arms, seen, rule)
    gains = tuple(_gains(arms, default, seen, rule))
    proven = [g.arm for g in gains if g.proven]
    reference = max(proven, key=lambda a: (fit.estimate[a], -arms.index(a))) if proven else default
    measured = [a for a in arms if any(x.arm == a for x in seen)]
    others = [a for a in measured if a != reference]
    futile = {g.arm for g in gains if g.futile}
    better = {a: fit.chance(a, reference, rule.eps) for a in others}
    no_worse = {a: fit.chance(a, reference, -rule.eps) for a in others}
    return Standings(
        estimates={a: fit.estimate[a] for a in measured},
        sds={a: fit.sd[a] for a in measured},
        noise_sd=fit.noise_sd,
        noise_df=fit.noise_df,
        drift=fit.drift,
        reference=reference,
        best=max(measured, key=lambda a: (fit.estimate[a], -arms.index(a)), default=default),
        gains=gains,
        near=tuple(a for a in others if no_worse[a] >= rule.open_chance),
        open=tuple(
            a for a in others if better[a] >= rule.new_chance and not (a in futile and reference == default)
        ),
        equal=tuple(a for a in others if no_worse[a] - better[a] >= 0.5),
        readings=len(seen),
    )


def reading_limit(arms: int, rule: RaceRule) -> int:
    """Readings at most."""
    return max(32, 4 * arms) if rule.readings is None else rule.readings


def sequential_band(
    readings: Sequence[tuple[str, float | None, float | None]], replicates: int = 3, band: float = 0.02
) -> str | None:
    """The source's rule: median of the first replicates of each cell, cells in the order of their first reading.

    A gap over the band wins, either way; within it the lower latency wins. A cell of which a replicate failed is
    left out. It depends on the order of the cells and knows no noise.

    Args:
        readings: cell, throughput (None = failed) and latency of each reading, in the order of their run.
        replicates: readings of a cell that count.
        band: relative gap that counts as none.
    """
    cells: dict[str, list[tuple[float | None, float | None]]] = {}
    for cell, value, latency in readings:
        cells.setdefault(cell, []).append((value, latency))
    best: tuple[str, float, float] | None = None
    for cell, held in cells.items():
        values = [v for v, _ in held[:replicates]]
        if any(v is None for v in values):
            continue
        median = float(np.median([v for v in values if v is not None]))
        late = max((w for _, w in held[:replicates] if w is not None), default=math.inf)
        if (
            best is None
            or median > best[1] * (1 + band)
            or (abs(median / best[1] - 1) <= band and late < best[2])
        ):
            best = (cell, median, late)
    return best[0] if best else None


def pair_noise(pairs: Sequence[tuple[float, float]]) -> float:
    """Log standard deviation of a reading, from pairs of readings of settings that cannot differ.

    Raises:
        StatsError: if there is no pair, or a value is not positive.
    """
    if not pairs or any(v <= 0 for pair in pairs for v in pair):
        raise StatsError("pairs", "at least one pair of positive values", pairs)
    return math.sqrt(sum(math.log(b / a) ** 2 for a, b in pairs) / len(pairs) / 2)


# -- who is measured next -------------------------------------------------------------------------------


def _survivors(
    challengers: Sequence[str],
    screened: Sequence[Look],
    arms: Sequence[str],
    rule: RaceRule,
) -> list[str] | None:
    """Challengers of the next block of screening; None when screening is over."""
    if len(challengers) <= rule.at_once:
        return None
    if not screened:
        return list(challengers)
    last = max(x.block for x in screened)
    field = [a for a in challengers if any(x.arm == a for x in screened if x.block == last)]
    if len(field) <= rule.finalists:
        return None
    fit = _Fit(arms, [x for x in screened if x.value is not None and x.arm in set(arms)], rule)
    seen = [a for a in field if a in fit.measured]
    keep = max(rule.at_once, math.ceil(len(field) / 2))
    ranked = sorted(seen, key=lambda a: (-fit.estimate[a], arms.index(a)))
    return ranked[:keep] or None


def _contenders(arms: Sequence[str], default: str, looks: Sequence[Look], rule: RaceRule) -> list[str]:
    """Who stands in the next block of confirmation, beside the default."""
    now = standings(arms, default, looks, rule)
    held = {g.arm: g for g in now.gains}
    fit = _Fit(arms, [x for x in looks if x.value is not None and x.arm in set(arms)], rule)
    if not held:
        ranked = sorted(
            (a for a in fit.measured if a != default), key=lambda a: (-fit.estimate[a], arms.index(a))
        )
        fresh = [a for a in arms if a != default and a not in fit.measured]
        return (ranked or fresh)[: rule.at_once]
    rest = [a for a in arms if a not in (default, now.reference) and a in fit.measured]
    chance = {a: fit.chance(a, now.reference, rule.eps) for a in rest}
    may = [a for a in rest if _may_go_on(held.get(a), chance[a], len(held), rule)]
    may.sort(key=lambda a: (-chance[a], arms.index(a)))
    if now.reference == default:
        return may[: _room(may, held, rule)]
    return [now.reference, may[0]] if may else []


def _may_go_on(held: Gain | None, chance: float, entered: int, rule: RaceRule) -> bool:
    if held is None:
        return entered < rule.arms and chance > rule.new_chance
    return not held.futile and held.looks < rule.looks and chance > rule.open_chance


def _room(may: Sequence[str], held: Mapping[str, Gain], rule: RaceRule) -> int:
    """How many of them fit into a block without more than `arms` challengers ever entering."""
    free = rule.arms - len(held)
    room = 0
    for arm in may[: rule.at_once]:
        if arm not in held:
            if free < 1:
                break
            free -= 1
        room += 1
    return room


def _ordered(cells: Sequence[str], screened: Sequence[Look], seed: int) -> tuple[str, ...]:
    """Drawn by the seed at first; afterwards the last block backwards."""
    if not screened:
        drawn = {c: hashlib.sha256(f"{seed}:{c}".encode()).digest() for c in cells}
        return tuple(sorted(cells, key=lambda c: drawn[c]))
    last = max(x.block for x in screened)
    before = [x.arm for x in screened if x.block == last]
    mirrored = [a for a in dict.fromkeys(reversed(before)) if a in cells]
    return (*mirrored, *(c for c in cells if c not in mirrored))


# -- what may be claimed --------------------------------------------------------------------------------


def _gains(arms: Sequence[str], default: str, seen: Sequence[Look], rule: RaceRule) -> list[Gain]:
    """The challengers in confirmation, in the order in which they entered."""
    fresh = [x for x in seen if x.kind == CONFIRM]
    found = []
    for arm in dict.fromkeys(x.arm for x in fresh if x.arm != default):
        blocks = sorted({x.block for x in fresh if x.arm == arm})
        proven = False
        gain = None
        for looks in range(1, min(len(blocks), rule.looks) + 1):
            # noise as it was known at that look: an earlier proof is not taken back by later scatter
            until = [x for x in seen if x.block <= blocks[looks - 1]]
            gain = _gain(arm, arms, default, until, rule, looks)
            if gain is not None:
                proven = proven or gain.low > 1.0
        if gain is not None:
            found.append(
                Gain(arm, gain.pairs, gain.ratio, gain.low, gain.high, proven, gain.futile, len(blocks))
            )
    return found


def _gain(
    arm: str, arms: Sequence[str], default: str, seen: Sequence[Look], rule: RaceRule, looks: int
) -> Gain | None:
    y = np.array(_pairs(arm, default, seen))
    if not y.size:
        return None
    noise, df = _residual_sd(arms, seen)
    se, df = _pair_error(y, noise, df)
    mean = float(y.mean())
    level = _look_alpha(rule.alpha / rule.arms, rule.looks, looks)
    low = mean + t_quantile(level, df) * se if df >= 1 else -math.inf
    high = mean - t_quantile(rule.futile_alpha, df) * se if df >= 1 else math.inf
    futile = high < math.log1p(rule.eps)
    return Gain(arm, int(y.size), math.exp(mean), math.exp(low), _exp(high), low > 0.0, futile, looks)


def _pairs(arm: str, default: str, seen: Sequence[Look]) -> list[float]:
    """Log ratios to the default, one from each half of each mirrored block."""
    found = []
    for block in sorted({x.block for x in seen if x.kind == CONFIRM and x.arm == arm}):
        inside = [x for x in seen if x.block == block]
        own = sorted((x.position, x.value) for x in inside if x.arm == arm and x.value is not None)
        base = sorted((x.position, x.value) for x in inside if x.arm == default and x.value is not None)
        if len(own) == len(base) == 2:  # half a mirror would carry the drift
            found += [a[1] - b[1] for a, b in zip(own, base, strict=True)]
    return found


def _pair_error(y: FloatArray, noise: float, df: float) -> tuple[float, float]:
    """Standard error of the mean of pairs, with the noise of all readings unless these scatter more."""
    pooled = noise * math.sqrt(2.0 / y.size)
    if y.size < 3:
        return pooled, df
    own = float(y.var(ddof=1))
    if df >= 1 and own > 2 * noise * noise * _f_quantile(1.0 - ROUGH_P, y.size - 1, df):
        return math.sqrt(own / y.size), float(y.size - 1)
    return pooled, df


@lru_cache(maxsize=64)
def _look_alpha(alpha: float, looks: int, look: int) -> float:
    """One-sided rate of one look, so that all of them together spend alpha."""
    bounds = spending_boundaries([(k + 1) / looks for k in range(looks)], alpha, "pocock")
    return float(normal_cdf(-bounds[look - 1]))


def _residual_sd(arms: Sequence[str], seen: Sequence[Look]) -> tuple[float, float]:
    """Noise of a reading after settings, drift and sessions are taken out, and its degrees of freedom."""
    measured = [a for a in arms if any(x.arm == a for x in seen)]
    design = _design(measured, seen)
    y = np.array([x.value for x in seen])
    beta, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    df = float(len(y) - rank)
    if df < 1:
        return GUESSED_SD, 0.0
    return max(1e-9, round(math.sqrt(float(((y - design @ beta) ** 2).sum()) / df), DIGITS)), df


def _design(measured: Sequence[str], seen: Sequence[Look]) -> FloatArray:
    """One column an arm, one for the drift over the order of launches, one for each session after the first."""
    sessions = sorted({x.session for x in seen})[1:]
    design = np.zeros((len(seen), len(measured) + 1 + len(sessions)))
    times = np.linspace(-0.5, 0.5, len(seen)) if len(seen) > 1 else np.zeros(len(seen))
    for row, look in enumerate(seen):
        design[row, measured.index(look.arm)] = 1.0
        design[row, len(measured)] = times[row]
        for k, session in enumerate(sessions):
            design[row, len(measured) + 1 + k] = float(look.session >= session)
    return design


class _Fit:
    """Best linear unbiased prediction of every arm, drift and sessions beside it."""

    def __init__(self, arms: Sequence[str], seen: Sequence[Look], rule: RaceRule) -> None:
        self.measured = [a for a in arms if any(x.arm == a for x in seen)]
        sd, df = _residual_sd(arms, seen) if seen else (GUESSED_SD, 0.0)
        self.noise_df = df
        mixed = (GUESSED_DF * GUESSED_SD**2 + df * sd * sd) / (GUESSED_DF + df)
        self.noise_sd = sd if df else GUESSED_SD
        width = len(self.measured)
        if not seen:
            self.estimate, self.sd, self.drift, self._cov = {}, {}, 0.0, np.zeros((0, 0))
            self._at: dict[str, int] = {}
            return
        design = np.hstack([_design(self.measured, seen), np.ones((len(seen), 1))])
        y = np.array([x.value for x in seen])
        penalty = np.zeros(design.shape[1])
        penalty[:width] = mixed / rule.prior_sd**2
        penalty[width] = mixed / 1.0
        penalty[width + 1 : -1] = mixed / STEP_SD**2
        precision = design.T @ design + np.diag(penalty) + 1e-9 * np.eye(len(penalty))
        inverse = np.linalg.inv(precision)
        beta = inverse @ design.T @ y
        self._cov = np.round(inverse[:width, :width] * mixed, DIGITS + 2)
        self._at = {a: k for k, a in enumerate(self.measured)}
        self.estimate = {a: round(float(beta[k] + beta[-1]), DIGITS) for a, k in self._at.items()}
        self.sd = {a: math.sqrt(max(0.0, float(self._cov[k, k]))) for a, k in self._at.items()}
        self.drift = round(math.expm1(float(beta[width])), DIGITS) if len(seen) > 2 else 0.0

    def chance(self, arm: str, other: str, gain: float) -> float:
        """That an arm is better than another by more than a relative gain."""
        if arm not in self._at or other not in self._at:
            return 0.0
        i, j = self._at[arm], self._at[other]
        variance = float(self._cov[i, i] + self._cov[j, j] - 2 * self._cov[i, j])
        margin = self.estimate[arm] - self.estimate[other] - math.log1p(gain)
        if variance <= 10.0**-DIGITS:
            return float(margin > 0.0)
        return round(float(normal_cdf(margin / math.sqrt(variance))), DIGITS)


def _f_quantile(p: float, df1: float, df2: float) -> float:
    """Quantile of the F distribution."""
    x = float(beta_quantile(p, df1 / 2, df2 / 2))
    return math.inf if x >= 1.0 else df2 * x / (df1 * (1.0 - x))


def provable_gain(looks: int, alpha: float, noise: float, power: float = 0.8) -> float:
    """Gain that all mirrored blocks of a challenger show with that chance, were they looked at once.

    Args:
        looks: blocks, of two pairs each.
        alpha: one-sided error rate of the challenger.
        noise: log standard deviation of a reading.
        power: wanted chance.
    """
    reach = normal_quantile(1.0 - alpha) + normal_quantile(power)
    return math.expm1(reach * noise / math.sqrt(looks))


def half_width(sd: float, level: float = 0.9) -> float:
    """Half the width of a two-sided interval of that level, in the unit of sd."""
    return float(normal_quantile(0.5 + level / 2)) * sd


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _require(arms: Sequence[str], default: str) -> None:
    if default not in arms or len(set(arms)) != len(arms):
        raise StatsError("default", "one of the arms, which all differ", default)
