"""Who else used the processors: shares of all time, and nothing where the system tells nothing."""

from __future__ import annotations

import pytest

from assay.load import neighbours
from assay.load.neighbours import Neighbours, _Spent


def shares(monkeypatch: pytest.MonkeyPatch, before: _Spent | None, now: _Spent | None) -> dict[str, float]:
    """What is told between two looks at the processors."""
    looks = iter((before, now))
    monkeypatch.setattr(neighbours, "_spent", lambda: next(looks))
    return Neighbours().shares()


def test_what_is_neither_idle_nor_ours_is_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 seconds on two processors 5 were idle and 9 ours: 6 are left."""
    found = shares(monkeypatch, _Spent(100.0, 50.0, 1.0), _Spent(120.0, 55.0, 10.0))
    assert found == {"idle_frac": 0.25, "others_frac": 0.3}


def test_rounding_of_the_clocks_gives_no_share_beyond_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts in hundredths of a second: ours may seem more than all there was."""
    found = shares(monkeypatch, _Spent(100.0, 50.0, 1.0), _Spent(100.1, 50.0, 1.2))
    assert found == {"idle_frac": 0.0, "others_frac": 0.0}


@pytest.mark.parametrize("now", [None, _Spent(100.0, 50.0, 1.0)])
def test_nothing_is_told_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch, now: _Spent | None) -> None:
    """No figures of the system, or no time between the looks."""
    assert shares(monkeypatch, _Spent(100.0, 50.0, 1.0), now) == {}


def test_this_machine_tells() -> None:
    """Here both shares are known."""
    watched = Neighbours()
    while not (found := watched.shares()):
        sum(range(10_000))
    assert set(found) == {"idle_frac", "others_frac"}
    assert all(0 <= share <= 1 for share in found.values())
