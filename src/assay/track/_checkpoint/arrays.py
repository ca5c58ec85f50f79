"""Tensors and arrays as plain bytes, and back. Nothing here is pickled; torch and numpy are never imported for a save.

A *specification* is what is needed to rebuild a value from its bytes: `{"$": "tensor", "dtype": "float32",
"shape": [2, 3]}`, with `order` where the memory is dense but its axes lie in another order (channels last).
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any

from assay.track._checkpoint.errors import CheckpointDamaged, StateError

_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def loaded(name: str) -> Any:
    """A package that the script itself imported, else None: a save never imports one."""
    return sys.modules.get(name)


def is_tensor(value: Any) -> bool:
    """Whether this is a torch tensor."""
    torch = loaded("torch")
    return torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether this is a numpy array."""
    numpy = loaded("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_numpy_scalar(value: Any) -> bool:
    """Whether this is a numpy scalar (numpy's float64 is a Python float as well: ask this first)."""
    numpy = loaded("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def tensor_identity(tensor: Any) -> tuple[Any, ...] | None:
    """Equal for two names of the same memory (tied weights); None for an empty tensor."""
    if tensor.layout is not loaded("torch").strided or tensor.numel() == 0 or tensor.data_ptr() == 0:
        return None
    place = (tensor.device, tensor.data_ptr(), tensor.dtype)
    return (*place, tuple(tensor.shape), tuple(tensor.stride()))


def freeze_tensor(tensor: Any, where: str, *, copy: bool) -> tuple[Any, dict[str, Any]]:
    """A contiguous tensor in host memory and its specification.

    Args:
        tensor: any dense torch tensor.
        where: the path of the value, for the message.
        copy: whether the result must not share memory with the tensor (a write in the background).

    Raises:
        StateError: for sparse, quantized, sharded or wrapped tensors.
    """
    torch = loaded("torch")
    tensor = tensor.detach()
    dense = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type in _DEVICES
    if not dense or hasattr(tensor, "_local_tensor") or (tensor.numel() and tensor.data_ptr() == 0):
        kind = f"{type(tensor).__name__} on {tensor.device}, {tensor.layout}"
        raise StateError(
            f"a tensor without bytes of its own ({kind}) cannot be saved",
            where=where,
            next="save its dense local values, or use torch.distributed.checkpoint for shards",
        )
    specification = _specification(tensor)
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.device.type == "cuda":
        return _to_pinned(torch, tensor), specification
    if tensor.device.type != "cpu":
        return tensor.cpu().contiguous(), specification
    if copy or not tensor.is_contiguous():
        return tensor.clone(memory_format=torch.contiguous_format), specification
    return tensor, specification


def _specification(tensor: Any) -> dict[str, Any]:
    specification: dict[str, Any] = {
        "$": "tensor",
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
    }
    if not tensor.is_contiguous() and tensor.numel():
        order = _order_of_axes(tensor)
        if tensor.permute(order).is_contiguous():
            specification["order"] = order
    return specification


def _order_of_axes(tensor: Any) -> list[int]:
    """Axes from the widest stride to the narrowest; those of length 1 first, because their stride means nothing."""
    axes = range(tensor.dim())
    return sorted(
        axes, key=lambda i: (tensor.shape[i] != 1, -tensor.stride(i) if tensor.shape[i] != 1 else i)
    )


def _to_pinned(torch: Any, tensor: Any) -> Any:
    """Copy to pinned host memory; `synchronize` must be called before the bytes are read."""
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    target.copy_(tensor, non_blocking=True)
    return target


def synchronize() -> None:
    """Wait for the copies that `freeze_tensor` started."""
    torch = loaded("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def freeze_array(array: Any, where: str, *, copy: bool) -> tuple[Any, dict[str, Any]]:
    """A contiguous array and its specification.

    Raises:
        StateError: if it holds Python objects or is a structured array.
    """
    numpy = loaded("numpy")
    if array.dtype.hasobject or array.dtype.names:
        raise StateError(
            f"an array of {array.dtype} has no plain bytes", where=where, next="give a list, or columns"
        )
    flat = numpy.array(array, order="C", copy=True) if copy else numpy.ascontiguousarray(array)
    return flat, {"$": "ndarray", "dtype": array.dtype.str, "shape": list(array.shape)}


def view(value: Any) -> memoryview:
    """The bytes of a frozen tensor, array or bytes object, without a copy."""
    if is_tensor(value):
        size = value.numel() * value.element_size()
        return _tensor_memory(value, size) if size else memoryview(b"")
    if is_array(value):
        return memoryview(value.reshape(-1).view("u1")) if value.nbytes else memoryview(b"")
    return memoryview(value).cast("B")


def _tensor_memory(tensor: Any, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B")


def size_of(specification: dict[str, Any]) -> int:
    """Bytes that a value of this specification takes.

    Raises:
        CheckpointDamaged: if the specification is none of ours.
    """
    shape = specification.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise CheckpointDamaged(f"no shape: {shape!r}")
    if specification.get("$") == "tensor":
        size = torch_dtype(specification).itemsize
    else:
        size = numpy_dtype(specification).itemsize
    for n in shape:
        size *= n
    return int(size)


def allocate(specification: dict[str, Any]) -> Any:
    """An uninitialised value of this specification, to read bytes into through `view`.

    Memory comes from torch or numpy themselves: kernels may depend on its alignment, and with it the last bit.
    """
    shape = specification["shape"]
    if specification["$"] == "ndarray":
        return importlib.import_module("numpy").empty(shape, dtype=numpy_dtype(specification))
    return importlib.import_module("torch").empty(shape, dtype=torch_dtype(specification))


def arrange(value: Any, specification: dict[str, Any]) -> Any:
    """Give a tensor that was read the order of axes that it had.

    Raises:
        CheckpointDamaged: if the order does not belong to the shape.
    """
    order = specification.get("order")
    if order is None:
        return value
    shape = specification["shape"]
    if not isinstance(order, list) or sorted(order) != list(range(len(shape))):
        raise CheckpointDamaged(f"no order of axes: {order!r}")
    back = [order.index(axis) for axis in range(len(shape))]
    return value.permute(order).contiguous().permute(back)


def torch_dtype(specification: dict[str, Any]) -> Any:
    torch = importlib.import_module("torch")
    found = getattr(torch, str(specification.get("dtype")), None)
    if not isinstance(found, torch.dtype):
        raise CheckpointDamaged(f"no dtype of torch: {specification.get('dtype')!r}")
    return found


def numpy_dtype(specification: dict[str, Any]) -> Any:
    numpy = importlib.import_module("numpy")
    try:
        found = numpy.dtype(str(specification.get("dtype")))
    except (TypeError, ValueError, SyntaxError) as error:
        raise CheckpointDamaged(f"no dtype of numpy: {specification.get('dtype')!r}") from error
    if found.hasobject:
        raise CheckpointDamaged("an array of objects")
    return found
