"""The corpus of results: every good one passes with what it holds, every bad one gets its verdict and words."""

from __future__ import annotations

from typing import Any

import pytest
from results_corpus import BAD, GOOD, cases, folders, table

from assay.core.errors import UnreadableInput
from assay.core.verdict import Verdict
from assay.core.vocabulary import Status
from assay.gates.comparability import ComparabilityGate, ComparabilityPolicy
from assay.gates.compare import CompareGate
from assay.gates.results import ResultsGate, ResultsPolicy
from assay.readers.results import READERS, archive, read_results

GOOD_CASES, BAD_CASES = cases(GOOD), cases(BAD)


def needs_zstandard(case: str) -> None:
    """Logs of inspect_ai are compressed with Zstandard, of which Python has no decoder before 3.14."""
    place = next(p for p in (GOOD / case, BAD / case) if p.is_dir())
    if not any(f.read_bytes()[:4] == b"PK\x03\x04" for f in place.rglob("*.eval")):
        return
    try:
        archive.zstandard_decoder("test")
    except UnreadableInput:
        pytest.skip("no Zstandard decoder is installed")


def judge(case: dict[str, Any]) -> Verdict:
    """The verdict on a case by its gate."""
    expected = case.get("expect", {})
    if case.get("gate") == "comparability":
        place = GOOD if (GOOD / case["baseline"]).is_dir() else BAD
        sides = {"baseline.results": place / case["baseline"], "candidate.results": BAD / case["case"]}
        return ComparabilityGate().judge({k: read_results(p, subject=k) for k, p in sides.items()})
    if case.get("gate") == "compare":
        sides = {
            f"{side}.results": BAD / case["case"] / f"{side}.jsonl" for side in ("baseline", "candidate")
        }
        read = {k: read_results(p, subject=k) for k, p in sides.items()}
        checked = ResultsGate(
            ResultsPolicy(expected={case["case"]: len(read["baseline.results"].tasks[0].samples)})
        )
        assert all(checked.judge({"results": r}).passed for r in read.values())
        assert ComparabilityGate().judge(read).passed
        return CompareGate().judge(read)
    results = read_results(BAD / case["case"], subject="x")
    return ResultsGate(ResultsPolicy(expected=expected)).judge({"results": results})


@pytest.mark.parametrize("case", GOOD_CASES, ids=lambda c: c["case"].rpartition("/")[2])
def test_good_results_pass(case: dict[str, Any]) -> None:
    """The harness is found by the content, the rows are all there, and the gate has nothing against them."""
    needs_zstandard(case["case"])
    results = read_results(GOOD / case["case"], subject="x")
    assert results.harness == case["harness"]
    assert sum(len(t.samples) for t in results.tasks) == case["rows"]
    assert max((max(t.samples.repeat, default=0) for t in results.tasks), default=0) + 1 == case.get(
        "repeats", 1
    )
    held = {
        c for c in ("tokens", "finish_reason", "cluster") if any(getattr(t.samples, c) for t in results.tasks)
    }
    assert held == set(case.get("facts", ()))
    verdict = ResultsGate(ResultsPolicy(expected=case.get("expect", {}))).judge({"results": results})
    assert verdict.status is Status.PASS, verdict.detail
    assert type(results).from_json(results.to_json()) == results


@pytest.mark.parametrize(
    "case", BAD_CASES, ids=lambda c: f"{c['case'].rpartition('/')[2]}-{c.get('gate', 'results')}"
)
def test_bad_results_are_refused(case: dict[str, Any]) -> None:
    """Each gets the class that it must get, in words that name the failure."""
    if "zip_bomb" not in case["case"]:
        needs_zstandard(case["case"])
    if case.get("gate") == "compare":
        verdict = judge(case)
        assert verdict.outcome is not None
        assert verdict.outcome.value == case["decision"], verdict.detail
        assert case["words"] in verdict.detail
        assert verdict.extra["point"]["decision"] == "REGRESSION"
        return
    if case["class"] is None:
        with pytest.raises(UnreadableInput, match=case["words"]):
            read_results(BAD / case["case"], subject="x")
        return
    verdict = judge(case)
    assert verdict.status is Status(case.get("status", "FAIL"))
    assert verdict.failure_class is not None
    assert verdict.failure_class.value == case["class"], verdict.detail
    assert case["words"] in " ".join([verdict.detail, *(f"{r.where}: {r.text}" for r in verdict.reasons)])


def test_every_folder_is_a_case() -> None:
    """Nothing lies in the corpus that no test reads."""
    for place, table_ in ((GOOD, GOOD_CASES), (BAD, BAD_CASES)):
        assert set(folders(place)) <= {c["case"] for c in table_}


def test_every_reader_has_a_good_case() -> None:
    """A new harness comes with files."""
    told = {"run_summary", "scores"}  # summaries are self-reported: tests/unit/readers/results
    assert {r.name for r in READERS} - told == {c["harness"] for c in GOOD_CASES}


def test_the_two_real_runs_are_comparable() -> None:
    """The same model asked twice by lm-eval: equal protocols and prompts, and the same outputs are found."""
    sides = {
        f"{side}.results": read_results(GOOD / name, subject=side)
        for side, name in (("baseline", "lm_eval"), ("candidate", "lm_eval_again"))
    }
    verdict = ComparabilityGate(ComparabilityPolicy(same_outputs_min=40)).judge(sides)
    assert verdict.status is Status.PASS, verdict.detail
    assert "same outputs: all 48" in verdict.extra["warnings"][0]
    assert "Both answered to the name demo" in verdict.extra["warnings"][0]


def test_the_support_table_names_every_harness() -> None:
    """The table in the documentation is made from the corpus."""
    needs_zstandard("inspect_eval")
    text = table()
    assert "| lm_eval | real |" in text
    assert "| inspect_ai | real | real | real | real | real | real | real |" in text
    assert "| helm | synthetic |" in text
