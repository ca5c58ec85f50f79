"""Version numbers."""


def newest_first(versions):
    """Versions such as 1.10.2, the newest first."""
    return sorted(versions, key=lambda v: v.split("."), reverse=True)
