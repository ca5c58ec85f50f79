"""Where a module stands in the picture of a checkpoint: its stack, layer and row.

The terminal (`report/grid.py`) and the HTML report (`_view/release/precision.py`) place and order by this alone, so that
both show the same picture.
"""

from __future__ import annotations

import re
from functools import lru_cache

from assay.core.checkpoint import Module, ModuleKind

MIXED, WRONG = "+", "!"
"""Signs of a cell with several precisions, and of one whose tensors are not in order."""
_ORDER = (
    "qkv", "q_proj", "q_a", "q_b", "k_proj", "v_proj", "kv_a", "kv_b", "query", "key", "value", "o_proj", "out_proj",
    "dense", "gate_up", "gate_proj", "up_proj", "fc1", "w1", "w3", "down_proj", "fc2", "w2",
)  # fmt: skip
"""Words in the names of linears, in the order of the forward pass."""
_KINDS = (ModuleKind.LINEAR, ModuleKind.HEAD, ModuleKind.EMBEDDING, ModuleKind.OTHER, ModuleKind.NORM)
_NUMBER = re.compile(r"(?:^|\.)(\d{1,6})(?:\.|$)", re.ASCII)


def place(name: str) -> tuple[str, int | None, str]:
    """`model.layers.3.mlp.experts.7.up_proj` → stack, layer, kind of module (later numbers are any)."""
    found = _NUMBER.search(name)
    if found is None:
        return "", None, name
    return name[: found.start()], int(found[1]), _kind(name[found.end() :])


@lru_cache(maxsize=8192)
def _kind(rest: str) -> str:
    parts = ("*" if p.isascii() and p.isdecimal() and len(p) <= 6 else p for p in rest.split("."))
    return ".".join(parts) or "weight"


def rank(kind: str, module: Module) -> tuple[int, int, int, str]:
    """Linears first and in the order of the forward pass, norms last.

    Args:
        kind: what `place` calls the row.
        module: any module of the row.
    """
    word = next((i for i, word in enumerate(_ORDER) if word in kind), len(_ORDER))
    attention = 0 if "attn" in kind or "attention" in kind else 1
    return _KINDS.index(module.kind), attention, word, kind
