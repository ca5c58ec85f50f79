"""The search: which launch is next. Everything follows from the readings, so a killed study goes on where it was.

Stage 1 takes the models in the operator's order and keeps the first that serves. Stage 2 races its settings in
interleaved blocks. After a pause the default is measured once more before anything else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from assay.core.tuning import (
    Cell,
    Launch,
    LevelCount,
    Model,
    PointReading,
    Pruned,
    Reading,
    ReadingState,
    Stage,
    TuningPlan,
)
from assay.stats.selection import CONFIRM, SCREEN, Block, Look, RaceRule, next_block, standings

ATTEMPTS = 2
"""How often a launch is made whose reading is not valid."""
FIT_ATTEMPTS = 4
"""The same while the model is looked for: a wanted model must not be passed over because our client was late."""
IMPLIES = 3
"""A failure that rules out so many settings is seen twice before it does."""


@dataclass(frozen=True)
class Search:
    """Where a search stands.

    Args:
        plan: fixed before the first launch.
        readings: of all launches so far, in order.
        session: how often the study has been resumed.
        spent_s: seconds that it has run.
    """

    plan: TuningPlan
    readings: Sequence[Reading] = ()
    session: int = 0
    spent_s: float = 0.0

    # -- stage 1: the model -------------------------------------------------------------------------------

    @cached_property
    def known(self) -> dict[str, str]:
        """Cell → why it was of no use before any launch."""
        return {p.cell: p.reason for p in self.plan.pruned}

    @cached_property
    def chosen(self) -> Model | None:
        """The first model that serves; None as long as none does."""
        return next((m for m in self.plan.models if self.reference(m) is not None), None)

    def reference(self, model: Model) -> Cell | None:
        """The setting that others of a model must beat: the first that served it in stage 1."""
        for cell in self._entries(model):
            tries = self._fits(cell)
            if any(r.state is ReadingState.MEASURED for r in tries):
                return cell
        return None

    def _entries(self, model: Model) -> list[Cell]:
        """Settings by which a model may prove that it fits: the default; if memory lacks, the one that needs least."""
        default = model.default
        out_of_memory = default.id in self.known or any(
            r.cause is not None and r.cause.memory for r in self._fits(default)
        )
        free = [c for c in model.cells if c.id not in self.known and c.memory and c is not default]
        if not out_of_memory or not free:
            return [default]
        least = min(free, key=lambda c: (math.prod(c.memory), model.cells.index(c)))
        return (
            [default, least]
            if math.prod(least.memory) < math.prod(default.memory or (math.inf,))
            else [default]
        )

    def _fits(self, cell: Cell) -> list[Reading]:
        return [r for r in self.readings if r.launch.stage is Stage.FIT and r.launch.cell == cell.id]

    def _fit_launch(self) -> Launch | None:
        """The next launch of stage 1; None when a model was chosen, or none is left."""
        for model in self.plan.models:
            if self.reference(model) is not None:
                return None
            for cell in self._entries(model):
                tries = self._fits(cell)
                if cell.id not in self.known and not _settled(tries, FIT_ATTEMPTS):
                    return self._launch(Stage.FIT, cell, 0, 0, len(tries) + 1)
        return None

    # -- stage 2: the settings ----------------------------------------------------------------------------

    @cached_property
    def field(self) -> tuple[Cell, ...]:
        """The settings that the race is about, whether they turn out feasible or not."""
        if self.chosen is None:
            return ()
        models = self.plan.models if self.plan.objective == "throughput" else (self.chosen,)
        refused = {m.name for m in self.plan.models if m is not self.chosen and self._fits(m.default)}
        cells = [c for m in models if m.name not in refused for c in m.cells]
        return tuple(c for c in cells if c.id not in self.known)

    @cached_property
    def default(self) -> Cell:
        """The setting that stays unless another is proven better: that of stage 1, as long as it serves."""
        assert self.chosen is not None
        first = self.reference(self.chosen)
        assert first is not None
        if first.id not in self.excluded:
            return first
        left = [c for c in self.field if c.id not in self.excluded]
        counts = {c.id: len(self._raced(c.id)) for c in left}
        return max(left, key=lambda c: counts[c.id], default=first)

    @cached_property
    def excluded(self) -> dict[str, str]:
        """Cell → why it cannot win: it failed, or its failure is implied."""
        found: dict[str, str] = {}
        for cell in self.field:
            reason = self._failure(cell)
            if reason:
                found[cell.id] = reason
        for pruned in self.implied:
            found.setdefault(pruned.cell, pruned.reason)
        return found

    @cached_property
    def implied(self) -> tuple[Pruned, ...]:
        """Settings that need at least as much memory as one that was out of memory."""
        found: dict[str, Pruned] = {}
        for failed in [c for m in self.plan.models for c in m.cells]:
            lacking = [r for r in self._of(failed.id) if r.cause is not None and r.cause.memory]
            below = [c for c in self.field if c.id not in found and _dominates(c, failed)]
            untried = [c for c in below if not self._of(c.id)]
            if lacking and (len(lacking) >= ATTEMPTS or len(untried) < IMPLIES):
                why = f"needs no less memory than {failed.id}, which was out of memory"
                found |= {c.id: Pruned(cell=c.id, reason=why, source=failed.id) for c in untried}
        return tuple(found.values())

    @cached_property
    def unmeasured(self) -> dict[str, str]:
        """Cell → why nothing is known of it although it was launched: every reading was not valid.

        Of the models that are wanted more than the chosen one, and of the settings that compete.
        """
        passed = itertools.takewhile(lambda m: m is not self.chosen, self.plan.models)
        cells = [*(c for m in passed for c in self._entries(m)), *self.field]
        launched = {c.id: self._of(c.id) for c in cells}
        return {
            cell: mine[-1].detail
            for cell, mine in launched.items()
            if mine and all(r.state is ReadingState.INVALID for r in mine)
        }

    def _failure(self, cell: Cell) -> str:
        """Why a cell is out by its own readings; empty if it is not."""
        mine = [r for r in self._of(cell.id) if r.launch.stage is not Stage.MAP]
        for r in mine:
            if r.state is ReadingState.FAILED or (r.state is ReadingState.INFEASIBLE and not r.points):
                return r.detail
        if len(mine) >= ATTEMPTS and all(r.state is ReadingState.INVALID for r in mine):
            return mine[-1].detail
        measured = [r for r in mine if r.points and r.state is not ReadingState.INVALID]
        if measured and self.point(cell.id) is None:
            return measured[-1].detail if measured[-1].state is ReadingState.INFEASIBLE else _late(measured)
        return ""

    def point(self, cell: str) -> int | None:
        """The load point that counts for a cell: of those that keep every level over all launches, the fastest."""
        mine = [r for r in self._of(cell) if r.points and r.launch.stage is not Stage.MAP]
        if not mine:
            return None
        means: dict[int, float] = {}
        for k in range(min(len(r.points) for r in mine)):
            at = [r.points[k] for r in mine]
            values = [p.value for p in at if p.value is not None]
            if values and all(p.strict for p in at) and all(c.keeps for c in pooled(at)):
                means[k] = math.exp(sum(map(math.log, values)) / len(values))
        return max(means, key=lambda k: means[k]) if means else None

    def counts(self, cell: str) -> tuple[LevelCount, ...]:
        """Late requests of a cell at its point, over all of its launches."""
        k = self.point(cell)
        return () if k is None else pooled([r.points[k] for r in self._of(cell) if len(r.points) > k])

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Cells that may still win."""
        return tuple(c.id for c in self.field if c.id not in self.excluded)

    @cached_property
    def rule(self) -> RaceRule:
        """The contract of the race, with its readings."""
        race = self.plan.race
        most = max(32, 4 * len(self.field)) if race.readings is None else race.readings
        return RaceRule(
            eps=race.eps,
            alpha=race.alpha,
            arms=race.arms,
            at_once=race.at_once,
            looks=race.looks,
            readings=most,
        )

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """The readings of the race, for the statistics."""
        points = {c.id: self.point(c.id) for c in self.field}
        found: dict[tuple[int, int], Look] = {}
        for r in self.readings:
            if r.launch.stage in (Stage.SCREEN, Stage.CONFIRM):
                k = points.get(r.launch.cell)
                value = r.points[k].value if k is not None and len(r.points) > k else None
                found[r.launch.block, r.launch.position] = Look(
                    arm=r.launch.cell,
                    value=math.log(value) if value else None,
                    kind=CONFIRM if r.launch.stage is Stage.CONFIRM else SCREEN,
                    block=r.launch.block,
                    position=r.launch.position,
                    session=r.session,
                )
        return tuple(found.values())

    # -- what is next -------------------------------------------------------------------------------------

    def next_launch(self) -> Launch | None:
        """The next launch; None when the search is over or its time is up."""
        if self.out_of_time:
            return None
        if (fit := self._fit_launch()) is not None or self.chosen is None:
            return fit
        return self._sentinel() or self._race() or self._map()

    @property
    def out_of_time(self) -> bool:
        """Another launch as long as the longest so far would go beyond the budget."""
        limit = self.plan.budget.max_duration_s
        if limit is None or not self.readings:
            return False
        ends = [0.0, *(r.spent_s for r in self.readings)]
        longest = max(b - a for a, b in itertools.pairwise(ends))
        return self.spent_s + longest > limit

    @property
    def partial(self) -> bool:
        """The race was not run to its end."""
        return self.out_of_time and self._unlimited.next_launch() is not None

    @property
    def _unlimited(self) -> Search:
        free = self.plan.budget.model_copy(update={"max_duration_s": None})
        plan = self.plan.model_copy(update={"budget": free, "contexts": ()})
        return Search(plan, self.readings, self.session, self.spent_s)

    def _sentinel(self) -> Launch | None:
        before = [r for r in self.readings if r.launch.stage in (Stage.SCREEN, Stage.CONFIRM)]
        mine = [r for r in self.readings if r.session == self.session]
        again = [r for r in mine if r.launch.stage is Stage.SENTINEL]
        if not self.session or not before or before[0].session == self.session or _settled(again):
            return None
        if self._race() is None:
            return None  # nothing follows that it could be compared with
        return self._launch(Stage.SENTINEL, self.default, 0, self.session, len(again) + 1)

    def _race(self) -> Launch | None:
        raced = [r for r in self.readings if r.launch.stage in (Stage.SCREEN, Stage.CONFIRM)]
        if raced:
            number = raced[-1].launch.block
            first = next(k for k, r in enumerate(self.readings) if r.launch.block == number and r in raced)
            begun = Search(self.plan, self.readings[:first], self.session).block()
            launch = self._rest(begun)
            if launch is not None:
                return launch
        return self._rest(self.block())

    def block(self) -> Block | None:
        """The block that begins now."""
        if not self.arms or self.default.id not in self.arms:
            return None
        if self.plan.race.policy == "sequential_band":
            order = tuple(c.id for c in self.field for _ in range(self.plan.race.replicates))
            return None if self.looks else Block(1, SCREEN, order)
        return next_block(self.arms, self.default.id, self.looks, self.rule, self.plan.seed)

    def _rest(self, block: Block | None) -> Launch | None:
        """The next launch of a block; a setting that turned out to be out is passed over."""
        if block is None:
            return None
        stage = Stage.CONFIRM if block.kind == CONFIRM else Stage.SCREEN
        for position, arm in enumerate(block.arms):
            cell = self.plan.cell(arm)
            tries = [
                r
                for r in self.readings
                if r.launch.stage is stage and (r.launch.block, r.launch.position) == (block.number, position)
            ]
            if cell is not None and arm not in self.excluded and not _settled(tries):
                return self._launch(stage, cell, block.number, position, len(tries) + 1)
            if cell is not None and self._see_again(cell, tries):
                return self._launch(stage, cell, block.number, position, len(tries) + 1)
        return None

    def _see_again(self, cell: Cell, tries: Sequence[Reading]) -> bool:
        """Out of memory, and much would follow from it: once more."""
        lacking = [r for r in tries if r.cause is not None and r.cause.memory]
        below = [c for c in self.field if _dominates(c, cell) and not self._of(c.id)]
        return 0 < len(lacking) == len(tries) < ATTEMPTS and len(below) >= IMPLIES

    def _map(self) -> Launch | None:
        """The chosen setting at other contexts; beyond one that fails, larger ones fail too."""
        if self.default.id not in self.arms:
            return None
        winner = self.plan.cell(standings(self.arms, self.default.id, self.looks, self.rule).reference)
        for context in sorted(self.plan.contexts):
            tries = [r for r in self.readings if r.launch.stage is Stage.MAP and r.launch.context == context]
            if winner is not None and not _settled(tries):
                return self._launch(Stage.MAP, winner, 0, context, len(tries) + 1, context)
            if any(r.cause is not None and r.cause.memory for r in tries):
                return None
        return None

    def _launch(
        self, stage: Stage, cell: Cell, block: int, position: int, attempt: int, context: int | None = None
    ) -> Launch:
        return Launch(
            stage=stage,
            cell=cell.id,
            context=context or self.plan.target_context,
            block=block,
            position=position,
            attempt=attempt,
        )

    def _of(self, cell: str) -> list[Reading]:
        return [r for r in self.readings if r.launch.cell == cell]

    def _raced(self, cell: str) -> list[Look]:
        return [x for x in self.looks if x.arm == cell and x.value is not None]


def pooled(points: Sequence[PointReading]) -> tuple[LevelCount, ...]:
    """Late requests over several launches, level by level; a point that is not valid says nothing about the server."""
    counts: dict[str, LevelCount] = {}
    for count in (c for p in points if p.value is not None for c in p.levels):
        before = counts.get(count.level.text)
        late, n = (before.late, before.n) if before else (0, 0)
        counts[count.level.text] = LevelCount(level=count.level, late=late + count.late, n=n + count.n)
    return tuple(counts.values())


def _settled(tries: Sequence[Reading], attempts: int = ATTEMPTS) -> bool:
    """Whether a launch need not be repeated."""
    return bool(tries) and (tries[-1].state is not ReadingState.INVALID or len(tries) >= attempts)


def _dominates(cell: Cell, failed: Cell) -> bool:
    """Whether a cell takes at least as much memory as another one of the same model."""
    same = cell.model == failed.model and cell.id != failed.id and bool(cell.memory)
    sizes = zip(cell.memory, failed.memory, strict=False)
    return same and len(cell.memory) == len(failed.memory) and all(a >= b for a, b in sizes)


def _late(measured: Sequence[Reading]) -> str:
    """Service levels that are missed over all launches, although single ones may have kept them."""
    late = [
        f"{p.name}: {c.level.text}: {c.late} of {c.n} late"
        for k in range(min(len(r.points) for r in measured))
        for p in [measured[0].points[k]]
        for c in pooled([r.points[k] for r in measured])
        if not c.keeps
    ]
    return "; ".join(late[:2]) or "no load point keeps what is asked"
