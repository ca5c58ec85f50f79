"""`last.pt` and `best.pt` of the old contract: one dictionary, written by torch, loadable with `weights_only`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assay.track._checkpoint import arrays
from assay.track._checkpoint.disk import DigestingFile
from assay.track._checkpoint.errors import CheckpointDamaged, CheckpointMismatch
from assay.track._checkpoint.manifest import Manifest
from assay.track._checkpoint.tree import Encoded, decode

FILE = "legacy.pt"


def legacy_writer(
    encoded: Encoded, manifest: Manifest, best: tuple[str, float | None]
) -> Callable[[DigestingFile], None]:
    """A function that writes the old dictionary from a frozen state.

    Raises:
        CheckpointMismatch: if torch is not loaded: then there is nothing of the old format to write.
    """
    torch = arrays.loaded("torch")
    if torch is None:
        raise CheckpointMismatch(
            "last.pt is written by torch, which is not imported", next="legacy_names=False"
        )

    def blob(specification: dict[str, Any]) -> Any:
        part, key = specification["at"]
        value, _ = encoded.blobs[part][key]
        if specification["$"] == "tensor":
            return arrays.arrange(value, specification)
        if specification["$"] == "ndarray":
            return value.tolist()
        return bytes(value)

    state = _plain(decode(encoded.tree, blob, Path()))
    rng = state.pop("rng", {})
    counters = state.get("counters")
    document = {
        **{key: value for key, value in state.items() if key != "absent"},
        "epoch": manifest.epoch,
        "step": manifest.step,
        "torch_rng_state": rng.get("torch"),
        "cuda_rng_states": rng.get("cuda"),
        "numpy_rng_state": rng.get("numpy"),
        "python_rng_state": rng.get("python"),
        f"best_{best[0]}": best[1],
        "hyperparams": state.get("hyperparams", counters if isinstance(counters, dict) else {}),
        "metadata": {
            "date": manifest.time,
            "metrics": dict(manifest.metrics),
            "versions": dict(manifest.versions),
        },
    }
    return lambda file: torch.save(document, file)


def _plain(value: Any) -> Any:
    """Only what torch loads with `weights_only=True`."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else list(value)
    if hasattr(value, "item") and not arrays.is_tensor(value):
        return value.item()
    if isinstance(value, Path) or hasattr(value, "note"):
        return str(getattr(value, "path", value))
    return value


def read_legacy(path: Path) -> dict[str, Any]:
    """An old checkpoint; nothing is unpickled but what `weights_only` allows. It has no digest: nobody can vouch for it.

    Raises:
        CheckpointDamaged: if it does not load that way.
    """
    torch = importlib.import_module("torch")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes on foreign bytes
        text = " ".join(str(error).split())[:300]
        raise CheckpointDamaged(f"torch.load(weights_only=True): {text}", where=str(path)) from error
    if not isinstance(found, dict):
        raise CheckpointDamaged("no dictionary", where=str(path))
    return found
