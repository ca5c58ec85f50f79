"""Ratings from 1 to 5."""


def average(ratings):
    """The mean rating; 0.0 without ratings."""
    if not ratings:
        return 0.0
    return sum(ratings) // len(ratings)
