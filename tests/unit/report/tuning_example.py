"""A tuning record as a study leaves it: three models, contexts, concurrencies, replicates, failures of each kind."""

from __future__ import annotations

import math
import random
from typing import Any

from assay.core.recommendation import (
    Basis,
    Choice,
    ExitReason,
    Infeasible,
    Inputs,
    Knobs,
    Machine,
    Recommendation,
    Standing,
    sealed,
    source_knobs,
)
from assay.core.tuning_record import Cell, CellState, Reading, TuningRecord

MODELS = ("skills-s400m-Q8_0.gguf", "skills-s120m-Q8_0.gguf", "skills-s30m-Q8_0.gguf")
CONTEXTS = (512, 1024, 2048, 4096)
LOADS = (1, 2, 4, 8)
START = "2026-11-20T10:00:00.000000Z"


def at(second: int) -> str:
    """A time of the example's day."""
    return f"2026-11-20T10:{second // 60:02d}:{second % 60:02d}.000000Z"


def record(**changed: Any) -> TuningRecord:
    """The whole example, the same each time."""
    made = _Made()
    made.stage_one()
    made.grid()
    made.finals()
    chosen, best, point = made.choices()
    fields: dict[str, Any] = {
        "run_id": "tune-20261120-ab12",
        "started_at": START,
        "ended_at": "2026-11-20T10:07:41.000000Z",
        "exit_reason": ExitReason.OK,
        "machine": Machine(
            ram_gb=24,
            chip="AMD EPYC 9B14",
            os_version="Linux 6.1",
            binary_version="xllamacpp 2026.10.11549",
            cpus=2,
        ),
        "inputs": Inputs(
            target_context=1024,
            candidate_models=MODELS,
            gate_ttft_ms=2500.0,
            service_levels=("ttft p95 <= 2500 ms",),
            objective="biggest fit, then throughput",
            policy="race",
            stage2_replicates=3,
        ),
        "recommendation": chosen,
        "standing": Standing.RESOLVED,
        "tie_set": (chosen.name,),
        "best_estimate": best,
        "sequential_band": point,
        "alternates": (MODELS[2],),
        "infeasible": (
            Infeasible(
                model=MODELS[0],
                rank=1,
                reason="ttft p95 6110 ms is over 2500 ms at 1 request in flight",
                failure_class="POINT_INFEASIBLE",
            ),
        ),
        "noise_frac": 0.061,
        "basis": Basis(
            engine="llama_cpp",
            engine_build="xllamacpp 2026.10.11549",
            os="Linux 6.1",
            machine="AMD EPYC 9B14, 24 GiB",
            weights="sha256:" + "7a" * 32,
            workload="sha256:" + "51" * 32,
            rule="race/1",
        ),
        "db_path": ".assay/ledger.db",
    }
    fields |= changed.pop("recommendation", {})
    rest: dict[str, Any] = {
        "cells": tuple(made.cells),
        "readings": tuple(made.readings),
        "remarks": ("1 of 2 cores was taken by another process during 12 of 58 readings.",),
    }
    return TuningRecord(recommendation=sealed(Recommendation(**fields)), **rest | changed)


class _Made:
    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.cells: list[Cell] = []
        self.readings: list[Reading] = []
        self.launch = 0

    def read(self, cell: Cell, tps: float, ttft: float, **more: Any) -> None:
        drift = 1 - 0.1 * len(self.readings) / 60
        noise = math.exp(self.chance.gauss(0, 0.05))
        self.readings.append(
            Reading(
                number=len(self.readings) + 1,
                cell=cell.name,
                at=at(7 * len(self.readings)),
                launch=self.launch,
                tps=tps * noise * drift,
                ttft_p95_ms=ttft / noise / drift,
                prompt_tokens=cell.context_tokens // 2,
                max_tokens=32,
                n_ok=24,
                **more,
            )
        )

    def stage_one(self) -> None:
        for rank, model in enumerate(MODELS[:2], 1):
            fits = rank == 2
            cell = Cell(
                name=f"fit-{rank}",
                model=model,
                rank=rank,
                stage=1,
                context_tokens=1024,
                state=CellState.FEASIBLE if fits else CellState.INFEASIBLE,
                reason="" if fits else "ttft p95 6110 ms is over 2500 ms at 1 request in flight",
                failure_class="" if fits else "POINT_INFEASIBLE",
                settings={"context_tokens": 1024, "slots": 1, "kv_type": "f16"},
                memory_predicted_bytes=1_190_000_000 if rank == 1 else 412_000_000,
                memory_bytes=1_204_000_000 if rank == 1 else 405_000_000,
            )
            self.launch += 1
            self.cells.append(cell)
            self.read(cell, 8.0 * rank, 6110 / rank**2, stage=1, role="fit")

    def grid(self) -> None:
        for context in CONTEXTS:
            self.launch += 1
            for load in LOADS:
                for kv in ("f16", "q8_0"):
                    self.cell(context, load, kv)

    def cell(self, context: int, load: int, kv: str) -> None:
        settings = {"context_tokens": context, "slots": load, "kv_type": kv, "threads": 2}
        tps = 46 * (1 + 0.55 * math.log2(load)) * (512 / context) ** 0.35 * (0.82 if kv == "q8_0" else 1)
        ttft = 190 * load**0.62 * (context / 512) * (1.3 if kv == "q8_0" else 1)
        state, reason, failure, implied = CellState.FEASIBLE, "", "", ""
        if context == 4096 and load >= 4 and kv == "f16":
            first = load == 4
            state = CellState.INFEASIBLE if first else CellState.PRUNED
            reason = "out of memory: failed to allocate buffer for kv cache"
            failure, implied = "POINT_INFEASIBLE", "" if first else "ctx4096-n4-f16"
        elif ttft > 2500:
            state, reason = CellState.INFEASIBLE, f"ttft p95 {ttft:.0f} ms is over 2500 ms"
            failure = "POINT_INFEASIBLE"
        elif context == 2048 and load == 8 and kv == "q8_0":
            state, reason = CellState.UNTRIED, "dropped after the first round: too slow to win"
        cell = Cell(
            name=f"ctx{context}-n{load}-{kv}",
            model=MODELS[1],
            rank=2,
            context_tokens=context,
            concurrency=load,
            settings=settings,
            state=state,
            reason=reason,
            failure_class=failure,
            implied_by=implied,
            default=(context, load, kv) == (1024, 4, "q8_0"),
        )
        self.cells.append(cell)
        if state is CellState.FEASIBLE or "ttft" in reason:
            self.read(cell, tps, ttft)
        elif state is CellState.INFEASIBLE:
            self.readings.append(
                Reading(
                    number=len(self.readings) + 1,
                    cell=cell.name,
                    at=at(7 * len(self.readings)),
                    launch=self.launch,
                    n_err=4,
                    valid=False,
                    reason=reason,
                )
            )

    def finals(self) -> None:
        finalists = {"ctx1024-n8-f16": 108.0, "ctx1024-n4-f16": 84.0, "ctx1024-n4-q8_0": 70.0}
        for block in range(1, 5):
            order = list(finalists) if block % 2 else list(finalists)[::-1]
            for name in order:
                self.launch += 1
                cell = next(c for c in self.cells if c.name == name)
                self.read(cell, finalists[name], 900.0, block=block, role="confirm")
        for place, cell in enumerate(self.cells):
            known = [r.tps for r in self.readings if r.cell == cell.name and r.tps is not None]
            if len(known) > 2:
                mean = sum(known) / len(known)
                spread = 0.09 * mean
                update = {
                    "tps": mean,
                    "tps_low": mean - spread,
                    "tps_high": mean + spread,
                    "level": 0.9,
                    "kept": cell.name == "ctx1024-n8-f16",
                }
                self.cells[place] = cell.model_copy(update=update)

    def choices(self) -> tuple[Choice, Choice, Choice]:
        def choice(name: str, **more: Any) -> Choice:
            cell = next(c for c in self.cells if c.name == name)
            return Choice(
                model=cell.model,
                target_context=1024,
                knobs=source_knobs(cell.settings),
                tps_median=cell.tps or 90.0,
                ttft_p95_ms=912.0,
                replicates=5,
                launches=5,
                name=name,
                engine="llama_cpp",
                settings=cell.settings,
                tps_low=cell.tps_low,
                tps_high=cell.tps_high,
                level=cell.level,
                **more,
            )

        command = (
            "GOMP_SPINCOUNT=1000 llama-server -m skills-s120m-Q8_0.gguf --port 8000 "
            "-c 8192 -np 8 -t 2 -ctk f16 -ctv f16 -fit off"
        )
        chosen = choice("ctx1024-n8-f16", serve_command=command, gain=0.47, gain_low=0.31, gain_high=0.64)
        return chosen, choice("ctx1024-n8-f16"), choice("ctx1024-n4-f16")


def source_run() -> TuningRecord:
    """A run of the source, with no more than its tables hold."""
    knobs = Knobs(kv_bits=8, max_concurrency_override=1, max_context_override=2000)
    chosen = Choice(
        model="Gemma-4-26B-A4B",
        target_context=2000,
        knobs=knobs,
        tps_median=12.53,
        ttft_p95_ms=2611,
        replicates=3,
    )
    return TuningRecord(
        recommendation=sealed(
            Recommendation(
                run_id="run-1",
                started_at=START,
                machine=Machine(ram_gb=32, chip="M5"),
                inputs=Inputs(target_context=2000, candidate_models=("Gemma-4-26B-A4B",)),
                recommendation=chosen,
            )
        )
    )
