"""Checks of lists."""


def all_positive(values):
    """Whether every value is above zero; true for an empty list."""
    for value in values:
        if value <= 0:
            return False
    return True
