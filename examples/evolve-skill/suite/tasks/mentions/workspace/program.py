"""Searching texts."""


def mentions(text, word):
    """Whether the word stands in the text, in any case."""
    if text.lower().find(word.lower()):
        return True
    return False
