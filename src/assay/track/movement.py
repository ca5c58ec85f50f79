"""How far the weights move in one step, measured on the head of each tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.track.tensors import head, local, norms

SAMPLED_ELEMENTS = 1 << 14
"""Elements copied; larger models are measured on the head of each tensor."""
ROW_ELEMENTS = 512
"""Head of a tensor where many of equal length are copied in one call."""
LEAST_ROWS = 2


class Movement:
    """Copies weights before a step and compares them after it.

    As long as they move, the matrices alone are compared, in a handful of calls. Once those stand still every tensor is:
    a bias may move while they rest.

    Args:
        torch: the module.
        trained: parameters that require a gradient.
    """

    def __init__(self, torch: Any, trained: Sequence[Any]) -> None:
        self.exact = False
        """Whether every tensor is compared."""
        self._torch = torch
        self._trained = list(trained)
        self._rows: list[tuple[Any, Any, int]] | None = None
        self._flat: Any = None
        self._pairs: list[tuple[Any, Any]] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a copy to compare with."""
        return self._flat is not None or self._pairs is not None

    def begin(self) -> None:
        """Copy."""
        self.forget()
        if not self._trained:
            return
        rows = None if self.exact else self._heads()
        if rows is not None:
            self._flat = self._torch.cat([view for _, view, _ in rows])
            return
        each = max(16, SAMPLED_ELEMENTS // len(self._trained))
        heads = [head(local(p), each) for p in self._trained]
        self._pairs = [(h, h.clone()) for h in heads]

    def forget(self) -> None:
        """Drop the copy."""
        self._flat = self._pairs = None

    def unchanged(self) -> bool:
        """Whether every copied element is the same to the last bit; waits for an accelerator."""
        if self._flat is not None and self._rows is not None:
            return bool(self._torch.equal(self._torch.cat([view for _, view, _ in self._rows]), self._flat))
        return all(self._torch.equal(a, b) for a, b in self._pairs or ())

    def ratio(self) -> Any:
        """Largest norm of a change over the norm before it, of all compared tensors: one element on their device."""
        torch = self._torch
        with torch.no_grad():
            if self._flat is not None and self._rows is not None:
                before = self._flat.view(len(self._rows), -1)
                moved = torch.cat([view for _, view, _ in self._rows]).view_as(before).sub_(before)
                size = torch.linalg.vector_norm(before, dim=1).add_(1e-12)
                found = (torch.linalg.vector_norm(moved, dim=1) / size).max()
            else:
                after = [a for a, _ in self._pairs or ()]
                copies = [b for _, b in self._pairs or ()]
                steps = torch.stack(norms(torch, torch._foreach_sub(after, copies)))  # noqa: SLF001 - one kernel
                found = (steps / torch.stack(norms(torch, copies)).add_(1e-12)).max()
        self.forget()
        return found.float().reshape(1)

    def _heads(self) -> list[tuple[Any, Any, int]] | None:
        """Views of the heads of all tensors that are long enough; None if too few of them are alike."""
        rows = self._rows
        if rows is None or any(p.data_ptr() != at for p, _, at in rows):
            self._rows = rows = self._alike()
        return rows if len(rows) >= LEAST_ROWS else None

    def _alike(self) -> list[tuple[Any, Any, int]]:
        torch = self._torch
        kinds = (torch.nn.Parameter, torch.Tensor)
        each = min(ROW_ELEMENTS, max(16, SAMPLED_ELEMENTS // len(self._trained)))
        fitting = [p for p in self._trained if type(p) in kinds and p.numel() >= each and p.is_contiguous()]
        fitting = [p for p in fitting if (p.device, p.dtype) == (fitting[0].device, fitting[0].dtype)]
        if fitting and fitting[0].dtype not in (torch.float32, torch.float64):
            return []
        return [(p, p.detach().view(-1)[:each], p.data_ptr()) for p in fitting]
