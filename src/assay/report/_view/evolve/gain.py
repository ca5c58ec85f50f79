"""A gain of the mean in points: what a verdict of the deploy gate estimates, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.verdict import Estimate, Verdict
from assay.report._view.text import MINUS, signed

MACRO = "macro"


@dataclass(frozen=True)
class Gain:
    """A difference of the means with its interval; positive = the candidate is better."""

    value: float
    low: float | None
    high: float | None
    level: float | None
    bar: float
    """What must be shown."""
    n: int | None

    @property
    def told(self) -> str:
        """The interval in words; a bound that is not there is open."""
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f"at least {change(self.low or 0.0, 1)}"
        low = "any loss" if self.low is None else change(self.low, 1)
        return f"{low} to {change(self.high, 1)}"


def gain_of(verdict: Verdict | None) -> Gain | None:
    """The mean difference that a verdict of the deploy gate estimates; None if it holds none."""
    if verdict is None or not verdict.estimates:
        return None
    named = {e.task: e for e in verdict.estimates}
    found = named.get(MACRO) or next((e for e in verdict.estimates if e.role == "primary"), None)
    return None if found is None else _gain(found)


def _gain(found: Estimate) -> Gain:
    return Gain(
        value=-found.drop,
        low=None if found.upper is None else -found.upper,
        high=None if found.lower is None else -found.lower,
        level=found.level,
        bar=-found.margin if found.margin else 0.0,
        n=found.n,
    )


def change(gain: float, digits: int = 0) -> str:
    """A difference of rates in points, with its sign."""
    text = signed(100.0 * gain, digits)
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


def points_label(label: str) -> str:
    """The label of a tick in points, from one in shares."""
    value = float(label.replace(MINUS, "-").replace(",", ""))
    return change(value, 0) if value else "0"
