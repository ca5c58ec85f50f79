"""Names that people type."""

import unicodedata


def same_name(first, second):
    """Whether two names are equal but for case and the Unicode form in which accents are written."""
    return _plain(first) == _plain(second)


def _plain(name):
    return unicodedata.normalize("NFC", name).casefold()
