"""The order of runs, and the journal that a killed step goes on from."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.agent import AgentOutcome, AgentRun
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.vocabulary import FailureClass
from assay.runtime.agents import RunJournal, rounds

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)
HEADER = {"suite": "sha256:1", "texts": {"baseline": "sha256:2"}}


def run(rep: int = 1, **more: object) -> AgentRun:
    """A finished run."""
    return AgentRun(
        **{"task": "t", "arm": "a", "rep": rep, "outcome": AgentOutcome.PASS, "score": 1.0, **more}
    )


@given(tasks=NAMES, arms=NAMES, first=st.integers(1, 4), more=st.integers(0, 3), seed=st.integers())
def test_blocks_are_complete(tasks: list[str], arms: list[str], first: int, more: int, seed: int) -> None:
    """Each block is every task once per arm; blocks follow each other; the same seed gives the same order."""
    draws = rounds(tasks, arms, first, first + more, seed)
    assert [d.block for d in draws] == sorted(d.block for d in draws)
    assert Counter(d.key for d in draws) == Counter(
        (t, a, r) for t in tasks for a in arms for r in range(first, first + more + 1)
    )
    assert draws == rounds(tasks, arms, first, first + more, seed)
    assert all(0 <= d.seed < 2**31 and d.rep == d.block for d in draws)


@given(tasks=NAMES, arms=NAMES, seed=st.integers())
def test_looks_do_not_depend_on_each_other(tasks: list[str], arms: list[str], seed: int) -> None:
    """Blocks drawn in two steps are those of one step."""
    assert rounds(tasks, arms, 1, 2, seed) + rounds(tasks, arms, 3, 5, seed) == rounds(
        tasks, arms, 1, 5, seed
    )


def test_arms_are_interleaved_and_orders_differ() -> None:
    """No arm comes first as a rule, over many seeds, and blocks have different orders."""
    tasks = [f"t{i}" for i in range(10)]
    firsts = Counter(rounds(tasks, ["x", "y"], 1, 1, seed)[0].arm for seed in range(400))
    assert min(firsts.values()) > 140  # a fair coin is below that with p < 1e-9
    draws = rounds(tasks, ["x", "y"], 1, 2, 0)
    orders = [[(d.task, d.arm) for d in draws if d.block == b] for b in (1, 2)]
    assert orders[0] != orders[1]
    changes = sum(a.arm != b.arm for a, b in itertools.pairwise(draws))
    assert changes > 10


def test_seeds_differ_between_arms_and_repeats() -> None:
    """The same text a second time is a fresh draw, not a copy."""
    seeds = [d.seed for d in rounds(["t"], ["baseline", "again"], 1, 5, 3)]
    assert len(set(seeds)) == len(seeds)


def test_runs_come_back(tmp_path: Path) -> None:
    """What was added is read again, in order."""
    path = tmp_path / "deep" / "runs.jsonl"
    with RunJournal(path, HEADER) as journal:
        for rep in (2, 1):
            journal.add(run(rep, reason="é\x00 \u2028", cost=0.1))
        with pytest.raises(ValueError, match="already"):
            journal.add(run(1))
    with RunJournal(path, HEADER) as again:
        assert [r.rep for r in again.done.values()] == [2, 1]
        assert again.done["t", "a", 1].reason == "é\x00 \u2028"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    """A crash while writing loses that run and no other, and the next one is not joined to its rest."""
    path = tmp_path / "runs.jsonl"
    with RunJournal(path, HEADER) as journal:
        journal.add(run(1))
        journal.add(run(2))
    path.write_bytes(path.read_bytes()[:-cut])
    with RunJournal(path, HEADER) as again:
        assert list(again.done) == [("t", "a", 1)]
        again.add(run(3))
    with RunJournal(path, HEADER) as last:
        assert [k[2] for k in last.done] == [1, 3]


def test_a_torn_header_is_a_new_journal(tmp_path: Path) -> None:
    """A crash in the first line leaves nothing that counts."""
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"schema": "assay.ag')
    with RunJournal(path, HEADER) as journal:
        assert journal.done == {}
        journal.add(run())
    assert len(path.read_bytes().splitlines()) == 2


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """Runs of another suite or text are never taken for those of this one."""
    path = tmp_path / "runs.jsonl"
    RunJournal(path, HEADER).close()
    with pytest.raises(ComponentFailed, match="suite differ") as caught:
        RunJournal(path, {**HEADER, "suite": "sha256:9"})
    assert caught.value.failure_class is FailureClass.NOT_COMPARABLE
    with pytest.raises(ComponentFailed, match="texts"):
        RunJournal(path, {**HEADER, "texts": {"baseline": "sha256:9"}})


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[]", b"{}", b'{"task": "t"}', b"[" * 100_000, json.dumps(run(1).to_json()).encode()],
)
def test_damage_in_the_middle_is_told(tmp_path: Path, line: bytes) -> None:
    """A line that is no run, or a run that is there twice, is no journal to go on from."""
    path = tmp_path / "runs.jsonl"
    with RunJournal(path, HEADER) as journal:
        journal.add(run(1))
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(run(5).to_json()).encode() + b"\n")
    with pytest.raises(UnreadableInput, match="jsonl:3"):
        RunJournal(path, HEADER)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_journal_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No bytes break the reader."""
    path = tmp_path_factory.mktemp("journal") / "runs.jsonl"
    path.write_bytes(data)
    try:
        RunJournal(path, HEADER).close()
    except (UnreadableInput, ComponentFailed):
        assert b"\n" in data
