"""Reductions over lists of torch tensors, in few calls. torch is handed in: importing it is the script's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NARROW_TYPES = ("torch.float16", "torch.bfloat16")
"""Types in which a sum of squares overflows or stands still long before the norm is large."""


def local(tensor: Any) -> Any:
    """The part of a distributed tensor that lies here; a dense view of a sparse gradient's values."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if getattr(tensor, "is_sparse", False):
        tensor = tensor.coalesce().values()
    return tensor.detach()


def head(tensor: Any, count: int) -> Any:
    """The first elements of a tensor, as a view; all of it where a view of a part is not to be had."""
    if tensor.numel() <= count or not tensor.is_contiguous():
        return tensor
    return tensor.view(-1)[:count]


def norms(torch: Any, tensors: Sequence[Any]) -> list[Any]:
    """One norm a tensor, in one call where they share a device and a type."""
    if len({(t.device, t.dtype) for t in tensors}) == 1:
        if str(tensors[0].dtype) not in NARROW_TYPES:
            return list(torch._foreach_norm(tensors))  # noqa: SLF001 - what torch's own clipping calls
        try:
            return list(torch._foreach_norm(tensors, 2, dtype=torch.float32))  # noqa: SLF001 - as above
        except TypeError:  # a torch whose call does not take a type
            pass
    device = tensors[0].device
    return [torch.linalg.vector_norm(t, dtype=_wide(torch, t)).float().to(device) for t in tensors]


def _wide(torch: Any, tensor: Any) -> Any:
    return torch.float32 if str(tensor.dtype) in NARROW_TYPES else tensor.dtype


def checksum(torch: Any, tensors: Sequence[Any]) -> float:
    """A number that is finite if every element is; in two calls, so for few elements only."""
    flat = [t.detach().view(-1) for t in tensors]
    if len({t.dtype for t in flat}) == 1 and str(flat[0].dtype) not in NARROW_TYPES:
        return float(torch.cat(flat).sum())
    return float(torch.stack(norms(torch, flat)).sum())
