"""Ways to win without being better: each is refused by the gate, and deployed by a rule that does not look."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.agent import AgentOutcome
from assay.core.vocabulary import Outcome
from assay.gates.deploy import DeployPolicy

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import deploy_gate as benchmark

CHEATS: dict[str, Any] = {
    "agent errors in place of failures": lambda rng: benchmark.crash_to_win(rng, AgentOutcome.AGENT_ERROR),
    "timeouts in place of failures": lambda rng: benchmark.crash_to_win(rng, AgentOutcome.AGENT_TIMEOUT),
    "infra errors in place of failures": lambda rng: benchmark.crash_to_win(rng, AgentOutcome.INFRA_ERROR),
    "the deciding test was deleted": benchmark.test_deletion,
    "the text never reached the agent": benchmark.no_delivery,
    "failures were dropped from the table": benchmark.missing_failures,
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_not_deployed(name: str) -> None:
    """Ten studies of each: where the candidate is no better, at most one is deployed, and none by tampering."""
    rng = np.random.default_rng(11)
    made = [CHEATS[name](rng) for _ in range(10)]
    words = [benchmark.judged(DeployPolicy(), runs).outcome for runs in made]
    assert sum(w is Outcome.ACCEPT for w in words) <= 1
    assert sum(map(benchmark.drops_what_broke, made)) >= 5
    if name.startswith(("the ", "failures ", "infra")):
        assert set(words) == {Outcome.ANOMALOUS}


def test_a_few_runs_that_vanish_count_against_the_candidate() -> None:
    """Below every limit, so nothing is anomalous; yet the candidate does not win by it."""
    rng = np.random.default_rng(12)
    made = [benchmark.few_vanish(rng) for _ in range(40)]
    words = [benchmark.judged(DeployPolicy(), runs).outcome for runs in made]
    assert Outcome.ANOMALOUS not in words
    assert sum(w is Outcome.ACCEPT for w in words) <= 5


def test_expected_values_in_the_text_are_found_before_anything_is_run() -> None:
    """The gate `text` sees them: they are in the candidate, not in its baseline, and in a hidden test."""
    assert benchmark.copied_values()


def test_the_draw_that_chose_a_candidate_does_not_confirm_it() -> None:
    """Best of five identical texts: 72 % by the draw that chose, at most 5 % by fresh ones."""
    rows = {r.name: r for r in benchmark.d2(np.random.default_rng(3), 4000)}
    reused = next(r for name, r in rows.items() if "by the draw that chose it" in name)
    fresh = [r for name, r in rows.items() if "D2 best of 5 identical, confirmed" in name or "D2 any" in name]
    assert reused.value == pytest.approx(72, abs=2.5)
    assert [r.ok for r in fresh] == [True, True]
