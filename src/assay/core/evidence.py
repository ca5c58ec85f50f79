"""Evidence: what was measured, in which state, from which bytes. Never a bare float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from assay.core.base import Noun
from assay.core.vocabulary import Direction, Provenance, State


class Artifact(Noun):
    """A file or folder whose bytes are pinned by a digest."""

    path: str
    """Relative to the `.assay` folder where it lies inside it, else as the user named it."""
    digest: str
    size_bytes: int = Field(ge=0)


class Measurement(Noun):
    """One number with everything needed to judge it."""

    name: str
    state: State = State.MEASURED
    value: float | None = None
    """Present exactly when `state` is measured, and then finite."""
    unit: str = ""
    low: float | None = None
    """Smallest value that the quantity can take."""
    high: float | None = None
    """Largest value that the quantity can take."""
    direction: Direction | None = None
    n: int | None = Field(default=None, ge=0)
    """Number of samples behind the value."""
    detail: str = ""

    @model_validator(mode="after")
    def _value_only_if_measured(self) -> Self:
        if (self.value is not None) != (self.state is State.MEASURED):
            raise ValueError(
                f"measurement {self.name!r}: a value is present exactly when the state is 'measured'"
            )
        return self

    @classmethod
    def of(cls, name: str, value: Any, **more: Any) -> Measurement:
        """A measurement from any Python value: what is no finite number gets its own state, never 0.0."""
        if value is None:
            return cls(name=name, state=State.MISSING, **more)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return cls(name=name, state=State.ERRORED, **{"detail": f"not a number: {value!r}"[:200], **more})
        if not math.isfinite(value):
            return cls(name=name, state=State.NONFINITE, **more)
        return cls(name=name, value=float(value), **more)


class Evidence(Noun):
    """The root of all kinds of evidence. `kind` names the subclass that reads it back."""

    kind: str
    subject: str
    """What was measured: `source`, `candidate`, or a path."""
    provenance: Provenance = Provenance.MEASURED
    measurements: tuple[Measurement, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    """The files the evidence was read from."""
    facts: Mapping[str, Any] = Field(default_factory=dict)
    """Plain JSON context: versions, protocol, machine."""

    def measurement(self, name: str) -> Measurement | None:
        """The measurement of that name, or None."""
        return next((m for m in self.measurements if m.name == name), None)
