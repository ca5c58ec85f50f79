"""File names."""


def stem(name):
    """The name without its ending .txt, if it has that ending."""
    return name.removesuffix(".txt")
