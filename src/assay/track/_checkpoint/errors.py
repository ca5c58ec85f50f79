"""What can be wrong with a checkpoint. The tracker shares no code with the rest, so it has a small tree of its own.

CheckpointError
├── StateError            the state holds something that cannot be saved as plain data
├── CheckpointDamaged     bytes on disk are not those that were written
└── CheckpointMismatch    a sound checkpoint of another configuration, data, code or set of parts
"""

from __future__ import annotations


class CheckpointError(Exception):
    """Root of the errors of checkpoints.

    Args:
        what: one sentence that says what is wrong.
        where: the checkpoint, file or part.
        next: the step that helps.
    """

    def __init__(self, what: str, *, where: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next = next

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. Next: {self.next}" if self.next else text


class StateError(CheckpointError):
    """The state holds something that is not plain data, a tensor or an array."""


class CheckpointDamaged(CheckpointError):
    """The bytes are not those that were written, or cannot be a checkpoint of ours."""


class CheckpointMismatch(CheckpointError):
    """The checkpoint is sound, but not of this configuration, data, code or set of parts."""
