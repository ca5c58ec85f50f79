"""The mark of this project."""

MARK = "unset"


def header():
    """The first line of every file: the project's own mark after a hash. No test can tell which mark it is."""
    return f"# {MARK}"
