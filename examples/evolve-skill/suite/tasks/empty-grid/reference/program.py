"""Grids of cells."""


def grid(width, height, fill=0):
    """`height` rows of `width` cells."""
    return [[fill] * width for _ in range(height)]


def marked(width, height, cells):
    """A grid of zeros with a one at each (row, column)."""
    found = grid(width, height)
    for row, column in cells:
        found[row][column] = 1
    return found
