"""Shares."""


def shares(texts):
    """Each number of a list of texts as a share of their sum."""
    numbers = map(float, texts)
    total = sum(numbers)
    return [number / total for number in numbers]
