"""Comparing measurements."""


def nearly_equal(first, second, tolerance=0.01):
    """Whether two measurements differ by at most the tolerance."""
    return abs(first - second) <= tolerance
