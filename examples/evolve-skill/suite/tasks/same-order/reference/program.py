"""Comparing orders."""


def is_same_order(first, second):
    """Whether two orders have the same number and the same items, in any order of the items."""
    return first["number"] == second["number"] and sorted(first["items"]) == sorted(second["items"])
