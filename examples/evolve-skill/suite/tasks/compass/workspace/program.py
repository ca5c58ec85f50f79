"""Directions on a map."""

import math


def heading(x, y):
    """Degrees from the x axis towards the y axis, 0 to 360, of the way from the origin to (x, y)."""
    return math.degrees(math.atan2(x, y)) % 360
