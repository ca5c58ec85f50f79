"""Propose kind `race`: the next launch of a tuning study, and at its end the setting that may be recommended.

It keeps nothing of its own: the Decisions told so far and the plan decide, so a killed study goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.ports import Component
from assay.core.study import AdapterRef
from assay.core.trials import TrialRow
from assay.core.tuning import ANSWER, Cell, Launch, TuningPlan
from assay.tuning.answer import answer
from assay.tuning.readings import LAUNCH, LIMIT, PHASE, answered, readings
from assay.tuning.record import record
from assay.tuning.search import Search

AS_IT_IS = AdapterRef(kind="identity")
"""A launch takes its model as it lies there."""


class Options(Noun):
    """Options of `propose: {kind: race}`. The flow fills them in."""

    plan: TuningPlan
    """The whole search."""
    inputs: Mapping[str, Any] = {}
    """What was asked for, in the words of the recommendation."""


class Adapter:
    """Proposes launches in the order of the search, then the recommendation."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Always there."""
        return Component(verb="propose", kind="race", state="ready")

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The next launch; the recommendation when the search is over; None when that was judged."""
        rows = _rows(history)
        if answered(rows):
            return None
        search = self._search(history, rows)
        launch = search.next_launch()
        if launch is None:
            return self._recommended(search, rows, history)
        cell = self.options.plan.cell(launch.cell)
        assert cell is not None
        return Candidate(
            name=_name(launch),
            parent=self._parent(cell),
            build=AS_IT_IS,
            serve=cell.elsewhere.get(str(launch.context), cell.serve),
            intent={PHASE: f"load-{launch.context}", LAUNCH: launch.to_json(), **self._limit(search)},
        )

    def _limit(self, search: Search) -> dict[str, float]:
        """The time that is left for the launch: what it measures beyond is cut off."""
        limit = self.options.plan.budget.max_duration_s
        return {} if limit is None else {LIMIT: round(max(0.0, limit - search.spent_s), 3)}

    def _search(self, history: Sequence[Decision], rows: Sequence[TrialRow]) -> Search:
        session = max((int(d.facts.get("session", 0)) for d in history), default=0)
        plan = self.options.plan
        spent = max((row.spent_s for row in rows), default=0.0)
        return Search(plan, readings(rows, plan), session, spent)

    def _recommended(
        self, search: Search, rows: Sequence[TrialRow], history: Sequence[Decision]
    ) -> Candidate:
        """The setting that was chosen, as a document that is judged before anybody may apply it."""
        plan = self.options.plan
        found = answer(search)
        cell = plan.cell(found.recommended) if found.recommended else None
        document = record(
            search,
            found,
            rows,
            study=history[-1].study if history else "",
            inputs=self.options.inputs,
        )
        shown = cell or plan.models[0].default
        named = {found.recommended, found.best_estimate, found.sequential_band} - {None}
        chosen = sorted((c for name in named if (c := plan.cell(str(name)))), key=lambda c: c.id)
        serves = {c.id: c.serve.to_json() for c in chosen}
        return Candidate(
            name=f"recommendation {cell.id}" if cell else "no recommendation",
            parent=self._parent(shown),
            build=AdapterRef(kind="recommendation", options={"record": document.to_json(), "serves": serves}),
            serve=shown.serve,
            intent={PHASE: ANSWER},
        )

    def _parent(self, cell: Cell) -> str:
        model = self.options.plan.model(cell.model)
        assert model is not None
        return model.artifact


def _name(launch: Launch) -> str:
    """For people, and unique: the same setting is launched many times."""
    again = f" again {launch.attempt - 1}" if launch.attempt > 1 else ""
    place = f" {launch.block}.{launch.position + 1}" if launch.block else ""
    return f"{launch.cell} {launch.stage.value}{place}{again}"


def _rows(history: Sequence[Decision]) -> list[TrialRow]:
    found = []
    for decision in history:
        try:
            found.append(TrialRow.from_json(decision.facts["row"]))
        except (KeyError, ValidationError):
            continue
    return found
