"""Gate `preflight`: is it worth while to look for a better text, and can this suite tell one when it sees it?

Judges runs with the text as it stands, before anything is spent on a search: is there room above it, does the text
reach the agent at all, does it earn anything over no text, and how much does the suite differ from itself? The band of
the system we replace stands beside ours, and with `rules: seed` it decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, Strict

from assay.core.agent import AGAIN, BASELINE, EMPTY, KNOWN_GOOD, AgentRuns
from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._deploy.beside import judge_scores, one_pass, task_mean
from assay.gates._deploy.policy import DeployPolicy, Rate, Share
from assay.gates._deploy.runs import BROKEN_DOWN, Arm, Flaw, accounting, commonest, delivery, gather, has_arm
from assay.gates._deploy.seed import LEDGER_FILE, Band, seed_band

__all__ = ["LEDGER_FILE", "Band", "PreflightGate", "PreflightPolicy", "saturation_row", "seed_band"]

ROLE = "source.runs"
_WORDS: Mapping[Band, tuple[Status, Outcome, FailureClass | None]] = {
    Band.HEALTHY: (Status.PASS, Outcome.ACCEPT, None),
    Band.NO_HEADROOM: (Status.FAIL, Outcome.INFEASIBLE, FailureClass.POINT_INFEASIBLE),
    # not infeasible: what no text has done yet, one may still do
    Band.UNIFORM_FAILURE: (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, None),
    Band.WEAK_SIGNAL: (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, None),
    Band.NOT_ENOUGH_DATA: (Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, None),
}


class PreflightPolicy(Policy):
    """When it is not worth while to begin."""

    rules: Literal["sound", "seed"] = "sound"
    """`seed` decides as the system we replace did: two means against four thresholds. Both are always shown."""
    force: bool = False
    """Go on whatever the band. What makes the runs unusable is not overruled: no canary, no delivery, broken books."""
    no_headroom_at: Share = 0.95
    """Mean pass rate from which on there is nothing to gain."""
    uniform_failure_at: Share = 0.15
    """Mean pass rate up to which no text seems to matter; a `known_good` text that passes proves the contrary."""
    slack: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.15
    """How far from such a threshold the interval may still reach: beyond, the runs are too few to say it."""
    level: Annotated[float, Strict(), Field(gt=0.5, lt=1)] = 0.9
    """Two-sided confidence of the intervals."""
    min_tasks: Annotated[int, Strict(), Field(ge=1)] = 3
    """Fewer tell nothing, whatever the repeats."""
    min_repeats: Annotated[int, Strict(), Field(ge=1)] = 1
    """Fewer of each task tell nothing; with one, nothing is known of the noise."""
    planned_looks: Annotated[tuple[Annotated[int, Strict(), Field(ge=1)], ...], Field(min_length=1)] = (
        3,
        6,
        9,
    )
    """Repeats per arm at each look of the confirmation to come: where it would likely miss even a perfect text, the
    signal is weak."""
    require_canary: bool = True
    """Without a task that needs the text, nothing proves that the text reaches the agent."""
    require_empty: bool = True
    """Whether canaries must also have been run without the text, where they would have to fail."""
    canary_rate: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.5
    """Canaries must pass at least so often with a text, and less often without one."""
    max_infra_frac: Share = 0.1
    """Share of an arm's runs that may have taught nothing."""
    max_agent_error_frac: Share = 0.5
    """Share of the runs in which the agent may break down or run out of time."""
    again_differs_p: Rate = 0.01
    """p below which the text is said to differ from itself."""


class _Answer(NamedTuple):
    band: Band
    why: str
    needed: int | None = None


class PreflightGate:
    """Judges the runs of a suite's tasks with the text as it stands.

    Args:
        policy: the thresholds.
    """

    name = "preflight"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: PreflightPolicy | None = None) -> None:
        self.policy = policy or PreflightPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        runs = evidence.get(ROLE)
        if not isinstance(runs, AgentRuns):
            return _broken(
                [Flaw("there are no runs of the text as it stands", FailureClass.USER_CONFIG_ERROR)]
            )
        seed = _seed(runs)
        verdict = self._judged(runs, seed)
        return verdict.model_copy(
            update={
                "provenance": runs.provenance,
                "reads": {ROLE: runs.content_digest},
                "extra": {**verdict.extra, "rules": self.policy.rules, "seed": seed},
            }
        )

    def _judged(self, runs: AgentRuns, seed: Mapping[str, Any]) -> Verdict:
        policy = self.policy
        books = accounting(runs, [BASELINE])
        if books:
            return _broken(books)
        before = gather(runs, BASELINE)
        flaws = _flaws(runs, before, policy)
        if flaws:
            return _broken(flaws)
        figures = _figures(runs, before, policy)
        sound = _band(before, figures, policy)
        answer = sound
        if policy.rules == "seed":
            if seed["band"] is None:
                return _broken([Flaw(str(seed["why"]), FailureClass.USER_CONFIG_ERROR)])
            answer = _Answer(Band(seed["band"]), f"the source's rule: {seed['why']}")
        status, outcome, failure = _WORDS[answer.band]
        forced = policy.force and status is not Status.PASS
        if forced:
            status, outcome, failure = Status.PASS, Outcome.ACCEPT, None
        told = f"{answer.band.value}{' (forced)' if forced else ''}: {answer.why}"
        return Verdict(
            gate=self.name,
            status=status,
            outcome=outcome,
            failure_class=failure,
            detail=told,
            reasons=(Reason(text=answer.why, ok=answer.band is Band.HEALTHY), *_notes(figures)),
            needed=answer.needed if status is Status.INCONCLUSIVE else None,
            extra={**figures, "band": answer.band.value, "sound_band": sound.band.value, "forced": forced},
        )


def saturation_row(verdict: Verdict, **more: Any) -> dict[str, Any]:
    """One line of `saturation_ledger.jsonl`: what a preflight saw and said, also where it ended the study.

    Args:
        verdict: of this gate.
        more: what the caller knows of the study, such as its name.
    """
    extra = verdict.extra
    seed = extra.get("seed", {})
    return {
        **more,
        "band": extra.get("band"),
        "seed_band": seed.get("band"),
        "status": verdict.status.value,
        "forced": extra.get("forced", False),
        "holdout": seed.get("holdout"),
        "closed_loop": seed.get("closed_loop"),
        "rate": extra.get("rate"),
        "interval": extra.get("interval"),
        "tasks": extra.get("tasks_counted"),
        "repeats": extra.get("repeats"),
        "detail": verdict.detail,
    }


def _flaws(runs: AgentRuns, before: Arm, policy: PreflightPolicy) -> list[Flaw]:
    from assay.gates._deploy import tested  # noqa: PLC0415 - scipy, only for a study that judges texts

    arms = [a for a in (BASELINE, KNOWN_GOOD) if a in runs.repeats]
    out = []
    if before.broken > policy.max_agent_error_frac * before.runs:
        how = commonest(r for r in runs.of(BASELINE) if r.outcome in BROKEN_DOWN)
        text = f"the agent breaks down or runs out of time in {before.broken} of {before.runs} runs{how}"
        out.append(Flaw(text, FailureClass.SYSTEMIC))
    out += delivery(runs, arms, policy.canary_rate, required=policy.require_canary)
    if runs.canaries and policy.require_empty and not has_arm(runs, EMPTY):
        text = "no canary was run without the text: that they pass with it proves nothing"
        out.append(Flaw(text, FailureClass.USER_CONFIG_ERROR))
    if before.lost > policy.max_infra_frac * before.runs:
        text = f"{before.lost} of {before.runs} runs taught nothing; {policy.max_infra_frac:.0%} may"
        out.append(Flaw(text, FailureClass.INFRA_TRANSIENT))
    if empty := sorted(t for t, c in before.cells.items() if not c.runs):
        out.append(Flaw("no run taught anything", FailureClass.SAMPLE_ACCOUNTING_FAILED, empty[0]))
    if not out and (again := _again(runs)) is not None:
        common = [t for t, c in again.cells.items() if c.runs]
        mine, other = before.only(common), again.only(common)
        p = tested.again_p(mine, other, DeployPolicy()) if common else 0.0
        if p < policy.again_differs_p:
            text = f"the text differs from itself: {mine.rate:.2f} and {other.rate:.2f} (p {p:.2g})"
            out.append(Flaw(text, FailureClass.NOT_COMPARABLE))
    return out


def _band(before: Arm, figures: Mapping[str, Any], policy: PreflightPolicy) -> _Answer:
    """The band by repeats and intervals."""
    rate, (low, high) = before.rate, figures["interval"]
    tasks, repeats = len(before.cells), figures["repeats"]
    seen = f"{rate:.2f} of {tasks} tasks x {repeats} pass, {low:.2f} to {high:.2f}"
    if tasks < policy.min_tasks or repeats < policy.min_repeats:
        text = f"{seen}; {policy.min_tasks} tasks x {policy.min_repeats} are needed"
        return _Answer(
            Band.NOT_ENOUGH_DATA, text, max(policy.min_tasks, tasks) * max(policy.min_repeats, repeats)
        )
    if rate >= policy.no_headroom_at:
        if low >= policy.no_headroom_at - policy.slack:
            return _Answer(Band.NO_HEADROOM, f"{seen}: there is nothing to gain")
        return _more(seen, before, policy, policy.no_headroom_at - policy.slack)
    if rate <= policy.uniform_failure_at:
        good = figures.get("known_good")
        if good is not None and good > high:
            return _Answer(Band.HEALTHY, f"{seen}, and {good:.2f} with the known-good text: a text can do it")
        if high <= policy.uniform_failure_at + policy.slack:
            text = f"{seen}: no text is known that helps; a `known_good` text that passes would show that one can"
            return _Answer(Band.UNIFORM_FAILURE, text)
        return _more(seen, before, policy, policy.uniform_failure_at + policy.slack)
    found = figures["whole_headroom_power"]
    if found < 0.5:
        text = f"{seen}: a text that passes everything would be found with a chance of {found:.0%} only"
        return _Answer(Band.WEAK_SIGNAL, text)
    return _Answer(Band.HEALTHY, seen)


def _more(seen: str, before: Arm, policy: PreflightPolicy, limit: float) -> _Answer:
    """Runs that would settle whether the rate is really beyond a threshold, were it as seen."""
    from assay.gates._deploy.tested import wilson_mean  # noqa: PLC0415 - scipy

    rate, runs = before.rate, before.runs
    while runs < 100_000:
        runs += len(before.cells)
        low, high = wilson_mean(rate * runs, runs, policy.level)
        if (low >= limit) if rate > limit else (high <= limit):
            break
    return _Answer(Band.NOT_ENOUGH_DATA, f"{seen}: about {runs:,} runs would tell whether it is so", runs)


def _figures(runs: AgentRuns, before: Arm, policy: PreflightPolicy) -> dict[str, Any]:
    """What the runs show, whatever the band."""
    from assay.gates._deploy import plan, tested  # noqa: PLC0415 - scipy

    total = sum(c.total for c in before.cells.values())
    learned = sum(c.runs for c in before.cells.values())
    out: dict[str, Any] = {
        "rate": before.rate,
        "interval": tested.wilson_mean(total, learned, policy.level),
        "level": policy.level,
        "tasks_counted": len(before.cells),
        "repeats": runs.repeats[BASELINE],
        "rates": {t: c.rate for t, c in before.cells.items()},
        "noise": _noise(before, _again(runs)),
        "deterministic": before.steady(),
    }
    contract = DeployPolicy(looks=policy.planned_looks)
    rates = plan.planning_rates([c.rate for c in before.cells.values()], len(before.cells))
    out["whole_headroom_power"] = plan.deploy_power(contract, rates, contract.looks, 1.0, 1_000).power
    if (good := _mean_of(runs, KNOWN_GOOD)) is not None:
        out["known_good"] = good.rate
    if (none := _mean_of(runs, EMPTY)) is not None:
        common = [t for t, c in none.cells.items() if c.runs]
        mine = before.only(common)
        found, _ = tested.test_look(none.only(common), mine, DeployPolicy(), tested.Look(1, 1, 0.05, 0.05))
        out["empty"] = {
            "rate": none.only(common).rate,
            "tasks": len(common),
            "text_earns": found.gain,
            "p_text_helps": found.p_better,
        }
    return out


def _noise(before: Arm, again: Arm | None) -> dict[str, Any]:
    """How often a task ends differently though nothing changed, and what one pass makes of that."""
    from assay.stats import agent_suites  # noqa: PLC0415 - scipy

    if not before.binary:
        return {"source": "none", "why": "scores are not only 0 and 1"}
    flips: dict[str, float] = {}
    source = "again" if again is not None else "repeats"
    for task, cell in before.cells.items():
        if again is not None and again.cells[task].runs:
            other = again.cells[task].rate
            flips[task] = cell.rate * (1 - other) + other * (1 - cell.rate)
        elif cell.runs > 1:
            flips[task] = 2 * cell.rate * (1 - cell.rate) * cell.runs / (cell.runs - 1)
    if not flips:
        return {"source": "none", "why": "one run of each task tells nothing of the noise"}
    # the chance of a flip is 2 q (1 - q): the rate that belongs to it
    rates = [0.5 - 0.5 * max(0.0, 1 - 2 * min(0.5, f)) ** 0.5 for f in flips.values()]
    chance = agent_suites.unchanged_gain_chance(rates)
    return {
        "source": source,
        "mean_per_task_flip": sum(flips.values()) / len(flips),
        "per_task_flip": flips,
        "spurious_strict_win_rate": chance,
        "spurious_regression_rate": chance,
    }


def _notes(figures: Mapping[str, Any]) -> list[Reason]:
    out = []
    noise = figures["noise"]
    if "mean_per_task_flip" in noise:
        text = (
            f"a task ends differently {noise['mean_per_task_flip']:.0%} of the time though nothing changed: one pass "
            f"would take an unchanged text for better {noise['spurious_strict_win_rate']:.0%} of the time"
        )
        out.append(Reason(text=text, ok=True, measured=noise["spurious_strict_win_rate"], unit="share"))
    if figures["deterministic"]:
        out.append(
            Reason(text="every task ended alike in all repeats: repeats add nothing, tasks do", ok=True)
        )
    if "empty" in figures:
        empty = figures["empty"]
        text = (
            f"the text earns {empty['text_earns']:+.2f} over no text at all (p {empty['p_text_helps']:.2g})"
        )
        out.append(Reason(text=text, ok=empty["p_text_helps"] <= 0.5, measured=empty["text_earns"]))
    return out


def _seed(runs: AgentRuns) -> dict[str, Any]:
    """The source's band, or why it has none. Never raises."""
    holdout = judge_scores(runs, BASELINE)
    tasks = task_mean(one_pass(runs, BASELINE))
    judge = sum(holdout) / len(holdout) if holdout else None
    told = {"holdout": judge, "closed_loop": tasks}
    if judge is None:
        # uniform failure needs no judge, it is asked first
        band = seed_band(0.0, tasks)
        if band is Band.UNIFORM_FAILURE:
            return {**told, "band": band.value, "why": f"tasks {tasks:.2f}, whatever the judge says"}
        judge_saturated = seed_band(1.0, tasks).value
        why = "it needs a judge's scores of the holdout, and there are none"
        return {**told, "band": None, "why": why, "if_the_judge_were_saturated": judge_saturated}
    band = seed_band(judge, tasks)
    of_tasks = "no tasks" if tasks is None else f"tasks {tasks:.2f}"
    return {**told, "band": band.value, "why": f"judge {judge:.2f}, {of_tasks}"}


def _again(runs: AgentRuns) -> Arm | None:
    return _mean_of(runs, AGAIN)


def _mean_of(runs: AgentRuns, name: str) -> Arm | None:
    """An arm that may be there for canaries only."""
    arm = gather(runs, name)
    return arm if any(c.runs for c in arm.cells.values()) else None


def _broken(found: Sequence[Flaw]) -> Verdict:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Verdict(
        gate="preflight",
        status=Status.ERROR,
        outcome=Outcome.ANOMALOUS,
        failure_class=first.failure,
        detail=f"{f'{first.where}: ' if first.where else ''}{first.text}{more}",
        reasons=tuple(Reason(text=f.text, ok=False, where=f.where) for f in found),
    )
