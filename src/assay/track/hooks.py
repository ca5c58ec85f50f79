"""Forward hooks that a copied or saved model does not take along."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


class StayingHook:
    """A hook on a module of the user's.

    `copy.deepcopy(model)` (a moving average of the weights) and `torch.save(model)` copy the hooks too. In their place
    the copy gets a function of the standard library that takes anything and does nothing, so that it needs no Assay.

    Args:
        call: what the hook does; its result is passed on.
    """

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        """As the host calls it."""
        self._call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")
