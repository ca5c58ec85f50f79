"""When tracking is off: by the environment, in a forked worker, in a rank that is not the first."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from typing import Protocol

OFF_WORDS = frozenset({"off", "0", "false", "no", "disabled"})
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""Asked in this order; a launcher that sets the global rank is believed before one that sets the local rank."""
SIZES = {"SLURM_PROCID": "SLURM_NTASKS"}
"""A rank that counts only where there is more than one task."""


class _Forgets(Protocol):
    def forget(self) -> None:
        """Become a no-op without a lock, a thread or a file: this is a forked copy."""


_live: weakref.WeakSet[_Forgets] = weakref.WeakSet()


def why_off() -> str:
    """Why this process must not track; empty if it may."""
    if os.environ.get("ASSAY_TRACK", "").strip().lower() in OFF_WORDS:
        return "ASSAY_TRACK=off"
    if in_loader_worker():
        return "a worker of a data loader"
    found = rank()
    return f"rank {found}" if found else ""


def rank() -> int:
    """Rank of this process in its job; 0 where there is only one."""
    distributed = sys.modules.get("torch.distributed")
    with contextlib.suppress(Exception):  # a foreign library in an unknown state; then the environment tells
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank())
    for name in RANKS:
        value = os.environ.get(name, "").strip()
        if not value.isdigit() or (name in SIZES and os.environ.get(SIZES[name], "1").strip() in ("", "1")):
            continue
        return int(value)
    return 0


def in_loader_worker() -> bool:
    """Whether torch says that this process is a worker of one of its loaders."""
    data = sys.modules.get("torch.utils.data")
    try:
        return data is not None and data.get_worker_info() is not None
    except Exception:  # noqa: BLE001 - as above
        return False


def forget_in_children(run: _Forgets) -> None:
    """Turn a run into a no-op in every process that is forked from now on."""
    _live.add(run)


def _forked() -> None:
    for run in list(_live):
        run.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
