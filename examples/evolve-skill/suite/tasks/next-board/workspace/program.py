"""A board of a game, as rows of characters."""

import copy


def played(board, row, column, mark):
    """A new board with one more mark; the given board stays as it is."""
    new = copy.copy(board)
    new[row][column] = mark
    return new
