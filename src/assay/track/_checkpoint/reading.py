"""The state of a checkpoint from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assay.track._checkpoint.blobs import BlobReader
from assay.track._checkpoint.errors import CheckpointDamaged
from assay.track._checkpoint.manifest import STATE, Manifest, verify_folder
from assay.track._checkpoint.tree import decode

STATE_LIMIT_BYTES = 1 << 30


def read_state(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """Read a checkpoint's state: plain data, tensors and arrays; nothing is unpickled.

    Args:
        folder: of the checkpoint.
        verify: whether every byte is compared with its digest first.

    Raises:
        CheckpointDamaged: if a byte changed, or the files are none of ours.
    """
    if verify:
        verify_folder(folder)
    try:
        if (folder / STATE).stat().st_size > STATE_LIMIT_BYTES:
            raise CheckpointDamaged(f"{STATE} is too large", where=str(folder))
        tree = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"cannot read {STATE}: {error}", where=str(folder)) from error
    state = decode(tree, BlobReader(folder), folder)
    if not isinstance(state, dict):
        raise CheckpointDamaged("the state is no table of components", where=str(folder))
    return state


def read_checkpoint(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """Verify and read a checkpoint.

    Raises:
        CheckpointDamaged: if a byte changed, or the files are none of ours.
    """
    manifest = verify_folder(folder)
    return manifest, read_state(folder, verify=False)
