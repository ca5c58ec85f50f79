"""How good the tuner's choice is, on machines whose truth is known: 12 settings, 10 % noise, 17 % drift.

Assay's race beside the source's rule (3 readings each, in order, 2 % band), Optuna's TPE, random search and the full
grid, all with the source's 36 readings. Readings are drawn in process from `assay.testing.truth`; `--quick` draws fewer.
"""

from __future__ import annotations

import math
import random
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from _figures import Row, main

from assay.stats.selection import Look, RaceRule, next_block, sequential_band, standings
from assay.testing.truth import Truth

CELLS, BUDGET = 12, 36
CV, DRIFT, OVER = 0.10, 0.17, 40
SPREAD = 0.15
"""How far true speeds lie apart: log standard deviation."""
NEAR = 0.95
"""A choice is good when it is within 5 % of the best."""
PROMPT, OUTPUT, CONCURRENCY = 128, 64, 4


@dataclass
class Machine:
    """One simulated machine with a setting in each cell; every reading is a launch of its own."""

    seed: int
    identical: bool
    cells: int = CELLS
    cv: float = CV
    drift: float = DRIFT
    launches: int = 0
    truths: list[Truth] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw the settings' true speeds."""
        draw = random.Random(f"cells/{self.seed}")  # noqa: S311 - a simulation
        for cell in range(self.cells):
            speed = 1.0 if self.identical else math.exp(draw.gauss(0.0, SPREAD))
            self.truths.append(
                Truth(speed=speed, cv_between=self.cv, drift_frac=self.drift, drift_over=OVER,
                      seed=self.seed * 1000 + cell)
            )  # fmt: skip

    def read(self, cell: int) -> float:
        """Launch a cell once and measure it."""
        value = self.truths[cell].reading_tps(PROMPT, OUTPUT, CONCURRENCY, launch=self.launches, reading=0)
        self.launches += 1
        return value

    def good(self, cell: int) -> bool:
        """Whether a cell is within 5 % of the best."""
        true = [t.throughput_tps(PROMPT, OUTPUT, CONCURRENCY) for t in self.truths]
        return true[cell] >= NEAR * max(true)


@dataclass(frozen=True)
class Choice:
    """What a method came to."""

    recommended: int
    best: int
    """Its best estimate; the same where it knows no other word."""


def race(machine: Machine) -> Choice:
    """Assay's rule."""
    arms = [str(cell) for cell in range(machine.cells)]
    looks: list[Look] = []
    rule = RaceRule()
    while (block := next_block(arms, "0", looks, rule, machine.seed)) is not None:
        for position, arm in enumerate(block.arms):
            value = math.log(machine.read(int(arm)))
            looks.append(Look(arm, value, block.kind, block.number, position))
    now = standings(arms, "0", looks, rule)
    return Choice(int(now.reference), int(now.best))


def source(machine: Machine) -> Choice:
    """The source's rule: three readings of each cell, one cell after the other, keep-best in a band of 2 %."""
    rows = []
    for cell in range(machine.cells):
        for _ in range(BUDGET // CELLS):
            value = machine.read(cell)
            rows.append((str(cell), value, 1e5 / value))
    found = int(sequential_band(rows) or 0)
    return Choice(found, found)


def grid(machine: Machine) -> Choice:
    """The full grid, passed through three times; the best mean."""
    return _best_mean(machine, [cell for _ in range(BUDGET // CELLS) for cell in range(machine.cells)])


def random_search(machine: Machine) -> Choice:
    """Cells drawn at random; the best mean."""
    draw = random.Random(f"order/{machine.seed}")  # noqa: S311 - a simulation
    return _best_mean(machine, [draw.randrange(machine.cells) for _ in range(BUDGET)])


def tpe(machine: Machine) -> Choice:
    """Optuna's TPE over the cells; its best trial."""
    import optuna  # noqa: PLC0415 - heavy, and not needed by the others

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=machine.seed))
    names = list(range(machine.cells))
    study.optimize(lambda t: machine.read(t.suggest_categorical("cell", names)), n_trials=BUDGET)
    found = int(study.best_params["cell"])
    return Choice(found, found)


def _best_mean(machine: Machine, order: Sequence[int]) -> Choice:
    values: dict[int, list[float]] = {}
    for cell in order:
        values.setdefault(cell, []).append(machine.read(cell))
    found = max(values, key=lambda c: statistics.fmean(values[c]))
    return Choice(found, found)


@dataclass(frozen=True)
class Quality:
    """Shares over many machines, in percent."""

    recommended: float
    best: float
    readings: float
    false_change: float
    readings_identical: float


def quality(method: Callable[[Machine], Choice], runs: int, **more: float) -> Quality:
    """A method over machines that differ, and over machines whose cells are all the same."""
    good, best, used = 0, 0, 0
    for seed in range(runs):
        machine = Machine(seed, identical=False, **more)  # type: ignore[arg-type]
        choice = method(machine)
        good += machine.good(choice.recommended)
        best += machine.good(choice.best)
        used += machine.launches
    changed, used_same = 0, 0
    for seed in range(runs):
        machine = Machine(seed + 10**6, identical=True, **more)  # type: ignore[arg-type]
        changed += method(machine).recommended != 0
        used_same += machine.launches
    return Quality(100 * good / runs, 100 * best / runs, used / runs, 100 * changed / runs, used_same / runs)


def measure(quick: bool) -> list[Row]:
    """The race against its targets, and the others beside it."""
    runs = 500 if quick else 2000
    ours = quality(race, runs)
    rows = [
        Row("recommendation within 5 % of the best", ours.recommended, "%", ">= 85", ours.recommended >= 85),
        Row("best estimate within 5 % of the best", ours.best, "%", ">= 92", ours.best >= 92),
        Row("false change on identical cells", ours.false_change, "%", "<= 9", ours.false_change <= 9),
        Row("readings on average", ours.readings, "", "<= 40", ours.readings <= 40),
        Row("readings on average, identical cells", ours.readings_identical, "", "", None),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna tells of experimental features
        for name, method, share in PEERS:
            rows += _peer(name, quality(method, max(20, int(runs * share))))
    if not quick:
        for label, more in WORLDS:
            other = quality(race, 300, **more)
            rows.append(
                Row(
                    f"{label}: recommendation within 5 %",
                    other.recommended,
                    "%",
                    peer=f"{other.readings:.0f} readings",
                )
            )
            rows.append(
                Row(f"{label}: false change", other.false_change, "%", "<= 10", other.false_change <= 10)
            )
    return rows


def _peer(name: str, found: Quality) -> list[Row]:
    return [
        Row(f"{name}: within 5 % of the best", found.recommended, "%", peer=f"{found.readings:.0f} readings"),
        Row(
            f"{name}: false change on identical cells", found.false_change, "%", peer="no word for `default`"
        ),
    ]


PEERS: tuple[tuple[str, Callable[[Machine], Choice], float], ...] = (
    ("source's rule", source, 1.0),
    ("full grid", grid, 1.0),
    ("random search", random_search, 1.0),
    ("Optuna TPE", tpe, 0.1),
)
"""Name, method, share of the runs."""
WORLDS: tuple[tuple[str, dict[str, float]], ...] = (
    ("6 cells", {"cells": 6}),
    ("24 cells", {"cells": 24}),
    ("CV 5 %", {"cv": 0.05}),
    ("CV 20 %", {"cv": 0.2}),
    ("no drift", {"drift": 0.0}),
)


if __name__ == "__main__":
    main(__doc__ or "", measure)
