"""Lists of readings."""


def drop_negatives(readings):
    """Remove all negative readings from the list itself, and return it."""
    for value in readings:
        if value < 0:
            readings.remove(value)
    return readings
