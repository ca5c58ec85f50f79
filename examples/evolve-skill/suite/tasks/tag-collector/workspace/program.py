"""Collects tags."""


def with_tag(tag, tags=[]):
    """A list of `tags` with one more at the end; without `tags`, a list of this tag alone."""
    tags.append(tag)
    return tags
