"""Lines of a file."""


def line_count(text):
    """How many lines a text has; a line end at the very end begins no line."""
    return len(text.split("\n"))
