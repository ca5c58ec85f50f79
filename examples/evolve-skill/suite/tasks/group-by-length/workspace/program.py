"""Groups of words."""


def by_length(words):
    """Length → words of that length, in their order."""
    groups = dict.fromkeys((len(word) for word in words), [])
    for word in words:
        groups[len(word)].append(word)
    return groups
