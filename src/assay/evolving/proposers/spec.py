"""The kinds of proposers and their options, as a spec names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from assay.core.base import Noun
from assay.evolving.sections import By

Kind: TypeAlias = Literal[
    "add-line",
    "delete-line",
    "replace-line",
    "move-line",
    "reorder",
    "number",
    "merge",
    "compress",
    "from-failure",
    "command",
]


class PoolLine(Noun):
    """A line, or a few lines, that may be put into the text."""

    text: str = Field(min_length=1)
    type: str = ""
    """A line replaces only lines of its own type; the pool's lines are how types are known."""
    under: str = ""
    """Only put into the section with this heading; empty = anywhere."""


class LineOptions(Noun):
    """Options of `add-line`, `delete-line`, `replace-line` and `move-line`."""

    only: str = ""
    """Regular expression of the lines that may be deleted, replaced or moved; empty = all that are not blank."""
    at: Literal["anywhere", "end"] = "anywhere"
    """Where `add-line` puts a line: `end` = behind the last line of its section."""


class ReorderOptions(Noun):
    """Options of `reorder`."""

    by: By = "lines"
    """What changes places with each other."""


class NumberOptions(Noun):
    """Options of `number`."""

    only: str = ""
    """Regular expression of the lines whose numbers may change; empty = all."""
    factors: tuple[float, ...] = (0.5, 0.8, 1.25, 2.0)
    """A number becomes itself times one of these; a whole number stays whole and changes by at least 1."""


class MergeOptions(Noun):
    """Options of `merge` and `compress`."""

    by: By | None = None
    """What a section is; null = the coarsest that gives at least two."""


class FailureOptions(Noun):
    """Options of `from-failure`: a rule is learned from what verifiers printed about train tasks.

    Either examples of what should match and what should not (`positive`, `negative`), which give the least general
    regular expression; or pairs of what there was and what there should be (`pair`), which give the tokens to change.
    """

    positive: str = ""
    """Regular expression over the feedback; its group `text` is an example that a rule should match. A group `label`
    divides the examples: only those of one label share a rule, which matches no example of another."""
    negative: str = ""
    """The same for what no rule may match."""
    pair: str = ""
    """Regular expression with groups `before` and `after`."""
    line: str = "{pattern}"
    """What is added to the text: `{pattern}`, `{label}`, `{before}` and `{after}` are put in."""
    under: str = ""
    """Heading of the section that it is added to; empty = the end of the text."""
    support: int = Field(default=2, ge=1)
    """Fewest examples behind a pattern: what a single one teaches is a copy of it."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.positive) == bool(self.pair):
            raise ValueError("needs either `positive` or `pair`")
        for name, groups in (("positive", {"text"}), ("negative", {"text"}), ("pair", {"before", "after"})):
            pattern = getattr(self, name)
            try:
                made = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: no regular expression: {error}") from error
            if pattern and not groups <= set(made.groupindex):
                raise ValueError(f"{name}: needs the groups {', '.join(sorted(groups))}")
        return self


class CommandOptions(Noun):
    """Options of `command`: a program, such as an agent or a script that asks a language model."""

    command: tuple[str, ...] = Field(min_length=1)
    """Without a shell; the request is its standard input. `{python}`, `{request}` and `{reply}` are put in."""
    output: Literal["json", "text"] = "json"
    """`json`: an object with `text` or `edits` (and `reason`, `cost`, `stop`) in `{reply}` or printed last; `text`: all
    that it prints is the candidate."""
    env: tuple[str, ...] = ()
    """Names of environment variables that it may see, beside the harmless ones. Values are never stored."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Then the whole process group is ended."""
    failures: int = Field(default=3, ge=1)
    """So many failures in a row are an error of the search."""
    price: float | None = Field(default=None, ge=0)
    """Assumed cost of a call that tells none. Unknown is not 0."""
    context: Mapping[str, Any] = Field(default_factory=dict)
    """Anything that it should know; stands in the request as it is."""


_OPTIONS: Mapping[str, type[Noun]] = {
    "add-line": LineOptions,
    "delete-line": LineOptions,
    "replace-line": LineOptions,
    "move-line": LineOptions,
    "reorder": ReorderOptions,
    "number": NumberOptions,
    "merge": MergeOptions,
    "compress": MergeOptions,
    "from-failure": FailureOptions,
    "command": CommandOptions,
}


class ProposerSpec(Noun):
    """One way to propose."""

    kind: Kind
    weight: float = Field(default=1.0, gt=0)
    """How often it is asked, against the others."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Of the kind."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        try:
            _OPTIONS[self.kind].model_validate(dict(self.options))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(p) for p in first["loc"])
            raise ValueError(f"options of {self.kind}: {where}: {first['msg']}") from error
        return self

    @property
    def typed(self) -> Noun:
        """The options as their own class."""
        return _OPTIONS[self.kind].model_validate(dict(self.options))
