"""Sums over the first natural numbers."""


def sum_of_squares(n):
    """1*1 + 2*2 + ... + n*n; n is included. Zero for n = 0."""
    total = 0
    for i in range(1, n):
        total += i * i
    return total
