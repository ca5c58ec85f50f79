"""The answers of several rules from the same readings."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.recommendation import Choice, Recommendation
from assay.report import recommendation as told
from assay.report._view.marks import Mark
from assay.report._view.text import one_line
from assay.report._view.tuning.map import short_settings


@dataclass(frozen=True)
class Answer:
    """One answer from the readings."""

    title: str
    mark: Mark
    name: str
    speed: str
    why: str


def answers(found: Recommendation, mark: Mark) -> tuple[Answer, ...]:
    """What each rule takes from the readings, this study's own first.

    Args:
        found: the recommendation.
        mark: of the study.
    """
    made = []
    for title, choice, why in (
        ("this study", found.recommendation, "the default, unless another is proven better"),
        ("highest estimate", found.best_estimate, "whatever measured fastest, proven or not"),
        ("point rule", found.sequential_band, "medians one after another, a band of 2 %, no intervals"),
    ):
        if choice is None:
            continue
        same = found.recommendation is not None and _same(choice, found.recommendation)
        word = mark if title == "this study" else _agrees(same)
        made.append(Answer(title, word, _choice_name(choice), told.speed_text(choice), why))
    return tuple(made)


def answers_text(found: Recommendation) -> str:
    """Whether the rule of medians agrees, and why it need not."""
    chosen, point = found.recommendation, found.sequential_band
    if chosen is None or point is None:
        return ""
    if _same(chosen, point):
        return "The point rule comes to the same answer; it cannot say how sure it is."
    return (
        "The point rule takes another one from the same readings. It compares medians in the order in which cells were "
        "read, so a drift of the machine or a lucky reading decides."
    )


def _same(one: Choice, other: Choice) -> bool:
    return (one.model, one.name, one.settings) == (other.model, other.name, other.settings)


def _agrees(same: bool) -> Mark:
    return Mark("the same", "good", "check") if same else Mark("another", "open", "question")


def _choice_name(choice: Choice) -> str:
    settings = short_settings(choice.settings) or told.settings_text(choice)
    return f"{one_line(choice.model, 80)}: {settings}"
