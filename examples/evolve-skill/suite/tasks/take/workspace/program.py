"""Pages of results."""


def page(items, limit=None):
    """The first `limit` items; all of them without a limit."""
    if not limit:
        return list(items)
    return list(items)[:limit]
