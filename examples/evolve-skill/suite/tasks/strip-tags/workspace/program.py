"""Plain text of simple markup."""

import re


def strip_tags(markup):
    """The markup without its tags: all that stands between < and the next >."""
    return re.sub(r"<.+>", "", markup)
