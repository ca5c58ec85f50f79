"""What every noun has in common: it is frozen, closed, and has a content digest."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict

from assay.core.canon import digest


class PathMark:
    """Marks an option that names a file or folder: in a spec it is relative to the spec's own folder."""


SpecPath = Annotated[str, PathMark()]


class Noun(BaseModel):
    """A frozen record. Unknown fields are refused; equality is by value."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, aliases applied, `None` kept."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            pydantic.ValidationError: if the value is not such a record.
        """
        return cls.model_validate(value)

    @cached_property
    def content_digest(self) -> str:
        """`sha256:<hex>` of the canonical JSON of this record."""
        return digest(self.to_json())
