"""Worst and best case of pairs that could not be scored."""

from __future__ import annotations

from dataclasses import dataclass

from ._validate import count, pair_counts
from .paired import mcnemar_exact


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """Counts of one task's pairs."""

    b: int
    """Pairs with baseline right and candidate wrong."""

    c: int
    """Pairs with baseline wrong and candidate right."""

    n: int
    """All pairs."""


@dataclass(frozen=True, slots=True)
class MissingBounds:
    """What the counts could be at most and at least if the missing pairs were known."""

    worst: PairedCounts
    """All missing pairs right for the baseline and wrong for the candidate; ACCEPT must hold here."""

    best: PairedCounts
    """All missing pairs the other way round; REGRESSION must hold here."""


def missing_bounds(b: int, c: int, n: int, missing: int) -> MissingBounds:
    """Return the counts with all missing pairs against, and all for the candidate.

    For means of [-1, 1] differences the same is done by appending +1 (worst) or -1 (best) per pair.
    Source: Horowitz & Manski 2000, J. Am. Stat. Assoc. 95:77 (bounds without assumptions).

    Args:
        b: Scored pairs with baseline right and candidate wrong.
        c: Scored pairs with baseline wrong and candidate right.
        n: Scored pairs.
        missing: Pairs for which either side has no score.

    Raises:
        StatsError: If a count is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    lost = count("missing", missing)
    return MissingBounds(
        worst=PairedCounts(flips_b + lost, flips_c, pairs + lost),
        best=PairedCounts(flips_b, flips_c + lost, pairs + lost),
    )


def missingness_test(baseline_only: int, candidate_only: int) -> float:
    """Return the two-sided p-value of "samples go missing on either side alike" (exact McNemar).

    A small value means that one side loses samples of its own; what is left is then no fair sample.

    Args:
        baseline_only: Pairs in which only the baseline's score is missing.
        candidate_only: Pairs in which only the candidate's score is missing.

    Raises:
        StatsError: If a count is unusable.
    """
    first = count("baseline_only", baseline_only)
    return mcnemar_exact(first, count("candidate_only", candidate_only), "two-sided")
