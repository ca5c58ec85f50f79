"""A search driven to its end on a machine of our making: what the tests of tuning share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assay.core.load import PointState, ServiceLevel, ServiceLevels
from assay.core.study import AdapterRef
from assay.core.tuning import (
    Budgeted,
    Cause,
    Cell,
    Launch,
    LevelCount,
    Model,
    PointReading,
    RacePolicy,
    Reading,
    ReadingState,
    TuningPlan,
)
from assay.core.vocabulary import FailureClass
from assay.tuning.search import Search

LEVEL = ServiceLevel(metric="ttft", q=0.95, limit_ms=1000.0)


def cell(model: str, name: str, *, default: bool = False, memory: tuple[float, ...] = ()) -> Cell:
    """A cell whose engine does not matter."""
    serve = AdapterRef(kind="llama_cpp", options={"extra_args": [name]})
    return Cell(
        id=f"{model} {name}", model=model, values={"k": name}, serve=serve, default=default, memory=memory
    )


def plan(models: Mapping[str, int] | None = None, **more: object) -> TuningPlan:
    """Models with so many cells each; the first cell is the default."""
    made = tuple(
        Model(
            name=name,
            artifact=f"sha256:{name}",
            cells=tuple(cell(name, f"c{k}", default=k == 0, memory=(512.0, k + 1.0, 2.0)) for k in range(n)),
        )
        for name, n in (models or {"m": 4}).items()
    )
    values: dict[str, object] = {
        "models": made,
        "target_context": 512,
        "levels": ServiceLevels(levels=(LEVEL,)),
        "race": RacePolicy(),
        "budget": Budgeted(max_duration_s=None),
    }
    return TuningPlan.model_validate({**values, **more})


def point(value: float | None, *, late: int = 0, n: int = 8, ttft_ms: float = 100.0) -> PointReading:
    """One load point; without a value the client was too slow."""
    return PointReading(
        name="4 in flight",
        state=PointState.VALID if value is not None else PointState.CLIENT_LIMITED,
        value=value,
        ttft_worst_ms=ttft_ms,
        levels=(LevelCount(level=LEVEL, late=late, n=n),),
        completed=n,
        reasons=() if late <= 0.05 * n and value is not None else (f"{late} of {n} late",),
    )


def reading(launch: Launch, number: int, answer: PointReading | Cause | str, session: int = 0) -> Reading:
    """What a launch showed: a point, a cause of death, or words for an end that nobody understands."""
    common = {
        "trial": f"t-{number}",
        "number": number,
        "launch": launch,
        "session": session,
        "spent_s": float(number),
    }
    if isinstance(answer, Cause):
        return Reading(
            **common,
            state=ReadingState.INFEASIBLE,
            cause=answer,
            failure_class=FailureClass.POINT_INFEASIBLE,
            detail=answer.value,
        )
    if isinstance(answer, str):
        return Reading(**common, state=ReadingState.FAILED, failure_class=FailureClass.UNKNOWN, detail=answer)
    late = not all(c.keeps for c in answer.levels)
    state = (
        ReadingState.INVALID
        if answer.value is None
        else ReadingState.INFEASIBLE
        if late
        else ReadingState.MEASURED
    )
    return Reading(**common, state=state, points=(answer,), detail="; ".join(answer.reasons) or "serves")


Answering = Callable[[Launch, int], PointReading | Cause | str]


@dataclass
class World:
    """A machine that answers launches, and the search on it."""

    plan: TuningPlan
    answers: Answering
    readings: list[Reading] = field(default_factory=list)

    def search(self, session: int = 0) -> Search:
        """Where it stands."""
        return Search(self.plan, tuple(self.readings), session, float(len(self.readings)))

    def step(self, session: int = 0) -> Launch | None:
        """One launch."""
        launch = self.search(session).next_launch()
        if launch is not None:
            number = len(self.readings) + 1
            self.readings.append(reading(launch, number, self.answers(launch, number), session))
        return launch

    def run(self, session: int = 0, most: int = 300) -> Search:
        """To the end."""
        for _ in range(most):
            if self.step(session) is None:
                return self.search(session)
        raise AssertionError("the search does not end")
