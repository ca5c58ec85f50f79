"""The recommendation: the source's hash byte for byte, alternates by size, staleness."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.core.recommendation import (
    Basis,
    Choice,
    Inputs,
    Knobs,
    Machine,
    Recommendation,
    Standing,
    alternates,
    changes,
    recipe_hash,
    sealed,
    source_knobs,
    whole_gib,
)

CANDIDATES = ("org/A-14B-4bit", "org/B-7B-4bit", "org/C-3B-4bit")
VECTOR: dict[str, Any] = {
    "binary_version": "1.6.0",
    "candidate_models": CANDIDATES,
    "chip": "Apple M2",
    "knobs": Knobs(kv_bits=None, max_concurrency_override=1, max_context_override=4000),
    "model": "org/B-7B-4bit",
    "ram_gb": 16,
    "target_context": 4000,
}
"""The published vector of the source's contract."""


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({}, "b815ce86c31a2aad95cf46168e172dd906db846635dcb22bb1e7b381eab1fbc3"),
        ({"ram_gb": 8}, "e3135c85"),
        ({"binary_version": "1.6.1"}, "670a8364"),
        ({"candidate_models": CANDIDATES[::-1]}, "bb455bab"),
    ],
)
def test_the_recipe_hash_is_the_sources_own(changed: dict[str, Any], begins: str) -> None:
    """The vector and its three variants give the bytes that the contract states."""
    found = recipe_hash(**VECTOR | changed)
    assert found.startswith(f"sha256:{begins}")
    assert len(found) == len("sha256:") + 64


def recommendation(**changed: Any) -> Recommendation:
    """The vector as a whole document."""
    chosen = Choice(
        model="org/B-7B-4bit",
        target_context=4000,
        knobs=VECTOR["knobs"],
        tps_median=12.5,
        ttft_p95_ms=900.0,
        replicates=3,
    )
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "started_at": "2026-11-20T10:00:00Z",
        "machine": Machine(ram_gb=16, chip="Apple M2", binary_version="1.6.0"),
        "inputs": Inputs(target_context=4000, candidate_models=CANDIDATES),
        "recommendation": chosen,
        "standing": Standing.RESOLVED,
    }
    return sealed(Recommendation(**fields | changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"run_id": "another"},
        {"ended_at": "2026-11-20T11:00:00Z"},
        {"db_path": "elsewhere.db"},
        {"alternates": ("org/C-3B-4bit",)},
        {"machine": Machine(ram_gb=16, chip="Apple M2", binary_version="1.6.0", os_version="26.1")},
        {"inputs": Inputs(target_context=4000, candidate_models=CANDIDATES, gate_ttft_ms=8000.0)},
    ],
)
def test_what_is_outside_of_the_hash_does_not_move_it(changed: dict[str, Any]) -> None:
    """Run, times, system, gate and paths may change: the recipe is the same."""
    assert recommendation(**changed).recipe_hash == recipe_hash(**VECTOR)


def test_the_document_reads_back_and_holds_the_sources_fields() -> None:
    """Every field of the source's JSON is there under its name, and the schema is ours."""
    made = recommendation()
    document = json.loads(json.dumps(made.to_json()))
    assert Recommendation.from_json(document) == made
    assert document["schema"] == "recommendation/1"
    assert {
        *("spec_version", "run_id", "started_at", "ended_at", "machine", "inputs", "recommendation"),
        *("alternates", "infeasible", "recipe_hash", "db_path"),
    } <= set(document)
    assert {"ram_gb", "chip", "os_version", "binary_version"} <= set(document["machine"])
    assert set(document["recommendation"]["knobs"]) == {
        "kv_bits",
        "max_concurrency_override",
        "max_context_override",
    }
    assert document["recommendation"]["knobs"]["kv_bits"] is None


def test_without_a_recommendation_there_is_no_recipe() -> None:
    """Nothing that serves, nothing to hash, nothing settled."""
    found = recommendation(recommendation=None, standing=None)
    assert found.recipe_hash is None
    assert not found.settled


@pytest.mark.parametrize("standing", list(Standing))
def test_only_an_unresolved_or_partial_answer_is_not_settled(standing: Standing) -> None:
    """A tie is an answer; a budget that ended too early is none."""
    found = recommendation(standing=standing)
    assert found.settled is (standing is not Standing.UNRESOLVED)
    chosen = found.recommendation
    assert chosen is not None
    partial = recommendation(standing=standing, recommendation=chosen.model_copy(update={"partial": True}))
    assert not partial.settled


def test_a_figure_that_is_no_number_is_refused() -> None:
    """NaN never gets into a recommendation."""
    with pytest.raises(ValidationError):
        Choice(model="m", target_context=1, tps_median=float("nan"))


def test_alternates_go_by_size_and_not_by_place() -> None:
    """The operator put the small one first: nothing is smaller, so there is no alternate."""
    sizes = {"1B": 700, "32B": 17_000}
    assert alternates(("1B", "32B"), "1B", sizes) == ()
    assert alternates(("1B", "32B"), "32B", sizes) == ("1B",)


@given(
    sizes=st.dictionaries(st.text(min_size=1, max_size=4), st.none() | st.integers(0, 99), min_size=1),
    data=st.data(),
)
def test_alternates_are_smaller_and_falling(sizes: dict[str, int | None], data: st.DataObject) -> None:
    """Whatever the order and whatever is not known: never an equal, larger or unknown one."""
    order = data.draw(st.permutations(sorted(sizes)))
    chosen = data.draw(st.sampled_from(order))
    found = [sizes[n] for n in alternates(order, chosen, sizes)]
    own = sizes[chosen]
    assert all(own is not None and s is not None and s < own for s in found)
    assert found == sorted(found, key=lambda s: -(s or 0))
    if own is not None:
        assert len(found) == sum(s is not None and s < own for s in sizes.values())


def basis(**changed: Any) -> Basis:
    """What a measurement rested on."""
    fields: dict[str, Any] = {
        "engine": "llama_cpp",
        "engine_build": "2026.10",
        "machine": "EPYC, 24 GiB",
        "weights": "sha256:aa",
        "workload": "sha256:bb",
    }
    return Basis(**fields | changed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("engine_build", "2026.11"),
        ("driver", "570.1"),
        ("weights", "sha256:cc"),
        ("workload", "sha256:dd"),
        ("machine", "EPYC, 48 GiB"),
        ("environment", {"OMP_NUM_THREADS": "2"}),
        ("command", ("-c", "4096")),
    ],
)
def test_each_part_of_the_basis_makes_it_stale(field: str, value: Any) -> None:
    """What changed is named, with what it was and what it is; the fingerprint differs."""
    then, now = basis(), basis(**{field: value})
    (found,) = changes(then, now)
    assert found.field == field
    assert found.text.startswith(f"{field} was ")
    assert then.fingerprint != now.fingerprint


def test_the_same_basis_is_fresh() -> None:
    """Nothing changed, nothing is stale."""
    assert changes(basis(), basis()) == ()
    assert basis().fingerprint == basis().fingerprint


@pytest.mark.parametrize(
    ("settings", "bits"),
    [({"kv_type": "q8_0"}, 8), ({"kv_type": "f16"}, None), ({"kv_dtype": "fp8_e4m3"}, 8), ({}, None)],
)
def test_settings_as_the_sources_knobs(settings: dict[str, Any], bits: int | None) -> None:
    """A KV type is its bits or `unset`; slots and context are the overrides."""
    found = source_knobs({**settings, "slots": 4, "context_tokens": 2048, "threads": 2})
    assert found == Knobs(kv_bits=bits, max_concurrency_override=4, max_context_override=2048)


def test_memory_in_whole_gib() -> None:
    """A machine sold with 16 GB tells a little less to its system."""
    assert whole_gib(15.6 * 2**30) == 16
