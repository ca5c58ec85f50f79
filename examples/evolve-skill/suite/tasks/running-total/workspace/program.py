"""Sums on the way."""


def running_totals(values):
    """The sum of all values up to each one."""
    totals = []
    for value in values:
        total = 0
        total += value
        totals.append(total)
    return totals
