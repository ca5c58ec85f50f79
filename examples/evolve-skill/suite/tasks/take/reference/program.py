"""Pages of results."""


def page(items, limit=None):
    """The first `limit` items; all of them without a limit."""
    if limit is None:
        return list(items)
    return list(items)[:limit]
