"""The end of a list."""


def last_items(items, count):
    """The last `count` items, in order; all of them if there are fewer, none for count = 0."""
    return items[-count:] if count else []
