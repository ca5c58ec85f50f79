"""A state as JSON plus named blobs: dicts, lists, tuples, numbers and texts in JSON, tensors and arrays aside.

Kinds that JSON does not have stand as `{"$": kind, ...}`. Encoding is deterministic, so that a state that was read and
encoded again has the same bytes: this is how a restore is proven to be equal.
"""

from __future__ import annotations

import base64
import collections
import importlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.track._checkpoint import arrays
from assay.track._checkpoint.errors import CheckpointDamaged, StateError

INLINE_BYTES = 4096
"""Longer byte strings are blobs of their own."""
MAX_DEPTH = 200
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NUMBERED = re.compile(r"^(attached-\d{3,}-)+")


@dataclass(frozen=True)
class Attachment:
    """A file that is part of the state as it is: a booster's native model, a tokenizer, a pickle of somebody else's.

    It is copied, digested and handed back as a path. Assay never opens it: what is a pickle is loaded by the script
    that wrote it, or not at all.
    """

    path: Path
    """The file; after a load, the one in the checkpoint's folder."""
    note: str = ""
    """What it is, for people: `joblib, scikit-learn 1.9`."""


@dataclass
class Encoded:
    """A state, frozen: nothing in it shares memory with the live objects if it was made with `copy=True`."""

    tree: Any
    """JSON value of the whole state."""
    blobs: dict[str, dict[str, tuple[Any, dict[str, Any]]]] = field(default_factory=dict)
    """Component → key → (frozen value, specification)."""
    attachments: dict[str, Path] = field(default_factory=dict)
    """File name in the checkpoint → source."""

    def text(self) -> bytes:
        """The JSON document."""
        return json.dumps(self.tree, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()

    def bytes(self) -> int:
        """Size of all blobs and attachments."""
        own = sum(arrays.view(value).nbytes for part in self.blobs.values() for value, _ in part.values())
        return own + sum(path.stat().st_size for path in self.attachments.values())


def encode(state: Mapping[str, Any], *, copy: bool) -> Encoded:
    """Freeze a state.

    Args:
        state: components by name; values are plain data, tensors, arrays, attachments, or objects with `state_dict()`.
        copy: whether later changes of the live objects must not be seen.

    Raises:
        StateError: naming the first value that is none of these.
    """
    encoder = _Encoder(copy=copy)
    for name in state:
        if not isinstance(name, str):
            raise StateError(f"the name of a component is a text, not {name!r}")
    encoder.result.tree = {name: encoder.component(name, value) for name, value in state.items()}
    arrays.synchronize()
    return encoder.result


class _Encoder:
    def __init__(self, *, copy: bool) -> None:
        self.copy = copy
        self.result = Encoded(tree=None)
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._part = ""
        self._alive: list[Any] = []  # an id stands for an object only as long as the object lives

    def component(self, name: str, value: Any) -> Any:
        self._part = name if _PLAIN_NAME.match(name) else "state"
        return self.value(value, (), name)

    def value(self, value: Any, path: tuple[str, ...], root: str) -> Any:
        if len(path) > MAX_DEPTH:
            raise StateError("nested too deeply, or a cycle", where=_shown(root, path[:8]))
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "value": repr(value)}
        if arrays.is_tensor(value):
            return self._tensor(value, path, root)
        if arrays.is_array(value):
            return self._array(value, path, root)
        if arrays.is_numpy_scalar(value):
            return self._numpy_scalar(value, _shown(root, path))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value), path)
        if isinstance(value, Mapping):
            return self._mapping(value, path, root)
        if isinstance(value, list | tuple | set | frozenset | collections.deque):
            return self._sequence(value, path, root)
        return self._other(value, path, root)

    def _tensor(self, tensor: Any, path: tuple[str, ...], root: str) -> Any:
        identity = arrays.tensor_identity(tensor)
        if identity is not None and identity in self._known:
            return self._known[identity]
        frozen, specification = arrays.freeze_tensor(tensor, _shown(root, path), copy=self.copy)
        return self._blob(frozen, specification, path, identity, keep=tensor)

    def _array(self, array: Any, path: tuple[str, ...], root: str) -> Any:
        identity = ("array", id(array))
        if identity in self._known:
            return self._known[identity]
        frozen, specification = arrays.freeze_array(array, _shown(root, path), copy=self.copy)
        return self._blob(frozen, specification, path, identity, keep=array)

    def _blob(
        self, frozen: Any, specification: dict[str, Any], path: tuple[str, ...], identity: Any, keep: Any
    ) -> dict[str, Any]:
        part = self.result.blobs.setdefault(self._part, {})
        base = ".".join(path) or "value"
        key = base
        while key in part or key == "__metadata__":
            key = f"{base}#{len(part)}"
        part[key] = (frozen, specification)
        reference = {**specification, "at": [self._part, key]}
        if identity is not None:
            self._known[identity] = reference
            self._alive.append(keep)
        return reference

    def _numpy_scalar(self, value: Any, where: str) -> Any:
        if value.dtype.hasobject or value.dtype.names:
            raise StateError(f"a numpy scalar of {value.dtype} has no plain bytes", where=where)
        return {"$": "scalar", "dtype": value.dtype.str, "hex": value.tobytes().hex()}

    def _bytes(self, value: bytes, path: tuple[str, ...]) -> Any:
        if len(value) <= INLINE_BYTES:
            return {"$": "bytes", "base64": base64.b64encode(value).decode()}
        specification = {"$": "bytes", "dtype": "uint8", "shape": [len(value)]}
        return self._blob(value, specification, path, None, keep=None)

    def _mapping(self, value: Mapping[Any, Any], path: tuple[str, ...], root: str) -> Any:
        kind = {collections.OrderedDict: "ordered", collections.Counter: "counter"}.get(type(value), "dict")
        if kind == "dict" and all(type(key) is str for key in value) and "$" not in value:
            return {key: self.value(item, (*path, key), root) for key, item in value.items()}
        items = []
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | tuple | bytes | None):
                raise StateError(f"a key of type {type(key).__name__}", where=_shown(root, path))
            step = str(key)
            items.append([self.value(key, (*path, "key"), root), self.value(item, (*path, step), root)])
        return {"$": kind, "items": items}

    def _sequence(self, value: Any, path: tuple[str, ...], root: str) -> Any:
        torch = arrays.loaded("torch")
        if isinstance(value, set | frozenset):
            items = [self.value(item, (*path, "item"), root) for item in value]
            kind = "set" if isinstance(value, set) else "frozenset"
            return {"$": kind, "items": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
        items = [self.value(item, (*path, str(i)), root) for i, item in enumerate(value)]
        if isinstance(value, list):
            return items
        if isinstance(value, collections.deque):
            return {"$": "deque", "items": items, "maxlen": value.maxlen}
        size = torch is not None and isinstance(value, torch.Size)
        return {"$": "size" if size else "tuple", "items": items}

    def _other(self, value: Any, path: tuple[str, ...], root: str) -> Any:
        torch = arrays.loaded("torch")
        if isinstance(value, Attachment):
            return self._attachment(value, _shown(root, path))
        if torch is not None and isinstance(value, torch.dtype | torch.device):
            kind = "torch.dtype" if isinstance(value, torch.dtype) else "torch.device"
            return {"$": kind, "value": str(value).removeprefix("torch.")}
        if callable(getattr(value, "state_dict", None)) and not isinstance(value, type):
            return self.value(value.state_dict(), path, root)
        if isinstance(value, bool | int | float | str):  # an enumeration or another subclass: its plain value
            base = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
            return self.value(base(value), path, root)
        if isinstance(value, complex):
            return {
                "$": "complex",
                "items": [self.value(value.real, path, root), self.value(value.imag, path, root)],
            }
        raise StateError(
            f"an object of type {type(value).__module__}.{type(value).__qualname__} is no plain data",
            where=_shown(root, path),
            next="give its state_dict(), numbers, texts, tensors or arrays, or a file as Attachment(path)",
        )

    def _attachment(self, value: Attachment, where: str) -> Any:
        if not value.path.is_file():
            raise StateError(f"no such file: {value.path}", where=where)
        # A file that was read from a checkpoint has its number already: written again it must have the same name.
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", _NUMBERED.sub("", value.path.name))[-80:]
        name = f"attached-{len(self.result.attachments):03d}-{_NUMBERED.sub('', safe)}"
        self.result.attachments[name] = value.path
        return {"$": "file", "name": name, "note": value.note}


def decode(tree: Any, blob: Callable[[dict[str, Any]], Any], folder: Path) -> Any:
    """Build the state again.

    Args:
        tree: what `Encoded.tree` was.
        blob: gives the value of a specification with its place.
        folder: of the checkpoint, for attachments.

    Raises:
        CheckpointDamaged: if the tree is none of ours.
    """
    try:
        return _decode(tree, blob, folder)
    except (KeyError, TypeError, ValueError, RecursionError, IndexError, RuntimeError) as error:
        raise CheckpointDamaged(f"the state does not read: {type(error).__name__}: {error}") from error


def _decode(tree: Any, blob: Callable[[dict[str, Any]], Any], folder: Path) -> Any:
    if isinstance(tree, list):
        return [_decode(item, blob, folder) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree.get("$")
    if kind is None:
        return {key: _decode(item, blob, folder) for key, item in tree.items()}
    if "at" in tree:
        return blob(tree)
    if kind in {"dict", "ordered", "counter"}:
        pairs = [(_decode(key, blob, folder), _decode(item, blob, folder)) for key, item in tree["items"]]
        if kind == "counter":
            return collections.Counter(dict(pairs))
        return collections.OrderedDict(pairs) if kind == "ordered" else dict(pairs)
    if kind in {"tuple", "set", "frozenset", "size", "complex", "deque"}:
        return _container(kind, [_decode(item, blob, folder) for item in tree["items"]], tree)
    if kind == "file":
        return Attachment(folder / str(tree["name"]), str(tree["note"]))
    return _scalar(kind, tree)


def _container(kind: str, items: list[Any], tree: dict[str, Any]) -> Any:
    if kind == "size":
        return importlib.import_module("torch").Size(items)
    if kind == "complex":
        return complex(*items)
    if kind == "deque":
        return collections.deque(items, tree["maxlen"])
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)


def _scalar(kind: Any, tree: dict[str, Any]) -> Any:
    if kind == "float":
        return float(tree["value"])
    if kind == "bytes":
        return base64.b64decode(tree["base64"], validate=True)
    if kind == "scalar":
        numpy = importlib.import_module("numpy")
        return numpy.frombuffer(bytes.fromhex(tree["hex"]), dtype=arrays.numpy_dtype(tree))[0]
    if kind == "torch.dtype":
        return arrays.torch_dtype({"dtype": tree["value"]})
    if kind == "torch.device":
        return importlib.import_module("torch").device(str(tree["value"]))
    raise CheckpointDamaged(f"an unknown kind of value: {kind!r}")


def _shown(root: str, path: tuple[str, ...]) -> str:
    return ".".join((root, *path))
