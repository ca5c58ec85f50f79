"""Error rates and power of the verdict: Q1 to Q13 by Monte-Carlo, beside the source's rule and nel gate's.

A share stands with its exact one-sided 99 % bound, and a target is met only if that bound meets it. The
source's rule: every task's drop at most one point, a gain above five is anomalous. `nel gate` after its
description: 95 % interval of the paired damage; lower end above the limit BREACH, upper end at most the limit
PASS, else INSUFFICIENT; at least ten pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from _figures import Row, main
from _shares import Share, at_least, at_most, seeded, worst
from numpy.typing import NDArray
from scipy import special

from assay import stats
from assay.core.checkpoint import Checkpoint, Module, ModuleKind
from assay.core.results import Results, Samples, SampleState, TaskResult
from assay.core.vocabulary import Direction, Outcome, Status
from assay.gates._compare import paired
from assay.gates._compare.pairs import TaskPairs
from assay.gates._compare.policy import ComparePolicy
from assay.gates._compare.scales import Scale
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.gates.comparability import CHECKPOINT_DIGEST, ComparabilityGate
from assay.gates.compare import CompareGate
from assay.gates.results import ResultsGate, ResultsPolicy
from assay.stats.two_sample import stratified_score

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MARGIN, ALPHA = 0.01, 0.05
RATES = (0.03, 0.05, 0.10)
SIZES = (200, 500, 1000, 2000, 5000, 10_000)
NEL_Z, NEL_FEWEST = 1.959964, 10
GAIN = 0.05
"""Gain above which the source calls a task anomalous."""
TASKS, PER_TASK, SUITE_RATE = 8, 1000, 0.06
SUITE_RATES = np.array([0.95, 0.8, 0.6, 0.9, 0.75])
"""Success rates of the baseline on the five tasks of an agent suite (statistics.md, section 2.5)."""


# --- the peers ---------------------------------------------------------------------------------------------


class Peers(NamedTuple):
    """The same question put to the other two rules, in words."""

    source: str = "-"
    nel: str = "-"

    def __str__(self) -> str:
        return f"source {self.source}; nel gate {self.nel}"


def told(*shares: Share) -> str:
    """Shares of a peer over a grid, smallest to largest."""
    low, high = min(s.percent for s in shares), max(s.percent for s in shares)
    return f"{low:.3g} %" if round(high - low, 1) == 0.0 else f"{low:.3g}-{high:.3g} %"


# --- the three rules on one task of right/wrong pairs ------------------------------------------------------


class Flips(NamedTuple):
    """Draws of a study of n pairs: b = baseline right and candidate wrong, c = the reverse."""

    b: Floats
    c: Floats
    n: int

    @classmethod
    def drawn(cls, rng: np.random.Generator, draws: int, n: int, rate: float, drop: float) -> Flips:
        """Studies at a flip rate and a true drop."""
        counts = rng.multinomial(n, [(rate + drop) / 2, (rate - drop) / 2, 1 - rate], size=draws)
        return cls(counts[:, 0].astype(float), counts[:, 1].astype(float), n)


@lru_cache(maxsize=100_000)
def exact(b: int, c: int, n: int, margin: float) -> stats.MarginTest:
    """The exact test of one table."""
    return stats.exact_paired_test(b, c, n, margin)


def assay_rule(flips: Flips, margin: float = MARGIN, *, regress: bool = False) -> Bools:
    """ACCEPT (or REGRESSION) of the compare gate on one task: exact up to 5,000 pairs, score beyond.

    The score test finds the tables near the boundary, and the exact test decides those.
    """
    tested = stats.tango_test(flips.b, flips.c, flips.n, margin)
    p = np.array(tested.p_regress if regress else tested.p_accept)
    if flips.n <= paired.EXACT_UP_TO:
        few = flips.b + flips.c < 20
        near = np.where(few, (p > 0.005) & (p < 0.25), (p > 0.035) & (p < 0.06))
        tables, where = np.unique(
            np.stack([flips.b[near], flips.c[near]], axis=1), axis=0, return_inverse=True
        )
        found = [exact(int(b), int(c), flips.n, margin) for b, c in tables]
        if found:
            p[near] = np.array([t.p_regress if regress else t.p_accept for t in found])[where.ravel()]
    return np.asarray(p <= ALPHA)


def source_rule(flips: Flips, margin: float = MARGIN) -> Bools:
    """ACCEPT of the source: the drop is at most the margin, the gain at most five points."""
    drop = (flips.b - flips.c) / flips.n
    return np.asarray((drop <= margin + 1e-12) & (drop >= -GAIN - 1e-12))


def source_regress(flips: Flips, margin: float = MARGIN) -> Bools:
    """REGRESSION of the source."""
    return np.asarray((flips.b - flips.c) / flips.n > margin + 1e-12)


def nel_rule(mean: Floats, variance: Floats, n: int, limit: float = MARGIN) -> tuple[Bools, Bools]:
    """PASS and BREACH of `nel gate` from the mean damage per pair and its variance."""
    if n < NEL_FEWEST:
        none = np.zeros(np.shape(mean), dtype=bool)
        return none, none
    reach = NEL_Z * np.sqrt(variance / n)
    return np.asarray(mean + reach <= limit), np.asarray(mean - reach > limit)


def nel_of(flips: Flips, limit: float = MARGIN) -> tuple[Bools, Bools]:
    """PASS and BREACH of `nel gate` on right/wrong pairs."""
    mean = (flips.b - flips.c) / flips.n
    variance = ((flips.b + flips.c) / flips.n - mean**2) * flips.n / (flips.n - 1)
    return nel_rule(mean, variance, flips.n, limit)


# --- Q1 to Q3, Q6 fixed, Q12 -------------------------------------------------------------------------------


def q1(rng: np.random.Generator, draws: int, sizes: Sequence[int] = SIZES) -> list[Row]:
    """False ACCEPT at a true drop of the margin, worst over the flip rates; the same for REGRESSION."""
    rows, regressions, refused, breaches = [], [], [], []
    for n in sizes:
        studies = [Flips.drawn(rng, draws, n, rate, MARGIN) for rate in RATES]
        ours = worst([Share.of(assay_rule(s)) for s in studies])
        nel = [nel_of(s) for s in studies]
        peers = Peers(
            told(*(Share.of(source_rule(s)) for s in studies)), told(*(Share.of(p) for p, _ in nel))
        )
        rows.append(at_most(f"Q1 false ACCEPT at the margin, n {n:,}", ours, 5.6, peers))
        regressions += [Share.of(assay_rule(s, regress=True)) for s in studies]
        refused += [Share.of(source_regress(s)) for s in studies]
        breaches += [Share.of(b) for _, b in nel]
    peers = Peers(told(*refused), told(*breaches))
    return [*rows, at_most("Q1 false REGRESSION at the margin, these n", worst(regressions), 5.6, peers)]


def q2(rng: np.random.Generator, draws: int) -> list[Row]:
    """ACCEPT at twice the margin."""
    studies = [Flips.drawn(rng, draws, 1000, rate, 2 * MARGIN) for rate in RATES]
    peers = Peers(
        told(*(Share.of(source_rule(s)) for s in studies)), told(*(Share.of(nel_of(s)[0]) for s in studies))
    )
    ours = worst([Share.of(assay_rule(s)) for s in studies])
    return [at_most("Q2 ACCEPT at twice the margin, n 1,000", ours, 0.5, peers)]


def q3(rng: np.random.Generator, draws: int) -> list[Row]:
    """REGRESSION of a candidate that is as good as the baseline."""
    rows = []
    for n, limit in ((200, 2.5), (1000, 0.5)):
        studies = [Flips.drawn(rng, draws, n, rate, 0.0) for rate in RATES]
        peers = Peers(
            told(*(Share.of(source_regress(s)) for s in studies)),
            told(*(Share.of(nel_of(s)[1]) for s in studies)),
        )
        ours = worst([Share.of(assay_rule(s, regress=True)) for s in studies])
        rows.append(at_most(f"Q3 REGRESSION at no drop, n {n:,}", ours, limit, peers))
    return rows


def q6_fixed(rng: np.random.Generator, draws: int, sizes: Sequence[int] = (5000, 10_000)) -> list[Row]:
    """ACCEPT of a perfect candidate at a fixed number of pairs."""
    rows = []
    for n in sizes:
        limit = {5000: 93.0, 10_000: 99.5}[n]
        flips = Flips.drawn(rng, draws, n, 0.05, 0.0)
        peers = Peers(told(Share.of(source_rule(flips))), told(Share.of(nel_of(flips)[0])))
        rows.append(
            at_least(f"Q6 ACCEPT at no drop, fixed n {n:,}", Share.of(assay_rule(flips)), limit, peers)
        )
    return rows


def q12(rng: np.random.Generator, draws: int) -> list[Row]:
    """Power of a fresh study of the size that an INCONCLUSIVE named."""
    rows = []
    for rate in RATES:
        n = 1000
        flips = Flips.drawn(rng, draws, n, rate, 0.0)
        tested = stats.tango_test(flips.b, flips.c, n, MARGIN)
        undecided = (tested.p_accept > ALPHA) & (tested.p_regress > ALPHA)
        pairs = np.stack([flips.b[undecided], flips.c[undecided]], axis=1)
        tables, times = np.unique(pairs, axis=0, return_counts=True)
        needed = [stats.pairs_to_settle(int(b), int(c), n, MARGIN).accept_at_zero_drop for b, c in tables]
        totals = np.repeat(np.array(needed, dtype=int), times)
        again = rng.multinomial(totals, [rate / 2, rate / 2, 1 - rate]).astype(float)
        share = Share.of(stats.tango_test(again[:, 0], again[:, 1], totals, MARGIN).p_accept <= ALPHA)
        lower, upper = share.bounds
        name = f"Q12 power at the pairs it named, flip rate {100 * rate:.0f} %"
        beside = f"bounds {lower:.1f}-{upper:.1f}; {Peers('names none', 'names none')}"
        rows.append(Row(name, share.percent, "%", "75-90", lower >= 75.0 and upper <= 90.0, beside))
    return rows


# --- Q4, Q5: eight tasks -----------------------------------------------------------------------------------


class Suite(NamedTuple):
    """Verdicts over draws of a suite of tasks."""

    accept: Bools
    regress: Bools


def drawn_suite(rng: np.random.Generator, draws: int, drops: Sequence[float]) -> list[Flips]:
    """One column of draws per task."""
    return [Flips.drawn(rng, draws, PER_TASK, SUITE_RATE, drop) for drop in drops]


def assay_suite(tasks: Sequence[Flips]) -> Suite:
    """The gate's rule for all draws at once: mean over tasks, a guard on each task, Holm over the tasks."""
    b, c = (np.stack([getattr(t, side) for t in tasks], axis=1) for side in "bc")
    drop = (b - c) / PER_TASK
    variance = np.maximum((b + c + 1) / (PER_TASK + 2) - drop**2, 1 / (PER_TASK + 2))
    z = (drop.mean(axis=1) - MARGIN) / (np.sqrt((variance / PER_TASK).sum(axis=1)) / len(tasks))
    guard = stats.guard_margin(PER_TASK, SUITE_RATE)
    if guard is None:
        raise AssertionError("1,000 pairs a task carry a guard")
    guarded = np.stack([assay_rule(t, guard) for t in tasks], axis=1).all(axis=1)
    single = stats.tango_test(b, c, PER_TASK, MARGIN).p_regress
    # the smallest p-value adjusted by Holm is the smallest times their number
    regress = (z >= 1.959964) | (single.min(axis=1) * len(tasks) <= ALPHA / 2)
    return Suite(np.asarray((z <= -1.644854) & guarded & ~regress), np.asarray(regress))


def peers_of_suite(tasks: Sequence[Flips]) -> tuple[Peers, Peers]:
    """ACCEPT, then REGRESSION, of the other two rules: every task must pass, any may fail."""
    nel = [nel_of(t) for t in tasks]
    accept = Peers(
        told(Share.of(np.logical_and.reduce([source_rule(t) for t in tasks]))),
        told(Share.of(np.logical_and.reduce([p for p, _ in nel]))),
    )
    regress = Peers(
        told(Share.of(np.logical_or.reduce([source_regress(t) for t in tasks]))),
        told(Share.of(np.logical_or.reduce([b for _, b in nel]))),
    )
    return accept, regress


def q4_q5(rng: np.random.Generator, draws: int, through_gate: int) -> list[Row]:
    """A perfect candidate over eight tasks, and one with a single task five points down."""
    rows = []
    agreed = asked = 0
    for name, first, accepts, regresses in (
        ("Q4 8 x 1,000, no drop", 0.0, partial(at_least, limit=85.0), partial(at_most, limit=0.5)),
        (
            "Q5 8 x 1,000, one task -5 points",
            0.05,
            partial(at_most, limit=0.1),
            partial(at_least, limit=98.0),
        ),
    ):
        tasks = drawn_suite(rng, draws, [first] + [0.0] * (TASKS - 1))
        ours, (accept, regress) = assay_suite(tasks), peers_of_suite(tasks)
        rows.append(accepts(f"{name}: ACCEPT", Share.of(ours.accept), beside=accept))
        rows.append(regresses(f"{name}: REGRESSION", Share.of(ours.regress), beside=regress))
        for draw in range(through_gate):
            word = gate_verdict([(int(t.b[draw]), int(t.c[draw])) for t in tasks])
            agreed += word is rule_word(ours, draw)
            asked += 1
    if asked:
        share = 100.0 * agreed / asked
        name = "Q4, Q5 the compare gate gives the same verdict"
        rows.append(Row(name, share, "%", ">= 98", share >= 98.0, f"on {asked} of these suites"))
    return rows


def rule_word(suite: Suite, draw: int) -> Status:
    """Verdict of one draw."""
    if suite.regress[draw]:
        return Status.FAIL
    return Status.PASS if suite.accept[draw] else Status.INCONCLUSIVE


@lru_cache(maxsize=4096)
def gate_task(b: int, c: int, name: str) -> paired.Sides:
    """One task as the compare gate prepares it."""
    answers = [(1.0, 0.0)] * b + [(0.0, 1.0)] * c + [(1.0, 1.0)] * (PER_TASK - b - c)
    ids = [f"{i:04}" for i in range(len(answers))]
    baseline, candidate = zip(*answers, strict=True)
    scale = Scale(0.0, 1.0, Direction.HIGHER, "declared")
    return paired.units(TaskPairs(name, scale, ids, baseline, candidate), ComparePolicy())


def gate_verdict(tables: Sequence[tuple[int, int]]) -> Status:
    """The compare gate's own statistics on one suite."""
    sides = [gate_task(b, c, f"t{i}") for i, (b, c) in enumerate(tables)]
    tested = paired.decide(sides, ComparePolicy())
    every = [tested.macro.status, *(t.status for t in tested.tasks)]
    if Status.FAIL in every:
        return Status.FAIL
    return Status.PASS if all(s is Status.PASS for s in every) else Status.INCONCLUSIVE


# --- Q6 group, Q7, Q8: stopping early ----------------------------------------------------------------------


class Sequential(NamedTuple):
    """Studies that stop at the first boundary."""

    accept: Bools
    regress: Bools
    used: Floats
    """Pairs used by each."""


def sequential(rng: np.random.Generator, draws: int, n_max: int, drop: float, looks: int = 10) -> Sequential:
    """Pocock-type spending over equal looks, at a flip rate of 5 %; no verdict below 20 flips."""
    plan = stats.sequential_plan([k / looks for k in range(1, looks + 1)])
    step, rate = n_max // looks, 0.05
    chances = [(rate + drop) / 2, (rate - drop) / 2, 1 - rate]
    flips = rng.multinomial(step, chances, size=(draws, looks)).cumsum(axis=1).astype(float)
    pairs = step * np.arange(1, looks + 1)
    b, c = flips[..., 0], flips[..., 1]
    z = stats.tango_test(b, c, np.broadcast_to(pairs, b.shape), MARGIN).z
    enough = b + c >= 20
    accept, regress = (z <= -np.array(plan.accept_z)) & enough, (z >= np.array(plan.regress_z)) & enough
    stop = accept | regress
    stop[:, -1] = True
    first, row = stop.argmax(axis=1), np.arange(draws)
    return Sequential(accept[row, first], regress[row, first], pairs[first].astype(float))


def q6_group(rng: np.random.Generator, draws: int) -> list[Row]:
    """ACCEPT of a perfect candidate where the study may stop early."""
    rows = []
    for n_max, limit in ((5000, 87.0), (10_000, 99.0)):
        study = sequential(rng, draws, n_max, 0.0)
        name = f"Q6 ACCEPT at no drop, 10 looks up to {n_max:,}"
        rows.append(at_least(name, Share.of(study.accept), limit, Peers("cannot stop", "cannot stop")))
    return rows


def q7(rng: np.random.Generator, draws: int) -> list[Row]:
    """Mean pairs of studies that may take 10,000."""
    rows = []
    for drop, limit in ((0.0, 3600.0), (0.03, 1400.0)):
        used = sequential(rng, draws, 10_000, drop).used
        upper = float(used.mean() + 2.33 * used.std() / math.sqrt(used.size))
        name = f"Q7 mean pairs of 10,000, drop {100 * drop:.0f} points"
        beside = f"bound {upper:.0f}; {Peers('10,000', '10,000')}"
        rows.append(Row(name, float(used.mean()), "pairs", f"<= {limit:g}", upper <= limit, beside))
    return rows


def q8(rng: np.random.Generator, draws: int) -> list[Row]:
    """A wrong boundary ever crossed, looked at every 20 pairs up to 20,000, at a drop of the margin."""
    looks, needed = 1000, -math.log(ALPHA)
    pairs = 20 * np.arange(1, looks + 1)
    crossed: list[list[Bools]] = [[], [], [], []]
    for _ in range(0, draws, 100):
        flips = rng.multinomial(20, [0.03, 0.02, 0.95], size=(100, looks)).cumsum(axis=1).astype(float)
        b, c = flips[..., 0], flips[..., 1]
        evidence = stats.betting_evidence(b, c, pairs, MARGIN)
        mean = (b - c) / pairs
        # two hundred pairs first, or the peers' errors would be those of the very first answers
        reach = NEL_Z * np.sqrt(((b + c) / pairs - mean**2) / pairs)
        seen = pairs >= 200
        for store, happened in zip(
            crossed,
            (
                evidence.log_e_accept >= needed,
                evidence.log_e_regress >= needed,
                (mean <= MARGIN) & seen,
                (mean + reach <= MARGIN) & seen,
            ),
            strict=True,
        ):
            store.append(happened.any(axis=1))
    accept, regress, source, nel = (Share.of(np.concatenate(c)) for c in crossed)
    peers = Peers(told(source), told(nel))
    return [
        at_most("Q8 anytime: ACCEPT ever at the margin", accept, 5.0, peers),
        at_most("Q8 anytime: REGRESSION ever at the margin", regress, 5.0, Peers()),
    ]


# --- Q9 to Q11: repeats, agent suites, speed ---------------------------------------------------------------


def repeats_at_the_margin(
    rng: np.random.Generator, draws: int, items: int, repeats: int, margin: float
) -> Floats:
    """Drop per item, shape (draws, items); over items like these its mean is the margin, effects of logit sd 1."""
    x, weight = np.polynomial.hermite_e.hermegauss(60)
    ability, effect = np.meshgrid(x, x)
    weights = np.outer(weight, weight) / weight.sum() ** 2
    right = special.expit(0.3 + 1.2 * ability)
    low, high = -1.0, 2.0
    for _ in range(60):
        shift = (low + high) / 2
        drop = float((weights * (right - special.expit(0.3 + 1.2 * ability - shift + effect))).sum())
        low, high = (shift, high) if drop < margin else (low, shift)
    logit = rng.normal(0.3, 1.2, size=(draws, items))
    changed = logit - low + rng.normal(0.0, 1.0, size=logit.shape)
    first = rng.binomial(repeats, special.expit(logit))
    return np.asarray((first - rng.binomial(repeats, special.expit(changed))) / repeats)


def q9(rng: np.random.Generator, draws: int) -> list[Row]:
    """False ACCEPT where samples are repeats of few items."""
    rows, margin = [], 0.05
    for items, repeats in ((30, 64), (198, 16)):
        d = repeats_at_the_margin(rng, draws, items, repeats, margin)
        ours = np.array([stats.clustered_mean(row).test(margin).p_accept <= ALPHA for row in d])
        mean = d.mean(axis=1)
        pooled = Share.of((mean - margin) / (0.63 / math.sqrt(items * repeats)) <= -1.644854)
        nel = Share.of(nel_rule(mean, d.var(axis=1, ddof=1), items, margin)[0])
        peers = Peers(f"{told(Share.of(mean <= margin))}, repeats pooled {told(pooled)}", told(nel))
        rows.append(at_most(f"Q9 false ACCEPT, {items} items x {repeats}", Share.of(ours), 7.0, peers))
    return rows


def q10(rng: np.random.Generator, draws: int) -> list[Row]:
    """Five agent tasks, each run k times per arm."""
    sizes, points = [], []
    nel = "0 % (5 problems, it needs 10)"
    for k in (3, 5, 10, 20):
        for lost in (np.full(5, 0.2), np.array([0.95, 0.0, 0.0, 0.0, 0.0])):
            margin = float(lost.mean())
            drop, z = suite_scores(rng, draws, k, lost, margin)
            sizes.append(Share.of(z <= -1.644854))
            points.append(Share.of(drop <= margin + 1e-12))
    rows = [at_most("Q10 agent suite: false ACCEPT, k 3-20", worst(sizes), 6.0, Peers(told(*points), nel))]
    for k, margin in ((10, 0.2), (40, 0.1)):
        drop, z = suite_scores(rng, draws, k, np.zeros(5), margin)
        peers = Peers(told(Share.of(drop <= margin + 1e-12)), nel)
        name = f"Q10 agent suite: ACCEPT at no drop, k {k}, {100 * margin:.0f} points"
        rows.append(at_least(name, Share.of(z <= -1.644854), 80.0, peers))
    return rows


def suite_scores(
    rng: np.random.Generator, draws: int, k: int, lost: Floats, margin: float
) -> tuple[Floats, Floats]:
    """Observed mean drop and stratified score of suites whose tasks lose so much."""
    first, second = (
        rng.binomial(k, p, size=(draws, 5)).astype(float) for p in (SUITE_RATES, SUITE_RATES - lost)
    )
    n = np.full((draws, 5), float(k))
    z = stratified_score(first, n, second, n, np.full(draws, margin))
    return np.asarray((first - second).mean(axis=1) / k), z


def q11(rng: np.random.Generator, draws: int) -> list[Row]:
    """Throughput of equal arms, 12 interleaved pairs; coefficient of variation 20 %, of which 17 % drift."""
    equal = [stats.throughput_test(trials(rng, 12, 0.0)) for _ in range(draws)]
    slower = [stats.throughput_test(trials(rng, 12, -0.1)) for _ in range(draws)]
    medians = np.median(rng.normal(1.0, 0.2, size=(20_000, 2, 5)), axis=2)
    ratio = medians[:, 1] / medians[:, 0]
    median = told(Share.of(np.abs(ratio - 1.0) > 0.1))
    none = "judges no speed"
    winner = Share.of(np.array([t.regress or t.faster for t in equal]))
    return [
        at_most("Q11 false winner of equal arms", winner, 10.0, Peers(f"median of 5: {median}", none)),
        at_least(
            "Q11 equality certified, 12 pairs",
            Share.of(np.array([t.accept for t in equal])),
            65.0,
            Peers("proves nothing", none),
        ),
        at_most(
            "Q11 ACCEPT at -10 %",
            Share.of(np.array([t.accept for t in slower])),
            7.0,
            Peers(f"median of 5: {told(Share.of(ratio * 0.9 >= 0.9))}", none),
        ),
    ]


def trials(rng: np.random.Generator, pairs: int, change: float) -> Floats:
    """Log ratios of ABBA pairs: own noise, a tenth of the drift, and a slide of 10 % over the session."""
    order = np.tile([1.0, -1.0], (pairs + 1) // 2)[:pairs]
    own = rng.normal(0.0, 0.10, size=(pairs, 2))
    uneven = rng.normal(0.0, 0.017, size=pairs)
    return np.asarray(
        math.log1p(change) + own[:, 1] - own[:, 0] + uneven + order * math.log1p(-0.1) / (2 * pairs)
    )


# --- Q13: what must not be believed ------------------------------------------------------------------------

ITEMS = 400
PROTOCOL = {"lm_eval_version": "0.4.13", "random_seed": 0, "engine": "llama_cpp"}


class Case(NamedTuple):
    """Two evaluations and two checkpoints."""

    baseline: Results
    candidate: Results
    checkpoint: Checkpoint


def checkpoint(scheme: str, subject: str) -> Checkpoint:
    """A model of four linears in one scheme."""
    quantized = scheme != "BF16"
    bits, stored = (8.0, 8 + 16 / 512) if quantized else (16.0, 16.0)
    names = [f"model.layers.{i}.mlp.{part}_proj" for i in range(2) for part in ("up", "down")]
    linears = [
        Module(
            name=name,
            kind=ModuleKind.LINEAR,
            scheme=scheme,
            weight_bits=bits,
            stored_bits=stored,
            shape=(512, 512),
            declared=scheme if quantized else None,
            tensors=(f"{name}.weight",),
        )
        for name in names
    ]
    return Checkpoint(
        subject=subject,
        format="safetensors",
        quant_method="compressed-tensors" if quantized else None,
        weight_bytes=round(len(linears) * 512 * 512 * stored / 8),
        parameters=len(linears) * 512 * 512,
        modules=tuple(linears),
    )


SOURCE, QUANTIZED = checkpoint("BF16", "source"), checkpoint("INT8", "candidate")


def evaluation(
    right: Bools, subject: str, *, scale: float = 1.0, prompt: str = "p", kept: int = ITEMS
) -> Results:
    """One task with these answers."""
    n = min(kept, right.size)
    scores = tuple(scale * float(r) for r in right[:n])
    samples = Samples(
        id=tuple(f"s{i}" for i in range(n)),
        repeat=(0,) * n,
        prompt=tuple(f"{prompt}{i}" for i in range(n)),
        score=scores,
        state=(SampleState.SCORED,) * n,
        output=tuple(f"{subject if i % 3 == 0 else ''}{i}{r}" for i, r in enumerate(scores)),
    )
    task = TaskResult(
        task="arc",
        metric="acc",
        score=sum(scores) / n,
        high=scale,
        scale_source="inferred",
        expected=n,
        scored=n,
        samples=samples,
    )
    facts = {CHECKPOINT_DIGEST: f"sha256:{subject}"}
    return Results(subject=subject, harness="lm_eval", tasks=(task,), protocol=PROTOCOL, facts=facts)


def alarms(case: Case) -> list[str]:
    """Names of the gates that refuse to believe the case."""
    found = []
    promised = CheckpointGate(CheckpointPolicy(recipe="W8A8")).judge(
        {"source.checkpoint": SOURCE, "candidate.checkpoint": case.checkpoint}
    )
    if promised.status is not Status.PASS:
        found.append("checkpoint")
    run = ResultsGate(ResultsPolicy(expected={"arc": ITEMS}))
    if any(
        run.judge({"results": side}).status is not Status.PASS for side in (case.baseline, case.candidate)
    ):
        found.append("results")
    sides = {"baseline.results": case.baseline, "candidate.results": case.candidate}
    if ComparabilityGate().judge(sides).status is not Status.PASS:
        found.append("comparability")
    if CompareGate().judge(sides).outcome is Outcome.ANOMALOUS:
        found.append("compare")
    return found


def answers(rng: np.random.Generator, rate: float) -> tuple[Bools, Bools]:
    """Answers of a baseline of 75 % and of a candidate as good, at a flip rate."""
    right = rng.random(ITEMS) < 0.75
    # as many right ones are lost as wrong ones are won: the drop is 0 in expectation
    chance = np.where(right, rate / 2 / 0.75, rate / 2 / 0.25)
    return np.asarray(right), np.asarray(right ^ (rng.random(ITEMS) < chance))


def injections(rng: np.random.Generator) -> dict[str, list[Case]]:
    """Five things that happen, some in two ways; one counts as caught if each of its ways is."""
    before, after = answers(rng, 0.03)
    base, good = evaluation(before, "base"), evaluation(after, "w8a8")
    return {
        "same model twice": [Case(base, evaluation(before, "base"), QUANTIZED)],
        "scale mix": [
            Case(base, evaluation(after, "w8a8", scale=100.0), QUANTIZED),
            Case(evaluation(before, "base", scale=100.0), good, QUANTIZED),
        ],
        "template swap": [Case(base, evaluation(after, "w8a8", prompt="q"), QUANTIZED)],
        "dropped samples": [Case(base, evaluation(after, "w8a8", kept=ITEMS - 8), QUANTIZED)],
        "silent no-quant": [Case(base, good, checkpoint("BF16", "candidate"))],
    }


def source_alarm(case: Case) -> bool:
    """The source's three gates: promised precision present, counts as expected, no gain above five of 100."""
    before, after = (side.tasks[0] for side in (case.baseline, case.candidate))
    quantized = any(m.scheme == "INT8" for m in case.checkpoint.modules)
    counted = all(len(t.samples) == ITEMS for t in (before, after))
    gained = ((after.score or 0.0) - (before.score or 0.0)) / 100.0 > GAIN
    return not quantized or not counted or gained


def nel_alarm(case: Case) -> bool:
    """`nel gate` pairs what both sides have and looks at nothing else: its only refusal is too few pairs."""
    before, after = (set(side.tasks[0].samples.id) for side in (case.baseline, case.candidate))
    return len(before & after) < NEL_FEWEST


def q13(rng: np.random.Generator, draws: int) -> list[Row]:
    """Injections through the real gates, and honest pairs of equal models through the same gates."""
    injected = injections(rng)
    caught = {name: all(bool(alarms(case)) for case in cases) for name, cases in injected.items()}
    source = sum(all(source_alarm(case) for case in cases) for cases in injected.values())
    nel = sum(all(nel_alarm(case) for case in cases) for cases in injected.values())
    missed = [name for name, found in caught.items() if not found]
    false = []
    for draw in range(draws):
        before, after = answers(rng, (0.01, 0.03, 0.06)[draw % 3])
        honest = Case(evaluation(before, "base"), evaluation(after, "w8a8"), QUANTIZED)
        false.append((bool(alarms(honest)), source_alarm(honest), nel_alarm(honest)))
    ours, of_source, of_nel = (Share.of(np.array(column)) for column in zip(*false, strict=True))
    count = sum(caught.values())
    peer = f"missed: {', '.join(missed) or 'none'}; source {source}; nel gate {nel}"
    return [
        Row("Q13 injections caught, of 5", float(count), "", ">= 5", count >= 5, peer),
        at_most("Q13 false alarms on equal models", ours, 1.0, Peers(told(of_source), told(of_nel))),
    ]


# --- all of them -------------------------------------------------------------------------------------------


def measure(quick: bool) -> list[Row]:
    """All figures, each part with a seed of its own."""

    def draws(few: int, many: int) -> int:
        return few if quick else many

    parts: list[Callable[[np.random.Generator], list[Row]]] = [
        # 5,000 pairs are the dearest of the exact test: left to the full run
        lambda rng: q1(rng, draws(40_000, 100_000), (200, 1000, 10_000) if quick else SIZES),
        lambda rng: q2(rng, draws(300_000, 1_000_000)),
        lambda rng: q3(rng, draws(50_000, 300_000)),
        lambda rng: q4_q5(rng, draws(10_000, 100_000), draws(6, 150)),
        lambda rng: q6_fixed(rng, draws(50_000, 400_000), (10_000,) if quick else (5000, 10_000)),
        lambda rng: q6_group(rng, draws(60_000, 200_000)),
        lambda rng: q7(rng, draws(50_000, 100_000)),
        lambda rng: q8(rng, draws(3_000, 20_000)),
        lambda rng: q9(rng, draws(4_000, 30_000)),
        lambda rng: q10(rng, draws(40_000, 200_000)),
        lambda rng: q11(rng, draws(2_000, 20_000)),
        lambda rng: q12(rng, draws(10_000, 100_000)),
        lambda rng: q13(rng, draws(480, 3_000)),
    ]
    return seeded(parts, 1)


if __name__ == "__main__":
    main(__doc__ or "", measure)
