"""Dotted names."""

import re


def parts(name):
    """The parts of a name; they are apart by dots or slashes."""
    return re.split("[/]|.", name)
