"""Counting."""


def counts(items):
    """How often each item occurs."""
    found = {}
    for item in items:
        found[item] = found.get(item, 0) + 1
    return found
