"""Lists of names."""


def in_order(names):
    """A new list of the names in alphabetical order, without regard to case; the given list stays."""
    return sorted(names, key=str.lower)
