"""The recorded trials of the system that this one replaces, and the answers that they allow."""

from __future__ import annotations

import itertools
import math

import pytest

from assay.core.recommendation import Standing
from assay.core.tuning import Cause, Launch, Stage
from assay.flows.tune import TuneSpec, inert, searched
from assay.stats.selection import pair_noise, sequential_band
from assay.tuning.answer import answer
from assay.tuning.search import Search
from tuning_world import World, plan, point, reading

TRIALS = {
    ("1B", 2000): (9.7, 2380.0),
    ("1B", 8000): (2.4, 11268.0),
    ("3B", 2000): (3.1, 9960.0),
    ("3B", 8000): (0.4, 94604.0),
    ("Phi", 2000): (0.5, 83662.0),
    ("Phi", 8000): None,
}
"""Model and context → tokens/s and TTFT; M1 Air, 8 GB."""
STAGE_2 = [
    (("unset", 1), 8.48, 18583.0),
    (("unset", 2), 8.67, 4201.0),
    (("4", 1), 8.49, 4036.0),
    (("4", 2), 10.45, 4072.0),
    (("8", 1), 12.53, 2611.0),
    (("8", 2), 9.48, 3605.0),
]
"""KV bits and batch limit → medians of three; one request in flight."""


@pytest.mark.parametrize(
    ("context", "gate_ms", "model"),
    [(2000, 60_000, "3B"), (8000, 60_000, "1B"), (2000, 8_000, "1B"), (8000, 8_000, None)],
)
def test_biggest_fit(context: int, gate_ms: float, model: str | None) -> None:
    """Order Phi, 3B, 1B: the first whose TTFT keeps the gate."""

    def measured(launch: Launch, _number: int):
        row = TRIALS[launch.cell.split()[0], context]
        return Cause.OOM_LOAD if row is None else point(row[0], late=int(row[1] > gate_ms), n=1)

    found = answer(World(plan({"Phi": 1, "3B": 1, "1B": 1}), measured).run())
    assert found.model == model


def test_the_old_objective_always_takes_the_smallest() -> None:
    """Most tokens a second over all trials that fit: the 1B model at 2000 tokens."""
    rows = [
        (f"{m}@{c}", row[0] if row and row[1] <= 60_000 else None, row[1] if row else None)
        for (m, c), row in TRIALS.items()
    ]
    assert sequential_band(rows, replicates=1) == "1B@2000"


@pytest.mark.parametrize("band", [0.02, 0.05, 0.1, 0.25])
def test_the_sources_rule_takes_kv_8_in_every_order(band: float) -> None:
    """All 720 orders of the six cells give (8, 1)."""
    rows = [(f"{kv},{mb}", tps, ttft) for (kv, mb), tps, ttft in STAGE_2]
    answers = {sequential_band(order, replicates=1, band=band) for order in itertools.permutations(rows)}
    assert answers == {"8,1"}


def test_the_batch_limit_is_inert_so_its_pairs_show_the_noise() -> None:
    """One request in flight: the limit cannot act. Its pairs differ by 14 % a reading, and kv 8 by 1.7 of that."""
    table = {cell: tps for cell, tps, _ in STAGE_2}
    pairs = [(table[kv, 1], table[kv, 2]) for kv in ("unset", "4", "8")]
    assert [round(math.log(b / a), 3) for a, b in pairs] == [0.022, 0.208, -0.279]
    noise = pair_noise(pairs)
    assert noise == pytest.approx(0.142, abs=0.001)
    gain = (math.log(12.53 * 9.48) - math.log(8.48 * 8.67)) / 2
    assert gain / noise == pytest.approx(1.7, abs=0.05)


def test_the_inert_knob_is_not_searched() -> None:
    """A spec with one request in flight keeps one value of the limit: three cells are left of six."""
    spec = TuneSpec.model_validate(
        {
            "schema": "tune/1",
            "models": ["m.gguf"],
            "engine": "llama_cpp",
            "knobs": {"kv_type": [None, "q4_0", "q8_0"], "slots": [1, 2]},
            "load": {"concurrency": [1]},
        }
    )
    assert [(i.knob, i.kept, i.dropped) for i in inert(spec)] == [("slots", 1, (2,))]
    assert math.prod(len(k.values) for k in searched(spec)) == 3


def test_stage_2_is_provisional_and_unresolved() -> None:
    """Two readings of each KV setting: 8 bits is the best guess, nothing is proven, and the first launch was cold."""
    made = plan({"m": 3})
    cells = {"unset": "m c0", "4": "m c1", "8": "m c2"}
    world = World(made, lambda launch, n: point(8.5))
    world.step()
    rows = list(STAGE_2)
    world.readings.clear()
    fit = Launch(stage=Stage.FIT, cell="m c0", context=512)
    _add(world, fit, rows[0][1], rows[0][2])
    for block in (1, 2):
        for position, kv in enumerate(("unset", "4", "8")):
            tps, ttft = next((t, w) for (k, mb), t, w in rows if (k, mb) == (kv, block))
            launch = Launch(stage=Stage.SCREEN, cell=cells[kv], context=512, block=block, position=position)
            _add(world, launch, tps, ttft)
    found = answer(Search(made, tuple(world.readings)))
    assert found.best_estimate == "m c2"
    assert found.recommended == "m c0"
    assert found.standing is Standing.UNRESOLVED
    assert "m c2" in found.open
    assert any("cold" in text for text in found.remarks)
    assert found.sequential_band == "m c2"


def _add(world: World, launch: Launch, tps: float, ttft: float) -> None:
    world.readings.append(reading(launch, len(world.readings) + 1, point(tps, n=3, ttft_ms=ttft)))
