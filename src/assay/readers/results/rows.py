"""Rows of samples, by column, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.results import OPTIONAL_COLUMNS, Samples, SampleState
from assay.readers.results.harness import EXACT_INTEGER, Damaged, parse_line, text

ID_CHARACTERS = 200
CLUSTER_KEYS = ("cluster", "category", "subject", "subcategory", "topic", "slice", "subset_for_metrics")
"""Fields under which harnesses say what a sample belongs to; the first that is there counts."""


class Columns:
    """Collects rows; equal words of a column are one object."""

    def __init__(self) -> None:
        self._id: list[str] = []
        self._repeat: list[int] = []
        self._prompt: list[str] = []
        self._score: list[float | None] = []
        self._state: list[SampleState] = []
        self._output: list[str] = []
        self._tokens: list[Any] = []
        self._finish: list[Any] = []
        self._cluster: list[Any] = []
        self._words: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._id)

    def add(
        self,
        id_: str,
        *,
        repeat: int = 0,
        prompt: str = "",
        score: float | None = None,
        state: SampleState = SampleState.SCORED,
        output: str = "",
        **more: Any,
    ) -> None:
        """One row.

        Args:
            id_: id of the item.
            repeat: which answer to it.
            prompt: digest of prompt and reference.
            score: on the metric's scale; dropped where the state carries none.
            state: what became of it; a row that counts as scored and has no score is missing.
            output: digest of the answer.
            **more: `tokens`, `finish_reason`, `cluster` where the harness says so.
        """
        if state is not SampleState.SCORED and state is not SampleState.MODEL_FAILURE:
            score = None
        elif score is None and state is SampleState.SCORED:
            state = SampleState.MISSING
        once = self._words.setdefault
        self._id.append(id_)
        self._repeat.append(repeat)
        self._prompt.append(prompt)
        self._score.append(once(score, score))
        self._state.append(state)
        self._output.append(output)
        if more:
            self._add_optional(**more)

    def add_plain(self, id_: str, prompt: str, score: float | None, state: SampleState, output: str) -> None:
        """A row without repeats and optional columns, by place: half the time of `add`."""
        if score is None:
            state = SampleState.MISSING
        self._id.append(id_)
        self._repeat.append(0)
        self._prompt.append(prompt)
        self._score.append(self._words.setdefault(score, score))
        self._state.append(state)
        self._output.append(output)

    def _add_optional(self, tokens: int | None = None, finish_reason: str = "", cluster: str = "") -> None:
        once = self._words.setdefault
        at = len(self._id) - 1
        for column, value, empty in (
            (self._tokens, tokens, None),
            (self._finish, finish_reason, ""),
            (self._cluster, cluster, ""),
        ):
            if value in (None, "") and not column:
                continue
            column.extend([empty] * (at - len(column)))
            column.append(once(value, value))

    def samples(self) -> Samples:
        """The finished rows."""
        n = len(self._id)
        optional: dict[str, list[Any]] = {}
        for name, column, empty in zip(
            OPTIONAL_COLUMNS, (self._tokens, self._finish, self._cluster), (None, "", ""), strict=True
        ):
            values: list[Any] = list(column)
            if values:
                values.extend([empty] * (n - len(values)))
            optional[name] = values
        return Samples(
            id=tuple(self._id),
            repeat=tuple(self._repeat),
            prompt=tuple(self._prompt),
            score=tuple(self._score),
            state=tuple(self._state),
            output=tuple(self._output),
            **{name: tuple(values) for name, values in optional.items()},
        )


def identity(value: Any) -> str:
    """An id as text, cut to 200 characters."""
    if type(value) is int and -EXACT_INTEGER < value < EXACT_INTEGER:
        return str(value)
    return text(value, ID_CHARACTERS)


def cluster_of(*places: Any) -> str:
    """What a sample belongs to, by the first known field of the given objects."""
    for place in places:
        if isinstance(place, Mapping):
            for key in CLUSTER_KEYS:
                value = place.get(key)
                if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                    return identity(value)
    return ""


Row = Mapping[str, Any]


def parse_row(line: bytes | Damaged) -> Row | Damaged:
    """A line as a row; a line that holds no JSON object is damaged."""
    row = line if isinstance(line, Damaged) else parse_line(line)
    return row if isinstance(row, dict | Damaged) else Damaged(f"no object: {text(row, 100)}")
