"""The forest plot of `assay decide`: true to the numbers on a terminal of any width, and safe to embed."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from assay.core.verdict import Estimate, Reason, Verdict
from assay.core.vocabulary import Outcome, Status
from assay.report.decide import Answer, render_html, render_svg, text_lines


def estimate(task: str, drop: float, half: float, margin: float | None, status: Status | None) -> Estimate:
    """A drop with a symmetric interval."""
    bounds = {"lower": drop - half, "upper": drop + half, "level": 0.9}
    counts = {"n": 400, "lost": 7, "won": 5}
    return Estimate(
        task=task,
        baseline=0.8,
        candidate=0.8 - drop,
        drop=drop,
        margin=margin,
        status=status,
        **bounds,
        **counts,
    )


def answer(*estimates: Estimate, outcome: Outcome = Outcome.ACCEPT, detail: str = "fine") -> Answer:
    """An answer of the compare gate."""
    status = {Outcome.ACCEPT: Status.PASS, Outcome.REGRESSION: Status.FAIL}.get(outcome, Status.INCONCLUSIVE)
    return Answer(
        Verdict(gate="compare", status=status, outcome=outcome, detail=detail, estimates=estimates),
        "base",
        "cand",
    )


def row_of(found: Answer, width: int, task: str) -> str:
    """The plot's line of a task."""
    return next(line.plain for line in text_lines(found, width) if line.plain.startswith(task))


def test_signs_stand_in_the_order_of_the_numbers() -> None:
    """Zero, lower bound, estimate, upper bound and margin are drawn from left to right as they are in value."""
    inside = answer(estimate("macro", 0.004, 0.002, 0.01, Status.PASS))
    line = row_of(inside, 120, "mean")
    places = [line.index(sign) for sign in "│├◆┤┊"]
    assert places == sorted(places)
    across = row_of(answer(estimate("macro", 0.009, 0.004, 0.01, Status.INCONCLUSIVE)), 120, "mean")
    assert "┊" not in across
    assert across.index("◆") < across.index("┼") < across.index("┤")


@pytest.mark.parametrize("width", [40, 80, 100, 120, 240])
def test_columns_line_up_at_every_width(width: int) -> None:
    """The drop ends in the same cell of every row, also beside names in wide characters and overlong ones."""
    names = ["macro", "数学の問題" * 6, "a" * 300, "short"]
    found = answer(*(estimate(n, 0.001, 0.01, 0.02, Status.PASS) for n in names))
    rows = [line.plain for line in text_lines(found, width) if "0.10" in line.plain]
    assert len(rows) == len(names)
    assert len({cell_len(row[: row.index("0.10")]) for row in rows}) == 1
    if width >= 80:
        assert max(map(cell_len, rows)) <= width


def test_a_narrow_terminal_keeps_what_matters() -> None:
    """Interval and verdict stay where scores and counts have to go."""
    narrow = row_of(answer(estimate("macro", 0.001, 0.01, 0.02, Status.PASS)), 60, "mean")
    assert "PASS" in narrow
    assert "1.10" in narrow
    assert "7 / 5" not in narrow


def test_foreign_text_cannot_move_the_cursor() -> None:
    """Escape sequences and line breaks of a task's name or a sentence do not reach the terminal."""
    evil = "a\x1b[2J\x1b]0;x\x07\nb\u202e"
    found = answer(estimate(evil, 0.0, 0.01, 0.02, Status.PASS), detail=evil)
    for line in text_lines(found, 120):
        assert not set(line.plain) & set("\x1b\x07\n\u202e")


def test_a_refusal_lists_its_reasons_and_counts_the_rest() -> None:
    """Without estimates the findings stand where the plot would, cut after a few."""
    reasons = tuple(Reason(text=f"finding {i}", ok=False, where="t") for i in range(12))
    verdict = Verdict(gate="results", status=Status.FAIL, detail="broken", reasons=reasons)
    found = Answer(verdict, "a", "b", ("look there",))
    assert found.outcome is Outcome.ANOMALOUS
    plain = "\n".join(line.plain for line in text_lines(found, 120))
    assert plain.startswith("ANOMALOUS  broken")
    assert "t: finding 7" in plain
    assert "finding 8" not in plain
    assert "and 4 more" in plain
    assert "note  look there" in plain
    assert "finding 11" in render_html(found)
    assert "finding 7" in render_svg(found)


def test_a_run_that_goes_on_is_open() -> None:
    """A results verdict that says "not yet" is INCONCLUSIVE and not ANOMALOUS."""
    verdict = Verdict(gate="results", status=Status.INCONCLUSIVE, detail="not yet: running")
    assert Answer(verdict, "a", "b").outcome is Outcome.INCONCLUSIVE


@given(name=st.text(max_size=60), drop=st.floats(-1, 1), half=st.floats(0, 1), margin=st.floats(1e-6, 0.99))
def test_every_name_and_number_can_be_drawn(name: str, drop: float, half: float, margin: float) -> None:
    """All three pictures are made of any task name and any numbers; the SVG is well-formed XML."""
    name = name.encode("utf-8", "replace").decode()
    rows = [estimate(n, drop, half, margin, Status.FAIL) for n in ("macro", name or "x")]
    found = answer(*rows, outcome=Outcome.REGRESSION, detail=name)
    assert len(text_lines(found, 80)) >= 6
    ET.fromstring(render_svg(found))
    assert "</html>" in render_html(found)


def test_markup_in_names_is_text() -> None:
    """A task named like a tag is shown, not obeyed."""
    tag = "<img src=x onerror=alert(1)>"
    found = answer(estimate(tag, 0.0, 0.01, 0.02, Status.PASS), detail=tag)
    for page in (render_html(found), render_svg(found)):
        assert "<img" not in page
        assert "&lt;img" in page
