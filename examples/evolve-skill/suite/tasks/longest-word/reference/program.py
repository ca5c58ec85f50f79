"""Words of a text."""


def longest_length(text):
    """The length of the longest word; 0 for a text without words."""
    return max((len(word) for word in text.split()), default=0)
