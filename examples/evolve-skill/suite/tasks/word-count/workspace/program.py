"""Words of a text."""


def word_count(text):
    """How many words a text has; words are apart by any whitespace."""
    return len(text.split(" "))
