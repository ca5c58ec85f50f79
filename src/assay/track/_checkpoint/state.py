"""What a resume that is equal to the last bit needs: taken from the live objects, and given back to them.

`restore` is strict in both directions: a part that the checkpoint lacks, and a part that the script forgot to pass, are
errors with the part's name. Left out, each of them changes the result without a word (facts of the ablation:
tests/stories/test_resume_bitwise.py).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, TypedDict, Unpack

from assay.track._checkpoint.arrays import is_array, is_tensor, loaded
from assay.track._checkpoint.errors import CheckpointMismatch, StateError


class Parts(TypedDict, total=False):
    """What `capture` takes and `restore` gives back. `None` says: there is none, by design."""

    model: Any
    """Module, or a mapping of modules; anything with `state_dict` and `load_state_dict`."""
    optimizer: Any
    scheduler: Any
    scaler: Any
    """Of mixed precision."""
    ema: Any
    """Averaged model: a module, or a mapping of tensors."""
    loader_generator: Any
    """Private generator that shuffles or augments: of torch, numpy or `random.Random`; or a mapping of them."""
    loader: Any
    """A loader or sampler with `state_dict` (torchdata's StatefulDataLoader, `ShuffledIndices`)."""
    position: Any
    """Plain data: where in the data the next batch starts (epoch, batch, permutation)."""
    gradients: Any
    """Model whose pending `.grad` is kept; left out, that of `model`; False for none, by design."""
    rng: Any
    """True (default): the global generators of Python, numpy, torch, and each CUDA device; False for none, by design."""
    counters: Any
    """Plain data: samples seen, best metric, early-stop patience."""
    run: Any
    """The tracker, whose own state goes along as `monitor`."""


_LIVE = ("model", "optimizer", "scheduler", "scaler", "ema", "loader_generator", "loader")
_PLAIN = ("position", "counters")


def capture(extra: Mapping[str, Any] | None = None, /, **parts: Unpack[Parts]) -> dict[str, Any]:
    """The state of a training at a step boundary, for `run.checkpoint`.

    Args:
        extra: further components by name: plain data, tensors, arrays, attachments, objects with `state_dict()`.
        parts: see `Parts`.

    Raises:
        StateError: if a part has no state that can be taken.
    """
    given: dict[str, Any] = {**parts}
    state: dict[str, Any] = {}
    for name in _LIVE:
        if given.get(name) is not None:
            state[name] = _take(given[name], name)
    for name in _PLAIN:
        if given.get(name) is not None:
            state[name] = given[name]
    gradients = given.get("gradients", given.get("model"))
    if gradients not in (None, False):
        pending = pending_gradients(given.get("model") if gradients is True else gradients)
        if pending is not None:
            state["gradients"] = pending
    if given.get("rng", True):
        state["rng"] = rng_state()
    run = given.get("run")
    if run is not None and callable(getattr(run, "state_dict", None)):
        state["monitor"] = run.state_dict()
    names = {"run": "monitor"}
    absent = sorted(names.get(name, name) for name, value in given.items() if value is None or value is False)
    state.update(extra or {})
    state["absent"] = absent
    return state


def restore(
    state: Mapping[str, Any], /, *, ignore: Collection[str] = (), **parts: Unpack[Parts]
) -> dict[str, Any]:
    """Give a state back to fresh objects of the same shape; returns the components that are plain data.

    The state is used up: optimizers keep its tensors instead of copies.

    Args:
        state: what `run.resume()` or `load` returned.
        ignore: components that are left alone on purpose.
        parts: the objects, as for `capture`; plain parts (`position`, `counters`) need not be given.

    Raises:
        CheckpointMismatch: if a part is missing on either side or does not fit.
    """
    given: dict[str, Any] = {**parts}
    for name in _LIVE:
        target, there = given.get(name), name in state
        if name in ignore:
            continue
        if target is None and there:
            raise CheckpointMismatch(
                f"the checkpoint holds {name!r} and restore() was not given it",
                where=name,
                next=f"pass {name}=..., or leave it on purpose: ignore={[name]!r}",
            )
        if target is not None and not there:
            raise CheckpointMismatch(
                f"the checkpoint has no {name!r}",
                where=name,
                next=f"resume from one that has it, or start it afresh on purpose: ignore={[name]!r}",
            )
        if target is not None:
            _give(target, state[name], name)
    _give_gradients(given, state, ignore)
    if given.get("rng", True) and "rng" not in ignore:
        if "rng" not in state:
            raise CheckpointMismatch(
                "the checkpoint has no 'rng'", where="rng", next="pass rng=False on purpose"
            )
        set_rng_state(state["rng"])
    run = given.get("run")
    if run is not None and "monitor" in state and "monitor" not in ignore:
        run.load_state_dict(state["monitor"])
    taken = {*_LIVE, "gradients", "rng", "monitor", "absent"}
    return {name: value for name, value in state.items() if name not in taken}


def _give_gradients(given: Mapping[str, Any], state: Mapping[str, Any], ignore: Collection[str]) -> None:
    target = given.get("gradients", given.get("model"))
    if target is True:
        target = given.get("model")
    if target is None or target is False or "gradients" in ignore:
        if "gradients" in state and "gradients" not in ignore:
            raise CheckpointMismatch(
                "the checkpoint holds pending gradients", where="gradients", next="pass the model"
            )
        return
    has_parameters = all(hasattr(module, "named_parameters") for module in _modules(target).values())
    if "gradients" not in state and "gradients" not in state.get("absent", ()) and has_parameters:
        raise CheckpointMismatch(
            "the checkpoint has no 'gradients'",
            where="gradients",
            next="resume from one that has them, or start without on purpose: ignore=['gradients']",
        )
    set_gradients(target, state.get("gradients", {}))


def _take(part: Any, name: str) -> Any:
    """The state of one object."""
    if callable(getattr(part, "state_dict", None)):
        return part.state_dict()
    generator = _generator_state(part)
    if generator is not None:
        return generator
    if is_tensor(part) or is_array(part):
        return part
    if isinstance(part, Mapping):
        return {key: _take(value, f"{name}.{key}") for key, value in part.items()}
    if part is None or isinstance(part, bool | int | float | str):
        return part
    raise StateError(
        f"an object of type {type(part).__qualname__} has no state_dict()",
        where=name,
        next="give an object with state_dict(), a generator, or a mapping of them",
    )


def _give(part: Any, value: Any, name: str) -> None:
    """Set the state of one object.

    Raises:
        CheckpointMismatch: if it does not fit.
    """
    try:
        if callable(getattr(part, "load_state_dict", None)):
            part.load_state_dict(value)
        elif _set_generator(part, value):
            pass
        elif is_tensor(part):
            _copy_tensor(part, value)
        elif is_array(part):
            part[...] = value
        elif isinstance(part, MutableMapping):
            _give_mapping(part, value, name)
        else:
            part.load_state_dict(value)
    except CheckpointMismatch:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointMismatch(f"does not fit: {error}", where=name) from error


def _copy_tensor(part: Any, value: Any) -> None:
    if tuple(part.shape) != tuple(value.shape):
        raise ValueError(f"shape {tuple(value.shape)} for {tuple(part.shape)}")
    part.detach().copy_(value)


def _give_mapping(part: MutableMapping[Any, Any], value: Mapping[Any, Any], name: str) -> None:
    if set(part) != set(value):
        odd = sorted(map(str, set(part) ^ set(value)))[:5]
        raise CheckpointMismatch(f"other keys: {', '.join(odd)}", where=name)
    for key, old in part.items():
        live = is_tensor(old) or is_array(old) or isinstance(old, MutableMapping)
        if live or callable(getattr(old, "load_state_dict", None)) or _generator_state(old) is not None:
            _give(old, value[key], f"{name}.{key}")
        else:
            part[key] = value[key]


def _generator_state(part: Any) -> dict[str, Any] | None:
    """State of a random generator as plain data; None if the object is none."""
    if isinstance(part, random.Random):
        return {"kind": "python", "state": part.getstate()}
    torch, numpy = loaded("torch"), loaded("numpy")
    if torch is not None and isinstance(part, torch.Generator):
        return {"kind": "torch", "state": part.get_state()}
    if numpy is not None and isinstance(part, numpy.random.Generator):
        return {"kind": "numpy", "state": _listed(part.bit_generator.state)}
    if numpy is not None and isinstance(part, numpy.random.RandomState):
        return {"kind": "numpy", "state": _listed(part.get_state(legacy=False))}
    return None


def _set_generator(part: Any, value: Any) -> bool:
    """Set a random generator's state; False if the object is none."""
    numpy = loaded("numpy")
    if isinstance(part, random.Random):
        part.setstate(value["state"])
    elif _generator_state(part) is None:
        return False
    elif value["kind"] == "torch":
        part.set_state(value["state"].cpu())
    elif isinstance(part, numpy.random.Generator):
        part.bit_generator.state = _unlisted(value["state"])
    else:
        part.set_state(_unlisted(value["state"]))
    return True


def _listed(value: Any) -> Any:
    """A generator's state of numpy with its arrays as `{"uint32": [..]}`: plain types read everywhere."""
    if is_array(value):
        return {str(value.dtype): value.tolist()}
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") else value


def _unlisted(value: Any) -> Any:
    numpy = loaded("numpy")
    if isinstance(value, Mapping):
        if len(value) == 1 and isinstance(next(iter(value.values())), list):
            dtype, items = next(iter(value.items()))
            return numpy.array(items, dtype=dtype)
        return {key: _unlisted(item) for key, item in value.items()}
    return value


def rng_state() -> dict[str, Any]:
    """The global generators, as far as the script loaded them; taking it changes none of them."""
    state: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = loaded("numpy"), loaded("torch")
    if numpy is not None and hasattr(numpy, "random"):
        state["numpy"] = _listed(numpy.random.get_state(legacy=False))
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = [torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())]
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Set the global generators.

    Raises:
        CheckpointMismatch: if the state needs a package or a device that is not there.
    """
    numpy, torch = loaded("numpy"), loaded("torch")
    for name, package in (("numpy", numpy), ("torch", torch)):
        if name in state and package is None:
            raise CheckpointMismatch(f"holds the generator of {name}, which is not imported", where="rng")
    cuda = state.get("cuda", [])
    if cuda and (not torch.cuda.is_available() or torch.cuda.device_count() != len(cuda)):
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise CheckpointMismatch(
            f"holds the generators of {len(cuda)} CUDA devices, {here} are here",
            where="rng.cuda",
            next="drop state['rng']['cuda'] to go on with other random numbers there",
        )
    try:
        random.setstate(state["python"])
        if "numpy" in state:
            numpy.random.set_state(_unlisted(state["numpy"]))
        if "torch" in state:
            torch.set_rng_state(state["torch"].cpu())
        for index, one in enumerate(cuda):
            torch.cuda.set_rng_state(one.cpu(), index)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointMismatch(f"does not fit: {error}", where="rng") from error


def _modules(model: Any) -> dict[str, Any]:
    """Modules by prefix."""
    if isinstance(model, Mapping):
        return {f"{key}.": value for key, value in model.items()}
    return {"": model}


def pending_gradients(model: Any) -> dict[str, Any] | None:
    """Gradients by parameter name; empty if none is pending, None if the object has no parameters."""
    modules = _modules(model)
    if not all(hasattr(module, "named_parameters") for module in modules.values()):
        return None
    found: dict[str, Any] = {}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                found[prefix + name] = parameter.grad
    return found


def set_gradients(model: Any, gradients: Mapping[str, Any]) -> None:
    """Set the gradients of all parameters; those without one get None.

    Raises:
        CheckpointMismatch: if a gradient has no parameter, or not its shape.
    """
    rest = dict(gradients)
    for prefix, module in _modules(model).items():
        if not hasattr(module, "named_parameters"):
            continue
        for name, parameter in module.named_parameters():
            gradient = rest.pop(prefix + name, None)
            if gradient is not None and tuple(gradient.shape) != tuple(parameter.shape):
                raise CheckpointMismatch("another shape", where=f"gradients.{prefix}{name}")
            parameter.grad = (
                None if gradient is None else gradient.to(parameter.device, parameter.dtype).clone()
            )
    if rest:
        raise CheckpointMismatch(f"no parameter {min(rest)!r}", where="gradients")


class ShuffledIndices:
    """Indices in a new random order each epoch, with a position that is saved: a sampler for torch's loaders too.

    Torch's own shuffling cannot be resumed inside an epoch. With loader workers the position runs ahead of what was
    trained on by what they fetched in advance: use torchdata's StatefulDataLoader there.

    Args:
        length: of the data set.
        seed: of the order.
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length = length
        self.epoch = 0
        self.index = 0
        self._random = random.Random(seed)  # noqa: S311 - an order, not a secret
        self._order = self._shuffled()

    def _shuffled(self) -> list[int]:
        order = list(range(self.length))
        self._random.shuffle(order)
        return order

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> ShuffledIndices:
        return self

    def __next__(self) -> int:
        if self.index >= self.length:
            self.epoch, self.index, self._order = self.epoch + 1, 0, self._shuffled()
            raise StopIteration
        self.index += 1
        return self._order[self.index - 1]

    def state_dict(self) -> dict[str, Any]:
        """Order, position and generator."""
        return {
            "length": self.length, "epoch": self.epoch, "index": self.index,
            "order": list(self._order), "random": self._random.getstate(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position.

        Raises:
            ValueError: if the data set has another length.
        """
        if state["length"] != self.length:
            raise ValueError(f"saved over {state['length']} items, here are {self.length}")
        self.epoch, self.index, self._order = state["epoch"], state["index"], list(state["order"])
        self._random.setstate(state["random"])
