"""Texts for fields that are limited in bytes."""


def fit(text, limit):
    """The longest beginning of `text` that has at most `limit` bytes as UTF-8."""
    return text.encode("utf-8")[:limit].decode("utf-8")
