"""Books."""

import math


def is_balanced(debits, credits):
    """Whether both sides have the same sum, to a millionth."""
    return math.isclose(sum(debits), sum(credits), rel_tol=0, abs_tol=1e-6)
