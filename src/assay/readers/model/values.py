"""Reading numbers from a config that anybody may have written: what is no plain number is a named gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST = 2**40
"""No dimension of a model is larger; what is would only overflow further on."""


@dataclass
class Values:
    """A config and what was missing in it."""

    data: Mapping[str, Any]
    unknown: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether the key is there and not null."""
        return self.data.get(name) is not None

    def number(self, *names: str) -> int | None:
        """The first of the keys that is there, as a whole number; None where none is or it is no number."""
        for name in names:
            if self.has(name):
                return self._whole(name)
        return None

    def need(self, *names: str) -> int:
        """The same, of at least 1; what is missing is named in `unknown`, and 0 stands in its place."""
        found = self.number(*names)
        if found is None or found < 1:
            self.gap(names[0] if not any(self.has(n) for n in names) else f"{names[0]} is no whole number")
            return 0
        return found

    def text(self, name: str) -> str:
        """A text, or empty."""
        value = self.data.get(name)
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """True only where the config says true."""
        return self.data.get(name) is True

    def words(self, *names: str) -> tuple[str, ...] | None:
        """The first of the keys that holds a list of texts."""
        for name in names:
            value = self.data.get(name)
            if isinstance(value, Sequence) and not isinstance(value, str) and value:
                return tuple(str(v)[:80] for v in value[:100_000])
        return None

    def gap(self, what: str) -> None:
        """Name something that is not known; once."""
        if what not in self.unknown:
            self.unknown.append(what)

    def _whole(self, name: str) -> int | None:
        value = self.data[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and not value.is_integer():
            return None
        number = int(value)
        return number if 0 <= number <= MOST else None
