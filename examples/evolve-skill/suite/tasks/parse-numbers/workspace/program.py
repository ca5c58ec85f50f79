"""Numbers in texts."""


def numbers(texts):
    """The texts that are whole numbers, as numbers; what is none is left out."""
    found = []
    for text in texts:
        try:
            found.append(int(text))
        except TypeError:
            continue
    return found
