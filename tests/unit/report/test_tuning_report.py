"""The tuning report: every state has a page, every figure comes from the record, nothing foreign gets in."""

from __future__ import annotations

import io
from typing import Any

import pytest
import tuning_example as example
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import standing_alone
from rich.console import Console

from assay.core.recommendation import Change, ExitReason, Infeasible, Standing
from assay.core.tuning_record import Cell, CellState, Reading, TuningRecord
from assay.core.vocabulary import Provenance
from assay.report._view.tuning.map import named, short_settings
from assay.report._view.tuning.page import build_page
from assay.report.recommendation import document, print_recommendation
from assay.report.tuning import render


def test_the_page_shows_what_the_record_holds() -> None:
    """Choice, interval, gain, command, map, failures, noise and the other rule's answer."""
    page = standing_alone(render(example.record()))
    for text in (
        "RESOLVED",
        "Serve skills-s120m-Q8_0.gguf with 1,024 tokens, 8 slots, f16 KV, 2 threads",
        "GOMP_SPINCOUNT=1000 llama-server -m skills-s120m-Q8_0.gguf --port 8000 -c 8192 -np 8",
        "+47 %",
        "noise floor of the study 6.1 %",
        "out of memory: failed to allocate buffer for kv cache",
        "implied by 4,096 tokens, 4 slots, f16 KV",
        "The point rule takes another one from the same readings.",
        "ttft p95 6110 ms is over 2500 ms at 1 request in flight",
    ):
        assert text in page


def test_the_map_is_context_by_concurrency() -> None:
    """Green, red and grey stand where they were measured, failed or implied; one square is framed."""
    page = build_page(example.record())
    f16, q8 = page.maps
    assert f16.detail == "f16 KV, 2 threads"
    assert f16.contexts == ("512", "1,024", "2,048", "4,096")
    assert [r.load for r in f16.rows] == ["1", "2", "4", "8"]
    tones = [[s.tone for s in r.squares if s] for r in f16.rows]
    assert tones[2] == ["good", "good", "good", "bad"]
    assert tones[3] == ["good", "good", "bad", "idle"]
    notes = [s.note for r in f16.rows for s in r.squares if s and s.tone != "good"]
    assert notes == ["memory", "TTFT", "memory, implied"]
    assert sum(s.kept for m in (f16, q8) for r in m.rows for s in r.squares if s) == 1


def test_the_front_holds_no_cell_that_another_beats() -> None:
    """Nothing on the front is slower and later than something feasible at the same context."""
    found = build_page(example.record()).front
    assert found is not None
    front = [d for d in found.dots if d.style in {"front", "kept"}]
    able = [d for d in found.dots if d.style != "late"]
    assert len(front) > 1
    for dot in front:
        assert not any(o.x < dot.x and o.y < dot.y for o in able)
    beaten = [d for d in able if d.style == "ok"]
    assert all(any(o.x <= d.x and o.y <= d.y for o in front) for d in beaten)


def test_the_best_so_far_never_counts_another_context() -> None:
    """A fast reading at a smaller context is no record: it does not compete."""
    found = build_page(example.record()).progression
    assert found is not None
    assert "1,024 tokens, 8 slots" in found.text
    assert {d.style for d in found.dots} == {"ok", "late", "aside", "void"}


def test_replicates_tell_which_chose_and_which_did_not() -> None:
    """Readings that picked the finalists are told from those that the estimate rests on."""
    found = build_page(example.record()).strips
    assert found is not None
    assert [r.kept for r in found.rows] == [True, False, False]
    assert [d.style for d in found.rows[0].dots] == ["search", *["confirm"] * 4]
    assert found.rows[2].name.endswith("(default)")


STATES: dict[str, tuple[dict[str, Any], str]] = {
    "running": (
        {"recommendation": None, "standing": None, "ended_at": None, "exit_reason": ExitReason.RUNNING},
        "RUNNING",
    ),
    "nothing": (
        {"recommendation": None, "standing": None, "exit_reason": ExitReason.NO_FEASIBLE},
        "NOTHING SERVES",
    ),
    "conflict": (
        {"recommendation": None, "standing": None, "exit_reason": ExitReason.PROVIDER_CONFLICT},
        "PROVIDER CONFLICT",
    ),
    "tied": ({"standing": Standing.TIED}, "TIED"),
    "unresolved": ({"standing": Standing.UNRESOLVED}, "UNRESOLVED"),
}


@pytest.mark.parametrize("state", sorted(STATES))
def test_every_state_has_a_page(state: str) -> None:
    """Running, without any that serves, tied, open: each says so at the top."""
    changed, told = STATES[state]
    page = build_page(example.record(recommendation=changed))
    assert page.headline.mark.word == told
    standing_alone(render(example.record(recommendation=changed)))


def test_a_partial_answer_is_marked_open() -> None:
    """What the budget cut short does not look proven."""
    found = example.record()
    chosen = found.recommendation.recommendation
    assert chosen is not None
    partial = example.record(recommendation={"recommendation": chosen.model_copy(update={"partial": True})})
    assert build_page(partial).headline.mark.word == "RESOLVED, PARTIAL"
    assert build_page(partial).headline.mark.tone == "open"


def test_an_empty_and_an_imported_record_have_pages() -> None:
    """Nothing tried yet; and a run of the source, which says of itself what it says."""
    standing_alone(render(example.record(cells=(), readings=(), remarks=())))
    page = standing_alone(
        render(example.source_run().model_copy(update={"provenance": Provenance.SELF_REPORTED}))
    )
    assert "another tool said this of itself" in page
    assert "Gemma-4-26B-A4B" in page


def test_what_became_stale_is_told() -> None:
    """The page and the block name what changed since."""
    change = Change(field="engine_build", then="1.6.0", now="1.6.1")
    assert "Stale: engine_build was 1.6.0, is 1.6.1." in render(example.record(), [change])
    out = io.StringIO()
    print_recommendation(example.record().recommendation, [change], Console(file=out, width=100))
    assert "engine_build was 1.6.0, is 1.6.1" in out.getvalue()


def test_the_block_tells_how_it_was_measured() -> None:
    """What a reader should know stands on the terminal as well, and not only on the page."""
    out = io.StringIO()
    remarks = ("the server sends no usage",)
    print_recommendation(
        example.record().recommendation, console=Console(file=out, width=100), remarks=remarks
    )
    assert "note        the server sends no usage" in out.getvalue()


def test_a_setting_that_does_not_serve_is_named_with_its_values() -> None:
    """Of a model with many settings its name alone says nothing."""
    found = example.record().recommendation.model_copy(
        update={
            "infeasible": (
                Infeasible(model="30m", rank=2, reason="too slow", settings={"slots": 4, "kv": None}),
            )
        }
    )
    out = io.StringIO()
    print_recommendation(found, console=Console(file=out, width=100))
    assert "2. 30m slots=4 kv=unset: too slow" in out.getvalue()


def test_foreign_text_does_not_become_markup() -> None:
    """Names and reasons come from files and logs of others."""
    bad = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"
    cell = Cell(name=bad, model=bad, context_tokens=1, state=CellState.INFEASIBLE, reason=bad)
    found = example.record(cells=(*example.record().cells, cell), remarks=(bad,))
    page = standing_alone(render(found))
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_same_record_gives_the_same_page() -> None:
    """Nothing of the clock or the machine gets in."""
    assert render(example.record()) == render(TuningRecord.from_json(example.record().to_json()))


FLOATS = st.sampled_from([None, 0.0, 5e-324, 1e-7, 0.5, 12.0, 12.0000001, 900.0, 1e13, 1.7e308])
CELLS = st.builds(
    Cell,
    name=st.sampled_from("abcd"),
    model=st.sampled_from(["m", "n"]),
    context_tokens=st.integers(1, 3),
    concurrency=st.integers(1, 2),
    stage=st.integers(1, 2),
    state=st.sampled_from(CellState),
    tps=FLOATS,
    ttft_p95_ms=FLOATS,
    tps_low=FLOATS,
    tps_high=FLOATS,
    default=st.booleans(),
    kept=st.booleans(),
    settings=st.dictionaries(
        st.sampled_from(["slots", "kv_type", "x"]), st.none() | st.integers() | st.text()
    ),
)
READINGS = st.builds(
    Reading,
    number=st.integers(1, 50),
    cell=st.sampled_from("abcde"),
    tps=FLOATS,
    ttft_p95_ms=FLOATS,
    valid=st.booleans(),
    role=st.sampled_from(["fit", "search", "confirm", "sentinel"]),
    launch=st.none() | st.integers(0, 3),
)


@given(cells=st.lists(CELLS, max_size=6), readings=st.lists(READINGS, max_size=8))
def test_any_record_has_a_page(cells: list[Cell], readings: list[Reading]) -> None:
    """Huge, zero and missing figures, cells without readings, readings without cells."""
    render(example.record(cells=tuple(cells), readings=tuple(readings)))


def test_names_say_only_what_differs() -> None:
    """A setting that all cells share is no part of their names; two cells never share one."""
    cells = example.record().cells
    names = named(cells)
    assert names["ctx1024-n8-f16"] == "1,024 tokens, 8 slots, f16 KV"
    assert len(set(names.values())) == len(cells)
    assert short_settings({"slots": 8, "threads": None}) == "8 slots"


def test_the_block_names_the_smallest_failure_first_when_nothing_serves() -> None:
    """The last candidate came closest: its reason is what one reads first."""
    failures = tuple(Infeasible(model=f"m{n}", rank=n, reason=f"reason {n}") for n in (1, 2, 3))
    changed = {"recommendation": None, "standing": None, "exit_reason": ExitReason.NO_FEASIBLE}
    found = example.record(recommendation={**changed, "infeasible": failures}).recommendation
    out = io.StringIO()
    print_recommendation(found, console=Console(file=out, width=100))
    text = out.getvalue()
    assert text.startswith("NO RECOMMENDATION (no_feasible)")
    assert text.index("reason 3") < text.index("reason 2") < text.index("reason 1")


def test_the_document_is_the_noun() -> None:
    """What scripts read is what the ledger holds."""
    found = example.record().recommendation
    assert document(found) == found.to_json()
    assert document(found)["schema"] == "recommendation/1"
