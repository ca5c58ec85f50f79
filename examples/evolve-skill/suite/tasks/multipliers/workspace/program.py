"""Functions made in a loop."""


def multipliers(factors):
    """One function for each factor: it multiplies its argument by that factor."""
    return [lambda x: x * factor for factor in factors]
