"""`manifest.json`: what a checkpoint is and which bytes belong to it. `manifest.sha256` beside it seals the manifest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assay.track._checkpoint.disk import digest_of
from assay.track._checkpoint.errors import CheckpointDamaged

SCHEMA = "checkpoint/1"
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
STATE = "state.json"
NAME = re.compile(r"ckpt-\d{8,}(-a\d+(-\d+)?)?\Z")
COMPONENTS = (
    "model", "optimizer", "scheduler", "scaler", "ema", "loader_generator", "loader", "position", "gradients",
    "rng", "counters", "monitor",
)  # fmt: skip
"""What a resume that is equal to the last bit may need."""
DIGESTS = ("config_digest", "data_digest", "code_digest")
_LIMIT_BYTES = 16 << 20
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")
_PACKAGES = ("torch", "numpy", "transformers", "lightning", "sklearn", "xgboost", "lightgbm", "optuna")


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What stands in `manifest.json`."""

    name: str
    experiment: str
    attempt: int
    sequence: int
    """Order of the saves over all attempts: the newest is the highest, whatever its step."""
    step: int
    epoch: int | None
    samples_seen: int | None
    time: str
    """ISO 8601, UTC."""
    reason: str
    files: tuple[FileEntry, ...]
    components: Mapping[str, str]
    """Component → `present`, `absent` (by design) or `unstated`."""
    metrics: Mapping[str, float | None]
    nonfinite: Mapping[str, str]
    """Metric → `nan`, `inf` or `-inf`; it is null in `metrics`."""
    config_digest: str | None = None
    data_digest: str | None = None
    code_digest: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    replay: Mapping[str, str] | None = None
    """Where the function is that replays steps from this checkpoint."""

    @property
    def size_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(entry.bytes for entry in self.files)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the document: what the event log holds."""
        return "sha256:" + hashlib.sha256(self.text()).hexdigest()

    def text(self) -> bytes:
        """The document."""
        value = {"schema": SCHEMA, **asdict(self)}
        return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def seal_of(document: bytes) -> bytes:
    """The line that `sha256sum -c manifest.sha256` checks."""
    return f"{hashlib.sha256(document).hexdigest()}  {MANIFEST}\n".encode()


def digest_of_manifest(folder: Path) -> str:
    """`sha256:<hex>` of the manifest's bytes: what the event log holds.

    Raises:
        OSError: if it cannot be read.
    """
    return "sha256:" + digest_of(folder / MANIFEST)[1]


def components_of(state: Mapping[str, Any]) -> dict[str, str]:
    """Which of the known components a state holds, and which it says that there are none."""
    absent = state.get("absent")
    declared = absent if isinstance(absent, list | tuple) else ()
    found = {
        name: "present" if name in state else "absent" if name in declared else "unstated"
        for name in COMPONENTS
    }
    return {**found, **{name: "present" for name in state if name not in COMPONENTS and name != "absent"}}


def plain_metrics(metrics: Mapping[str, Any] | None) -> tuple[dict[str, float | None], dict[str, str]]:
    """Metrics as JSON: finite numbers, and the names of those that are not."""
    values: dict[str, float | None] = {}
    odd: dict[str, str] = {}
    for name, value in (metrics or {}).items():
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            continue
        values[str(name)] = number if math.isfinite(number) else None
        if not math.isfinite(number):
            odd[str(name)] = repr(number)
    return values, odd


def versions() -> dict[str, str]:
    """Of Python and of the packages that the script loaded."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found


def host() -> dict[str, Any]:
    """Machine, boot and process that wrote."""
    try:
        boot: str | None = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = None
    return {"name": socket.gethostname(), "boot_id": boot, "pid": os.getpid()}


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a checkpoint; its files are not looked at.

    Raises:
        CheckpointDamaged: if it is missing, changed, or no manifest of ours.
    """
    where = str(folder)
    try:
        with (folder / MANIFEST).open("rb") as handle:
            document = handle.read(_LIMIT_BYTES + 1)
        seal = (folder / SEAL).read_bytes() if (folder / SEAL).stat().st_size < 1024 else b""
    except OSError as error:
        raise CheckpointDamaged(
            f"cannot read the manifest: {error.strerror or error}", where=where
        ) from error
    if seal != seal_of(document):
        raise CheckpointDamaged(f"{MANIFEST} is not what {SEAL} says", where=where)
    try:
        return _parse(json.loads(document))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointDamaged(f"{MANIFEST} is none of ours: {error}", where=where) from error


def _parse(value: Any) -> Manifest:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    files = tuple(
        FileEntry(str(row["name"]), _whole(row["bytes"]), str(row["sha256"])) for row in value["files"]
    )
    if not all(_FILE.match(entry.name) for entry in files):
        raise ValueError("a file name that leads elsewhere")
    known = {key: value[key] for key in Manifest.__dataclass_fields__ if key in value}
    for key in ("components", "metrics", "nonfinite", "versions", "host"):
        if not isinstance(known[key], dict):
            raise TypeError(f"{key} is no table")
    whole = {key: _whole(value[key]) for key in ("attempt", "sequence", "step")}
    return Manifest(**{**known, **whole, "files": files, "name": str(value["name"])})


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"no whole number: {value!r}")
    return value


def check_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """What is wrong with the bytes of a checkpoint; empty when each file is there, whole and unchanged, and no other."""
    problems = []
    for entry in manifest.files:
        try:
            size, digest = digest_of(folder / entry.name)
        except OSError as error:
            problems.append(f"{entry.name}: cannot read: {error.strerror or error}")
            continue
        if size != entry.bytes:
            problems.append(f"{entry.name}: {size} bytes, the manifest says {entry.bytes}")
        elif digest != entry.sha256:
            problems.append(
                f"{entry.name}: its bytes changed (sha256 {digest[:12]}, written {entry.sha256[:12]})"
            )
    expected = {entry.name for entry in manifest.files} | {MANIFEST, SEAL}
    extra = sorted(path.name for path in folder.iterdir() if path.name not in expected)
    return (*problems, *(f"{name}: not in the manifest" for name in extra))


def verify_folder(folder: Path) -> Manifest:
    """Read every byte of a checkpoint and compare it with what was written.

    Raises:
        CheckpointDamaged: naming every file that differs.
    """
    manifest = read_manifest(folder)
    try:
        problems = check_files(folder, manifest)
    except OSError as error:
        raise CheckpointDamaged(f"cannot list: {error.strerror or error}", where=str(folder)) from error
    if problems:
        raise CheckpointDamaged("; ".join(problems), where=str(folder))
    return manifest
