"""Polynomials as lists of coefficients, the constant first."""

from itertools import zip_longest


def added(first, second):
    """The sum of two polynomials."""
    return [a + b for a, b in zip(first, second)]
