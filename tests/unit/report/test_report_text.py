"""Numbers, times and foreign text as the report shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.checkpoint import Module, ModuleKind
from assay.report._view.axis import axis_over
from assay.report._view.release.precision import styles_of
from assay.report._view.release.stacks import place as placed
from assay.report._view.text import (
    bound_above,
    bound_below,
    duration,
    measured,
    moment,
    number,
    one_line,
    plain,
    points,
    signed,
)


@given(st.text(st.characters(), max_size=200))
def test_plain_text_is_safe_whatever_came(text: str) -> None:
    """No control character but line break and tab, no reordering, and it can be encoded."""
    shown = plain(text)
    shown.encode("utf-8")
    assert not any(c < " " and c not in "\n\t" for c in shown)
    assert not set(shown) & set("\u202e\u2066\x7f\x9b")
    assert plain(shown) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("a\x00b", "a\u2400b"),
        ("a\u202eb", "a[U+202E]b"),
        ("\u00e9\u4e2d\U0001f600", "\u00e9\u4e2d\U0001f600"),
    ],
)
def test_plain_text(raw: str, shown: str) -> None:
    """Colours go, control characters become visible, letters stay."""
    assert plain(raw) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (-0.0, "0.00"), (-0.001, "0.00"), (-1.5, "\u22121.50"), (1234.5, "1,234.50")],
)
def test_signed(value: float, shown: str) -> None:
    """A real minus sign, and none before zero."""
    assert signed(value) == shown


def test_bounds_are_never_told_smaller_than_they_are() -> None:
    """Upper bounds round up, lower bounds down; the estimate rounds to the nearest."""
    assert (bound_above(0.046901), bound_below(0.046999), points(0.04694)) == ("4.70", "4.69", "4.69")
    assert (bound_above(0.05), bound_below(0.05)) == ("5.00", "5.00")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.00 s"),
        (0.3, "0.3 s"),
        (12.4, "12 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (7_380, "2 h 3 min"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    """Seconds up to a minute, then the two largest units."""
    assert duration(seconds) == shown


def test_times_and_numbers() -> None:
    """A time that is none is shown as it is; counts are grouped; digests are shortened."""
    assert moment("2026-11-20T10:58:02.006492Z") == "20 November 2026, 10:58 UTC"
    assert moment("yesterday") == "yesterday"
    assert (number(2100), number(0.494721), number(float("inf"))) == ("2,100", "0.4947", "inf")
    assert measured("sha256:" + "ab" * 32, "") == "ab" * 6
    assert measured(0.0111628, "goodness") == "1.12 points"
    assert one_line("a\n b" * 400, 10).endswith("\u2026")


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_axis_shows_every_value(values: list[float]) -> None:
    """Whatever is drawn lies on the axis, in order, with a few ticks."""
    axis = axis_over(values)
    assert all(0 <= axis.at(v) <= 100 and axis.holds(v) for v in values)
    assert len(axis.ticks) <= 14
    ordered = sorted(values)
    assert [axis.at(v) for v in ordered] == sorted(axis.at(v) for v in ordered)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.3.mlp.up_proj", ("model.layers", 3, "mlp.up_proj")),
        ("model.layers.3.mlp.experts.17.up_proj", ("model.layers", 3, "mlp.experts.*.up_proj")),
        ("lm_head", ("", None, "lm_head")),
        ("blk.0", ("blk", 0, "weight")),
        ("", ("", None, "")),
    ],
)
def test_place_of_a_module(name: str, place: tuple[str, int | None, str]) -> None:
    """The first number is the layer, later ones are any expert."""
    assert placed(name) == place


def test_two_schemes_of_equal_bits_look_different() -> None:
    """INT4 and NVFP4 have one colour, and a pattern tells them apart."""
    held = [
        Module(name=s, kind=ModuleKind.LINEAR, scheme=s, weight_bits=4, stored_bits=4.5, shape=(2, 2))
        for s in ("INT4", "NVFP4")
    ]
    styles = styles_of(held)
    assert styles["INT4"] != styles["NVFP4"]
    assert {s.split()[0] for s in styles.values()} == {"b4"}
