"""What `gate_decision.json` says beside the decision: the data, what was asked for, and how the search picked."""

from __future__ import annotations

import math
from typing import Any

from assay.core.evolution import Evolution, TextNode
from assay.gates._deploy.runs import judged_tasks
from assay.ledger.evolve_records import EvolveRecord
from assay.report._view.settled import finite, mapping


def known_fields(record: EvolveRecord, preset: str) -> dict[str, Any]:
    """`dataset`, `run_inputs` and `knee_point`, as far as the study knows them.

    Args:
        record: the trial.
        preset: what growth costs.
    """
    found, runs = record.evolution, record.runs
    if found is None:
        return {}
    train, select = (len(found.facts.get(f"tasks_{part}") or ()) for part in ("train", "select"))
    holdout = len(judged_tasks(runs)) if runs is not None else 0
    total = train + select + holdout
    rules = mapping(record.trial.candidate.build.options.get("rules"))
    return {
        "dataset": {
            "size_total": total,
            "size_train": train,
            "size_val": select,
            "size_holdout": holdout,
            "sources": {"suite": total},
        },
        "run_inputs": {
            "seed": found.seed,
            "iterations": None,
            "models": {"agent": str(runs.facts.get("model", "")) if runs is not None else ""},
            "eval_dataset_size": total,
            "holdout_ratio": holdout / total if total else None,
            "quality_gate_preset": preset,
            "eval_source": "golden",
            "gepa_acceptance": rules.get("accept"),
        },
        "knee_point": _knee(found, finite(rules.get("knee"))),
    }


def _knee(found: Evolution, epsilon: float | None) -> dict[str, Any]:
    """How the search picked; not applied where nothing was searched for, or the baseline was kept."""
    scored = {n.number: (_score(n), n.chars) for n in found.nodes if n.state == "kept" and n.select}
    band = [n for n in found.facts.get("band") or () if n in scored]
    if found.picked not in band:
        return {"applied": False, "reason": "no_detailed_results"}
    order = sorted(scored, key=lambda n: (-scored[n][0], scored[n][1], n))
    best = order[0]
    tasks = next(len(n.select) for n in found.nodes if n.number == found.picked)
    roster = [n for n in order if n in band]
    return {
        "applied": True,
        "fallback": None,
        "epsilon": 1 / tasks if epsilon is None else epsilon,
        "band_size": len(band),
        "picked_idx": found.picked,
        "picked_val_score": scored[found.picked][0],
        "picked_val_rank_in_band": roster.index(found.picked) + 1,
        "picked_body_chars": scored[found.picked][1],
        "gepa_default_idx": best,
        "gepa_default_body_chars": scored[best][1],
        "band_roster": [{"idx": n, "val_score": scored[n][0], "body_chars": scored[n][1]} for n in roster],
    }


def _score(node: TextNode) -> float:
    return math.fsum(node.select.values()) / len(node.select)
