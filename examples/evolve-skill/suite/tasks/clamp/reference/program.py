"""Limits."""


def clamped(value, low, high):
    """The value, or the limit that it lies beyond."""
    return max(low, min(value, high))
