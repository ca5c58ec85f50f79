"""What a training script hands to `log`, turned into strict JSON: numbers, or named as not finite, or named as text.

torch and numpy are never imported: a tensor is what has `detach` and `item`, and their module is asked only if the
script has loaded it.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

EXACT_INTEGER = 1 << 53
"""Integers beyond this are written as floats: readers of JSON keep no more."""
TEXT_LIMIT = 400
DEPTH_LIMIT = 6
KEYS_LIMIT = 2_000
"""Metrics of one row; more are counted, not written."""


def text(value: Any, limit: int = TEXT_LIMIT) -> str:
    """Any value as text that every reader of UTF-8 takes, shortened."""
    try:
        shown = value if type(value) is str else str(value)
    except Exception as error:  # noqa: BLE001 - a foreign __str__ may raise anything
        shown = f"<{type(value).__name__}: {type(error).__name__}>"
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode("utf-8")


def nonfinite(value: float) -> str | None:
    """`nan`, `inf` or `-inf`; None for a finite number."""
    if value - value == 0.0:
        return None
    return "nan" if value != value else ("inf" if value > 0 else "-inf")  # noqa: PLR0124 - the test for NaN


def on_device(value: Any) -> bool:
    """Whether reading this value would make the training thread wait for an accelerator."""
    device = getattr(value, "device", None)
    kind = getattr(device, "type", None)
    return isinstance(kind, str) and kind not in ("cpu", "meta") and hasattr(value, "detach")


def number(value: Any) -> float | int | None:
    """A number from a number, a one-element tensor or array, or what converts itself; None if it is none.

    Integers that a double does not hold become floats; bools become 0 and 1; text is not parsed.
    """
    kind = type(value)
    if kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return _integer(value)
    if kind is bool:
        return int(value)
    if value is None or isinstance(value, str | bytes | bytearray | complex):
        return None
    try:
        item = getattr(value, "item", None)
        if item is not None:
            value = item()
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, int):
            return _integer(int(value))
        return None if isinstance(value, str | bytes | complex) else float(value)
    except OverflowError:
        return math.inf
    except Exception:  # noqa: BLE001 - a foreign conversion may raise anything; the value is then named as text
        return None


def _integer(value: int) -> float | int:
    if -EXACT_INTEGER <= value <= EXACT_INTEGER:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@dataclasses.dataclass
class Numbers:
    """Metrics ready to be written.

    Attributes:
        finite: name → number, or None where it is not finite.
        bad: name → `nan`, `inf` or `-inf`.
        other: name → text of what is no number.
        left_out: how many names were beyond `KEYS_LIMIT`.
    """

    finite: dict[str, float | int | None] = dataclasses.field(default_factory=dict)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    other: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: int = 0

    def add(self, name: str, value: Any) -> None:
        """Take one value that is no mapping."""
        if len(self.finite) + len(self.other) >= KEYS_LIMIT and name not in self.finite:
            self.left_out += 1
            return
        found = number(value)
        if found is None:
            self.other[name] = describe(value)
            return
        word = nonfinite(found)
        if word is None:
            self.finite[name] = found
        else:
            self.finite[name] = None
            self.bad[name] = word

    def fields(self, place: str = "metrics") -> dict[str, Any]:
        """The keys of a row that these make up."""
        row: dict[str, Any] = {place: self.finite}
        if self.bad:
            row["nonfinite"] = self.bad
        if self.other:
            row["other"] = self.other
        if self.left_out:
            row["left_out"] = self.left_out
        return row


def numbers(metrics: Any) -> Numbers:
    """Clean a mapping; nested mappings are joined with `/`, what is no mapping becomes `value`."""
    found = Numbers()
    _collect(metrics, "", found, 0)
    return found


def _collect(metrics: Any, prefix: str, found: Numbers, depth: int) -> None:
    if not isinstance(metrics, Mapping):
        if metrics is not None:
            found.add("value", metrics)
        return
    for key, value in list(metrics.items()):
        name = prefix + (key if type(key) is str and key.isascii() else text(key))
        if isinstance(value, Mapping) and depth < DEPTH_LIMIT:
            _collect(value, name + "/", found, depth + 1)
        else:
            found.add(name, value)


def settle(metrics: Any) -> dict[str, Any]:
    """What the training thread hands over, safe against later changes: numbers, texts, kept tensors; flat."""
    found: dict[str, Any] = {}
    _settle(metrics, "", found, 0)
    return found


def _settle(metrics: Any, prefix: str, found: dict[str, Any], depth: int) -> None:
    if not isinstance(metrics, Mapping):
        if metrics is not None:
            _settle({"value": metrics}, prefix, found, depth)
        return
    for key, value in metrics.items():
        name = prefix + (key if type(key) is str and key.isascii() else text(key))
        kind = type(value)
        if kind is float or kind is int:
            found[name] = value
        elif isinstance(value, Mapping) and depth < DEPTH_LIMIT:
            _settle(value, name + "/", found, depth + 1)
        elif on_device(value) and _single(value):
            found[name] = kept(value)
        else:
            known = number(value)
            found[name] = describe(value) if known is None else known


def _single(value: Any) -> bool:
    try:
        return int(value.numel()) == 1
    except Exception:  # noqa: BLE001 - a foreign kind of tensor
        return False


def describe(value: Any) -> str:
    """A short text for a value that is no number: what it is, without its elements."""
    if value is None or isinstance(value, str | bytes | complex):
        return text(value, 200)
    shape = getattr(value, "shape", None)
    if shape is not None:
        return text(f"{type(value).__name__} of shape {text(shape, 80)}", 200)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{type(value).__name__} of {len(value)}"
    return text(value, 200)


def plain(value: Any, depth: int = 0) -> Any:
    """Any configuration as strict JSON: mappings, dataclasses, namespaces and iterables kept, the rest as text."""
    if value is None or type(value) is bool:
        return value
    if isinstance(value, str):
        return text(value, 20_000)
    if isinstance(value, int | float) or hasattr(value, "item"):
        found = number(value)
        return describe(value) if found is None else (nonfinite(found) or found)
    if depth >= DEPTH_LIMIT or isinstance(value, PurePath | bytes | type):
        return text(value)
    if dataclasses.is_dataclass(value):
        return plain({f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}, depth)
    if isinstance(value, Mapping):
        return {text(k): plain(v, depth + 1) for k, v in list(value.items())[:KEYS_LIMIT]}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v, depth + 1) for v in list(value)[:KEYS_LIMIT]]
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and held and not callable(value):
        return plain({k: v for k, v in held.items() if not str(k).startswith("_")}, depth)
    return text(value)


def kept(value: Any) -> Any:
    """A tensor on an accelerator as it is now, without its graph and without waiting for it."""
    copy = value.detach().clone()
    torch = sys.modules.get("torch")
    if torch is None or value.device.type != "cuda":
        return Kept(copy, None)
    mark = torch.cuda.Event()
    mark.record()
    return Kept(copy, mark)


@dataclasses.dataclass(slots=True)
class Kept:
    """A value that still lies on the accelerator, and the mark in its stream after which it may be read."""

    tensor: Any
    mark: Any


def fetch(waiting: Iterable[Kept]) -> dict[int, Any]:
    """Read many kept values with one transfer a device and kind: `id(kept)` → number."""
    groups: dict[tuple[str, str], list[Kept]] = {}
    for item in waiting:
        groups.setdefault((str(item.tensor.device), str(item.tensor.dtype)), []).append(item)
    found: dict[int, Any] = {}
    for items in groups.values():
        try:
            values = _transfer(items)
        except Exception:  # noqa: BLE001 - of any kind of tensor: then one by one
            values = [number(item.tensor) for item in items]
        found.update({id(item): value for item, value in zip(items, values, strict=True)})
    return found


def _transfer(items: list[Kept]) -> list[Any]:
    torch = sys.modules["torch"]
    if all(item.tensor.numel() == 1 for item in items):
        if items[-1].mark is None:
            return _read(torch, items)
        # A stream of our own, after the marks: the transfer does not queue behind work that came later.
        with torch.cuda.device(items[0].tensor.device):
            for item in items:
                item.mark.synchronize()
            with torch.cuda.stream(torch.cuda.Stream()):
                return _read(torch, items)
    return [number(item.tensor) for item in items]


def _read(torch: Any, items: list[Kept]) -> list[Any]:
    values: list[Any] = torch.stack([item.tensor.reshape(()) for item in items]).cpu().tolist()
    return values
