"""Where the models lie that a spec names."""

from __future__ import annotations

import os
from pathlib import Path

from assay.core import hub
from assay.core.errors import SpecError
from assay.readers.model import cached_snapshot


def located(name: str, base: Path, where: str) -> Path:
    """A model by its path, or by `owner/name` the current snapshot in the hub's cache. Nothing is downloaded.

    Raises:
        SpecError: if there is neither.
    """
    path = (base / Path(name).expanduser()).absolute()
    if path.exists():
        return path
    if hub.ID.fullmatch(name) is None:
        raise SpecError(f"no such model: {path}", where=where, next=f"correct `{where}`")
    cached = cached_snapshot(name, os.environ)
    if cached is None:
        raise SpecError(
            f"no such model: neither {path} nor {name} in the hub's cache",
            where=where,
            next=f"`hf download {name}`",
        )
    return cached.resolve()
