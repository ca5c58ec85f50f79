"""Rounding as people do it."""

import math


def rounded(value):
    """The nearest whole number; a half is rounded up."""
    return round(value)
