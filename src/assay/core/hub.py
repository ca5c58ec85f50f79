"""Names in a cache of the Hugging Face hub: `models--OWNER--NAME/snapshots/REVISION/FILE`, a link to `blobs/`. Pure."""

from __future__ import annotations

import re

ID = re.compile(r"\w[\w.-]*/[\w.-]+")
"""`owner/name` of a model."""
_SNAPSHOT = re.compile(r"(?P<repository>.*/models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+))/snapshots/[^/]+")


def repository_of(folder: str) -> str | None:
    """The cached repository that a folder is a snapshot of; its links may lead anywhere in there. None if it is none.

    Args:
        folder: absolute POSIX path, without links.
    """
    found = _SNAPSHOT.fullmatch(folder)
    return found["repository"] if found else None


def title(path: str) -> str:
    """What people call the model of a path: its last part, `owner/name` for a snapshot of a cache."""
    found = _SNAPSHOT.fullmatch(path.rstrip("/"))
    return f"{found['owner']}/{found['name']}" if found else path.rstrip("/").rpartition("/")[2] or path
