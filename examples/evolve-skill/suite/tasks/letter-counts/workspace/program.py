"""Counting."""


def counts(items):
    """How often each item occurs."""
    found = {}
    for item in items:
        found[item] = 1
    return found
