"""Months from 1 to 12."""


def next_month(month):
    """The month after this one; January comes after December."""
    return month % 12 + 1


def months_from(month, count):
    """`count` months in a row, beginning with `month`."""
    found = []
    for _ in range(count):
        found.append(month)
        month = next_month(month)
    return found
