"""Books."""

import math


def is_balanced(debits, credits):
    """Whether both sides have the same sum, to a millionth."""
    return sum(debits) == sum(credits)
