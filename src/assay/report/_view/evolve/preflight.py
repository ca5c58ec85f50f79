"""What was seen of the text as it stands, before anything was searched: its rates, those without it, the canaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.agent import BASELINE, EMPTY, AgentRuns
from assay.ledger.evolve_records import PREFLIGHT, EvolveRecord
from assay.report._view.axis import Tick
from assay.report._view.evolve.gain import change
from assay.report._view.evolve.outcomes import ArmRow, outcomes
from assay.report._view.evolve.tasks import TASKS_LIMIT, UNIT_TICKS, Rate, rate
from assay.report._view.marks import Mark, status_mark
from assay.report._view.settled import finite, mapping
from assay.report._view.text import one_line, percent, plural

_BANDS = {
    "healthy": Mark("HEALTHY", "good", "check"),
    "weak_signal": Mark("WEAK SIGNAL", "open", "question"),
    "no_headroom": Mark("NO HEADROOM", "bad", "cross"),
    "uniform_failure": Mark("UNIFORM FAILURE", "bad", "cross"),
    "not_enough_data": Mark("NOT ENOUGH DATA", "open", "question"),
}


@dataclass(frozen=True)
class PreTask:
    """A task with the text as it stands, and without."""

    task: str
    baseline: Rate
    empty: Rate | None
    at: float | None
    """Percent of the width."""
    whisker: tuple[float, float] | None
    empty_at: float | None
    label: str


@dataclass(frozen=True)
class Canary:
    """A task that needs the text."""

    task: str
    arms: tuple[tuple[str, str], ...]
    mark: Mark
    text: str


@dataclass(frozen=True)
class Preflight:
    """Everything before the search."""

    mark: Mark
    band: str
    sentence: str
    seed: str
    """The band by the rule before ours, and why."""
    forced: bool
    """It went on although the band says not to."""
    facts: tuple[tuple[str, str, str], ...]
    """Label, value, detail."""
    tasks: tuple[PreTask, ...]
    more: str
    mean: str
    has_empty: bool
    canaries: tuple[Canary, ...]
    canaries_text: str
    outcomes: tuple[ArmRow, ...]
    ticks: tuple[Tick, ...]


def preflight(records: Sequence[EvolveRecord]) -> Preflight | None:
    """The preflight that the trials share; None before it was done."""
    record = next((r for r in records if r.preflight is not None), None)
    if record is None or record.preflight is None:
        return None
    runs = record.preflight
    verdict = record.verdicts.get(PREFLIGHT)
    extra = verdict.extra if verdict else {}
    band = one_line(extra.get("band") or "", 40)
    mark = _BANDS.get(band) or (
        status_mark(verdict.status) if verdict else Mark("NOT JUDGED", "idle", "dash")
    )
    seed = mapping(extra.get("seed"))
    before = one_line(seed.get("band") or "cannot say", 40).replace("_", " ")
    if seed.get("why"):
        before += f", {one_line(seed['why'])}"
    deciding = [t for t in dict.fromkeys(runs.tasks) if t not in runs.canaries]
    tasks = [_task(t, runs) for t in deciding]
    tasks.sort(key=lambda t: -(t.baseline.value or 0.0))
    whole = rate([r for r in runs.of(BASELINE) if r.task in deciding])
    made = tuple(_canary(t, runs) for t in runs.canaries)
    return Preflight(
        mark=mark,
        band=band.replace("_", " "),
        sentence=one_line(verdict.detail) if verdict else "It was run and is not judged yet.",
        seed=before if seed else "",
        forced=extra.get("forced") is True,
        facts=tuple(_facts(extra)),
        tasks=tuple(tasks[:TASKS_LIMIT]),
        more=f"and {len(tasks) - TASKS_LIMIT:,} more tasks" if len(tasks) > TASKS_LIMIT else "",
        mean=f"{whole.passed} of {plural(whole.n, 'run')} passed with the text as it stands"
        if whole.n
        else "",
        has_empty=any(t.empty is not None for t in tasks),
        canaries=made,
        canaries_text=_told(made),
        outcomes=outcomes(runs),
        ticks=UNIT_TICKS,
    )


def _facts(extra: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the gate worked out, where it did."""
    made = []
    rate_, ends = finite(extra.get("rate")), extra.get("interval")
    if rate_ is not None:
        low, high = (
            (finite(e) for e in ends) if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
        )
        between = "" if low is None or high is None else f"{percent(low, 0)} to {percent(high, 0)}"
        made.append(("pass rate as it stands", percent(rate_, 0), between))
    empty = mapping(extra.get("empty"))
    if (earned := finite(empty.get("text_earns"))) is not None:
        made.append(("it earns over no text", f"{change(earned)} points", ""))
    noise = mapping(extra.get("noise"))
    if (flip := finite(noise.get("mean_per_task_flip"))) is not None:
        chance = finite(noise.get("spurious_strict_win_rate"))
        lucky = (
            ""
            if chance is None
            else f"one pass would call an unchanged text better {percent(chance, 0)} of the time"
        )
        made.append(("a task ends differently", f"{percent(flip, 0)} of the time", lucky))
    if (power := finite(extra.get("whole_headroom_power"))) is not None:
        made.append(("chance to find a perfect text", percent(power, 0), "in the confirmation as planned"))
    return made


def _task(task: str, runs: AgentRuns) -> PreTask:
    found, without = rate(runs.of(BASELINE, task)), runs.of(EMPTY, task)
    empty = rate(without) if without else None
    beside = f"; without the text {empty.text}" if empty else ""
    return PreTask(
        task=one_line(task, 100),
        baseline=found,
        empty=empty,
        at=None if found.value is None else 100.0 * found.value,
        whisker=None if found.low is None or found.high is None else (100 * found.low, 100 * found.high),
        empty_at=None if empty is None or empty.value is None else 100.0 * empty.value,
        label=f"{one_line(task, 100)}: {found.text}, {found.told}{beside}",
    )


def _canary(task: str, runs: AgentRuns) -> Canary:
    rates = {arm: rate(held) for arm in runs.arms if (held := runs.of(arm, task))}
    given = [r for arm, r in rates.items() if arm != EMPTY]
    without = rates.get(EMPTY)
    reaches = bool(given) and max((r.value or 0.0) for r in given) >= 0.5
    needs = without is not None and without.value is not None and without.value < 0.5
    if reaches and needs:
        mark, text = (
            Mark("PROVEN", "good", "check"),
            "passes with the text and fails without it: it is delivered",
        )
    elif not reaches:
        mark, text = (
            Mark("NOT SEEN", "bad", "cross"),
            "fails although the text is given: is it delivered at all?",
        )
    elif without is None:
        mark, text = Mark("HALF", "open", "question"), "was not run without the text"
    else:
        mark, text = Mark("NO PROOF", "bad", "cross"), "passes without the text too: it proves nothing"
    arms = tuple((arm.replace("_", " "), r.text) for arm, r in rates.items())
    return Canary(one_line(task, 100), arms, mark, text)


def _told(made: Sequence[Canary]) -> str:
    if not made:
        return "The suite has no canary: nothing proves that the text reaches the agent."
    proven = sum(c.mark.tone == "good" for c in made)
    if len(made) == 1:
        return f"The canary {'proves' if proven else 'does not prove'} that the text reaches the agent."
    share = f" ({percent(proven / len(made), 0)})" if proven < len(made) else ""
    return (
        f"{proven} of {plural(len(made), 'canary', 'canaries')}{share} prove that the text reaches the agent."
    )
