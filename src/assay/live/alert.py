"""A line of alerts.jsonl: one change of state of one alert."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field

from assay.core.base import Noun
from assay.live.classes import Severity

Value = float | str | None


class AlertChange(Noun):
    """One change of state. The last line of an id counts."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="constants", allow_inf_nan=False
    )

    schema_: Literal["alert/1"] = Field(default="alert/1", alias="schema")
    id: str
    """`a-0001`, counted per experiment."""
    time: str | None = None
    """ISO 8601 UTC of the row that changed it; None if the row had none (delivery fills it)."""
    attempt: int | None = None
    step: int | None = None
    epoch: int | None = None
    number: int = Field(alias="class")
    """Of the class, 1 to 27."""
    name: str
    severity: Severity
    state: Literal["open", "resolved"]
    observed: Value
    reference: Value
    rule: str
    threshold: Value
    first_seen_step: int | None
    """Step at which the fault began, which may lie before the step that proved it."""
    count: int = Field(ge=1)
    """Times it was found."""
    joined: tuple[str, ...] = ()
    """Names of the classes that are part of this incident."""
    action: str
    text: str
    key: str = ""
    """Tells alerts of one class apart."""
    stop: bool = False
    """The policy asks for a stop of the run."""

    @property
    def identity(self) -> tuple[str, str, int | None, int | None]:
        """What makes it the same alert after a restart of the watcher."""
        return (self.name, self.key, self.attempt, self.first_seen_step)


def value(raw: Any) -> Value:
    """An observed value as JSON takes it."""
    if isinstance(raw, bool) or raw is None:
        return None if raw is None else str(raw)
    if isinstance(raw, int | float):
        number = float(raw)
        return number if math.isfinite(number) else str(number)
    return str(raw)[:500].encode("utf-8", "replace").decode()
