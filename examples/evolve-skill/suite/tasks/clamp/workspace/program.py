"""Limits."""


def clamped(value, low, high):
    """The value, or the limit that it lies beyond."""
    return min(low, max(value, high))
