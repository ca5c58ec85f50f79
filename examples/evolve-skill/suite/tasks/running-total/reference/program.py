"""Sums on the way."""


def running_totals(values):
    """The sum of all values up to each one."""
    totals = []
    total = 0
    for value in values:
        total += value
        totals.append(total)
    return totals
