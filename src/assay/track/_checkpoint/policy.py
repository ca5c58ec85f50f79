"""Options of a checkpointer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

from assay.track._checkpoint.cadence import OVERHEAD_CAP_FRAC
from assay.track._checkpoint.disk import Disk
from assay.track.signals import Preemption

Level = Literal["digest", "restore"]
Direction = Literal["min", "max"]
LEGACY_EVERY_EPOCHS = 10


class RunLike(Protocol):
    """What a checkpointer needs of a run."""

    @property
    def id(self) -> str:
        """Of the experiment."""

    @property
    def attempt(self) -> int:
        """1, 2, ..."""

    def event(self, kind: str, **fields: Any) -> Any:
        """Append to the record of the experiment."""


class Options(TypedDict, total=False):
    """The options by name; see `Policy` for what they mean and for their defaults."""

    keep: int
    every_steps: int | None
    every_epochs: int | None
    every_s: float | None
    mtbf_s: float | None
    overhead_cap_frac: float
    best: tuple[str, Direction] | None
    asynchronous: bool
    verify: Level
    verify_every: int
    legacy_names: bool
    replay: Callable[..., Any] | None
    replay_steps: int
    replay_tolerance: float
    verify_timeout_s: float
    digests: Mapping[str, str | None]
    preemption: Preemption | None
    disk: Disk


@dataclass(frozen=True)
class Policy:
    """How checkpoints are made, proven and kept."""

    keep: int = 3
    """The newest that rotation leaves alone, besides best, last, pinned ones and two verified ones."""
    every_steps: int | None = None
    """Due whenever a multiple of so many steps was passed."""
    every_epochs: int | None = None
    """Due at the end of every n-th epoch (epochs count from 0)."""
    every_s: float | None = None
    """Due after so many seconds."""
    mtbf_s: float | None = None
    """Due by Young's interval for this mean time between failures, in seconds; 6 h when no cadence is given at all."""
    overhead_cap_frac: float = OVERHEAD_CAP_FRAC
    """Share of the time that saves by Young's interval may take."""
    best: tuple[str, Direction] | None = None
    """Metric and direction that decide what is best; only finite values count."""
    asynchronous: bool = False
    """Whether the loop goes on while the bytes are written: the state is cloned first; one save at a time."""
    verify: Level = "digest"
    """`restore`: each is restored in a process of its own; `digest`: read back, and restored when it is best, final, or
    the n-th."""
    verify_every: int = 5
    """With `digest`: the n of the n-th; 0 restores only best and final."""
    legacy_names: bool = False
    """Also writes `last.pt` and `best.pt` (loadable with `weights_only=True`), every 10 epochs unless told otherwise."""
    replay: Callable[..., Any] | None = None
    """`replay(state, steps) -> losses`, at the top of a module: restores fresh objects and takes so many steps. The
    losses (a number or several a step) must be those that `observe` was told by the live run."""
    replay_steps: int = 3
    """Losses that a restore replays: two updates and the loss that shows the second, which is the first to show a lost
    scheduler. With gradients accumulated over n batches that are counted as steps: 2 n + 1."""
    replay_tolerance: float = 0.0
    """Relative difference of losses that counts as equal; 0 asks for equal bits."""
    verify_timeout_s: float = 600.0
    """After which a restore is given up (it then counts for nothing)."""
    digests: Mapping[str, str | None] = field(default_factory=dict)
    """`config`, `data`, `code` → digest; a resume is refused where they differ from the checkpoint's."""
    preemption: Preemption | None = None
    """The flag that SIGTERM and SIGUSR1 set."""
    disk: Disk = field(default_factory=Disk)
    """The file system."""

    def __post_init__(self) -> None:
        wrong = self._wrong()
        if wrong:
            raise ValueError(f"Checkpointer: {wrong}")

    def _wrong(self) -> str:
        for name in (
            "every_steps",
            "every_epochs",
            "every_s",
            "mtbf_s",
            "verify_timeout_s",
            "overhead_cap_frac",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                return f"{name} is {value!r} (allowed: a number above 0, or None)"
        if self.keep < 1:
            return f"keep is {self.keep} (allowed: 1 or more)"
        if self.verify not in ("digest", "restore"):
            return f"verify is {self.verify!r} (allowed: digest, restore)"
        if self.best is not None and (len(self.best) != 2 or self.best[1] not in ("min", "max")):
            return f"best is {self.best!r} (allowed: (metric, 'min') or (metric, 'max'))"
        if set(self.digests) - {"config", "data", "code"}:
            return f"digests of {sorted(self.digests)} (allowed: config, data, code)"
        return ""

    @property
    def epochs(self) -> int | None:
        """The cadence by epochs, with the old one's default."""
        nothing = self.every_steps is None and self.every_s is None and self.mtbf_s is None
        if self.every_epochs is None and self.legacy_names and nothing:
            return LEGACY_EVERY_EPOCHS
        return self.every_epochs
