"""Gate `deploy`: may this text replace its baseline?

The tasks are the units. Better must be shown at the level of the look, on fresh and interleaved runs, by more than the
growth of the text costs; what vanished, broke down, was meddled with or never reached the agent outranks every word.
The verdict of the system we replace stands beside ours in `extra["seed"]`, and with `rules: seed` it decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.core.agent import BASELINE, CANDIDATE, AgentRuns
from assay.core.evidence import Evidence
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._deploy.beside import seed_sentence, seed_view, seed_words
from assay.gates._deploy.policy import DeployPolicy, Growth, Preset, growth_of
from assay.gates._deploy.runs import JUDGED, Arm, Flaw, accounting, gather
from assay.gates._deploy.seed import SeedInputs, seed_decision

if TYPE_CHECKING:
    from assay.gates._deploy.plan import DeployPlan
    from assay.gates._deploy.tested import Look, Tested

__all__ = [
    "DeployGate",
    "DeployPolicy",
    "Growth",
    "Preset",
    "SeedInputs",
    "plan_deploy",
    "probes_verdict",
    "seed_decision",
]

ROLE = "candidate.runs"


class _Word(NamedTuple):
    status: Status
    outcome: Outcome
    why: str
    open: bool = False


class DeployGate:
    """Judges the runs of a suite's tasks with the candidate against those with the baseline.

    Args:
        policy: the contract.
    """

    name = "deploy"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: DeployPolicy | None = None) -> None:
        self.policy = policy or DeployPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        runs = evidence.get(ROLE)
        if not isinstance(runs, AgentRuns):
            return _anomalous([Flaw("there are no runs of the candidate", FailureClass.USER_CONFIG_ERROR)])
        seed = seed_view(runs, self.policy)
        verdict = self._sound(runs)
        if self.policy.rules == "seed":
            verdict = _seed_verdict(seed, verdict)
        return verdict.model_copy(
            update={
                "provenance": runs.provenance,
                "reads": {ROLE: runs.content_digest},
                "extra": {**verdict.extra, "rules": self.policy.rules, "seed": seed},
            }
        )

    def _sound(self, runs: AgentRuns) -> Verdict:
        # scipy takes half a second to import: only a study that judges texts pays for it
        from assay.gates._deploy import tested  # noqa: PLC0415
        from assay.gates._deploy.flaws import flaws  # noqa: PLC0415

        policy = self.policy
        books = accounting(runs, JUDGED)
        if books:
            return _anomalous(books)
        arms = gather(runs, BASELINE), gather(runs, CANDIDATE)
        look, bar = tested.look_at(policy, runs), _bar(runs, policy)
        found_flaws = flaws(runs, arms, policy)
        if isinstance(look, Flaw) or isinstance(bar, Flaw) or found_flaws:
            wrong = [*found_flaws, *(x for x in (look, bar) if isinstance(x, Flaw))]
            return _anomalous(wrong, _figures(runs, arms))
        found, look = tested.test_look(*arms, policy, look)
        worse = tested.worse_tasks(*arms, look.worse)
        word = _word(found, look, policy, bar, _shorter(runs, policy), worse if policy.task_guard else {})
        needed = None
        if word.status is Status.INCONCLUSIVE:
            from assay.gates._deploy.plan import needed_after  # noqa: PLC0415

            needed = needed_after(found, [c.rate for c in arms[0].cells.values()], policy, bar)
        return Verdict(
            gate=self.name,
            status=word.status,
            outcome=word.outcome,
            detail=_sentence(word, found, look, arms, needed),
            reasons=tuple(_reasons(runs, arms, found, look, bar, worse)),
            estimates=tested.estimates(*arms, found, look, bar),
            needed=needed,
            open=word.open,
            extra={**_figures(runs, arms), **_shown(found, look, bar, worse, arms)},
        )


def plan_deploy(
    policy: DeployPolicy, tasks: int, repeats: int = 0, base_rates: Sequence[float] = (), draws: int = 2_000
) -> DeployPlan:
    """What a confirmation would show, before a run is paid for: power, smallest gain, runs; `refused` says why not.

    Args:
        policy: the contract; its looks, or one look after `repeats`.
        tasks: that count; canaries are none.
        repeats: per arm, where the policy plans no looks.
        base_rates: pass rates of the tasks with the baseline, as the preflight measured them; empty = assumed.
        draws: simulated studies.
    """
    from assay.gates._deploy.plan import deploy_plan  # noqa: PLC0415 - scipy

    return deploy_plan(policy, tasks, repeats, base_rates, draws)


def probes_verdict(probes: Sequence[tuple[int, int]], policy: DeployPolicy | None = None) -> Verdict:
    """Judge single passes over a suite with one unchanged text, such as (4, 5), (1, 5), (3, 5).

    Args:
        probes: passed tasks and tasks of each pass.
        policy: level, power, and the gain that a comparison should find.
    """
    from assay.gates._deploy.plan import judge_probes  # noqa: PLC0415 - scipy

    return judge_probes(probes, policy)


def _word(
    found: Tested, look: Look, policy: DeployPolicy, bar: float, shorter: bool, worse: Mapping[str, float]
) -> _Word:
    from assay.gates._deploy.tested import look_levels, tasks_for_population  # noqa: PLC0415 - scipy

    level = look.better if found.deterministic else max(look_levels(policy)) / policy.candidates
    least = tasks_for_population(level)
    margin = policy.equivalent_margin if shorter else None
    equivalent = margin is not None and found.equivalent_lower > -margin
    few = found.estimand == "population" and found.tasks < least
    if found.is_worse(look):
        return _Word(Status.FAIL, Outcome.REGRESSION, "worse {where}")
    if worse:
        return _Word(Status.FAIL, Outcome.REGRESSION, f"worse on {_name(worse)}, and every task is guarded")
    if not few and found.is_better(look, bar):
        much = "" if found.lower > 0.0 else ", though not by how much"
        return _Word(Status.PASS, Outcome.ACCEPT, f"better {{where}}{much}")
    if equivalent and not (few and policy.estimand == "population"):
        return _Word(Status.PASS, Outcome.ACCEPT, f"no worse by {margin:.2f} or more {{where}}, and shorter")
    if few:
        text = f"{found.tasks} tasks can show nothing about tasks like these: {least} are needed"
        return _Word(Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, text)
    if bar > 0.0 and found.upper < bar and margin is None:
        return _Word(Status.FAIL, Outcome.NO_GAIN, f"its gain is below the {bar:.2f} that it must earn")
    futile = policy.futility_p is not None and bool(policy.looks) and found.is_futile(policy.futility_p)
    if futile and margin is None:
        return _Word(Status.FAIL, Outcome.NO_GAIN, "no gain to be seen {where}")
    why = "it is not known whether it is better {where}"
    if found.is_better(look, 0.0):
        why = f"it is better {{where}}, and not known to earn the {bar:.2f} that its growth costs"
    elif found.deterministic:
        why = "repeats end alike and add nothing: more tasks would"
    return _Word(Status.INCONCLUSIVE, Outcome.INCONCLUSIVE, why, open=not look.last)


def _bar(runs: AgentRuns, policy: DeployPolicy) -> float | Flaw:
    """The gain that must be shown: the declared one, or what the growth costs."""
    if policy.preset.slope == 0.0:
        return policy.min_gain
    if not set(JUDGED) <= set(runs.text_chars):
        text = "the length of a text is not known, so that what its growth costs is not either"
        return Flaw(text, FailureClass.SAMPLE_ACCOUNTING_FAILED)
    growth = growth_of(runs.text_chars[BASELINE], runs.text_chars[CANDIDATE])
    return max(policy.min_gain, policy.preset.slope * (growth - policy.preset.free))


def _shorter(runs: AgentRuns, policy: DeployPolicy) -> bool:
    before, after = (runs.text_chars.get(arm) for arm in JUDGED)
    return before is not None and after is not None and after <= (1.0 - policy.shorter_frac) * before


def _anomalous(found: Sequence[Flaw], extra: Mapping[str, Any] | None = None) -> Verdict:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{first.where}: " if first.where else ""
    return Verdict(
        gate="deploy",
        status=Status.ERROR,
        failure_class=first.failure,
        outcome=Outcome.ANOMALOUS,
        detail=f"{where}{first.text}{more}",
        reasons=tuple(Reason(text=f.text, ok=False, where=f.where) for f in found),
        extra=extra or {},
    )


def _seed_verdict(seed: Mapping[str, Any], sound: Verdict) -> Verdict:
    """The source's rule decides; what the sound rules say stands beside it."""
    beside = {"outcome": sound.outcome, "detail": sound.detail}
    if seed["decision"] is None:
        flaw = Flaw(seed_sentence(seed), FailureClass.USER_CONFIG_ERROR)
        return _anomalous([flaw], {**sound.extra, "sound": beside})
    status, outcome, failure = seed_words(seed["document"])
    return Verdict(
        gate="deploy",
        status=status,
        outcome=outcome,
        failure_class=failure,
        detail=f"rules: seed: {seed_sentence(seed)}; the sound rules say {sound.outcome}",
        reasons=(Reason(text=seed_sentence(seed), ok=status is Status.PASS), *sound.reasons),
        estimates=sound.estimates,
        extra={**sound.extra, "sound": beside},
    )


def _sentence(word: _Word, found: Tested, look: Look, arms: tuple[Arm, Arm], needed: int | None) -> str:
    before, after = arms
    at = f"look {look.number} of {look.of}, " if look.of > 1 else ""
    rates = f"{before.rate:.2f} to {after.rate:.2f}, gain {found.gain:+.2f}"
    bounds = f"at least {_floor(found.lower)} and at most {_ceil(found.upper)}"
    where = "on these tasks" if found.estimand == "fixed_suite" else "on tasks like these"
    sure = f"{100 * (1 - look.better):.3g} % sure each"
    text = f"{at}{found.tasks} tasks x {found.repeats}: {word.why.format(where=where)}; {rates} ({bounds}, {sure})"
    if word.status is not Status.INCONCLUSIVE or needed is None:
        return text
    more = needed - 2 * found.tasks * found.repeats
    if word.open:
        return f"{text}; another look is planned"
    what = "runs in all, of more tasks," if found.estimand == "population" else "runs in all"
    return f"{text}; about {needed:,} {what} would settle it, {max(1, more):,} more than there are"


def _reasons(
    runs: AgentRuns, arms: tuple[Arm, Arm], found: Tested, look: Look, bar: float, worse: Mapping[str, float]
) -> list[Reason]:
    before, after = arms
    better = f"p of no gain {found.p_better:.3g}, {look.better:.3g} is needed at this look"
    out = [
        Reason(
            text=better, ok=found.is_better(look, 0.0), measured=found.p_better, limit=look.better, unit="p"
        )
    ]
    if bar > 0.0:
        text = (
            f"at least {found.lower:+.3f} is gained; {bar:.3f} must be, for the length and what was declared"
        )
        out.append(
            Reason(text=text, ok=found.lower >= bar, measured=found.lower, limit=bar, unit="pass rate")
        )
    for task, p in sorted(worse.items()):
        text = f"worse: {before.cells[task].rate:.2f} to {after.cells[task].rate:.2f}"
        out.append(Reason(text=text, ok=False, where=task, measured=p, limit=look.worse, unit="p (Holm)"))
    if found.deterministic:
        text = f"every task ended alike in all of {found.repeats} repeats: repeats are worthless, only tasks count"
        out.append(Reason(text=text, ok=True))
    for arm in arms:
        if arm.lost:
            text = f"{arm.lost} of {arm.runs} runs of {arm.name} taught nothing"
            if arm is after:
                text += "; they count as failed where it is asked whether it is better"
            out.append(Reason(text=text, ok=True, measured=arm.lost, limit=arm.runs))
        if arm.broken:
            text = f"the agent broke down or ran out of time in {arm.broken} runs of {arm.name}: failures"
            out.append(Reason(text=text, ok=True, measured=arm.broken, limit=arm.runs))
        if arm.tampered:
            text = f"the agent touched deciding files in {arm.tampered} runs of {arm.name}: failures"
            out.append(Reason(text=text, ok=False, measured=arm.tampered, limit=arm.runs))
    if len({runs.texts.get(arm) for arm in JUDGED}) == 1 and runs.texts:
        out.append(Reason(text="both arms have the same text", ok=True))
    return out


def _figures(runs: AgentRuns, arms: tuple[Arm, Arm]) -> dict[str, Any]:
    """Counts for reports, whatever the word."""
    chars = [runs.text_chars.get(arm) for arm in JUDGED]
    known = [c for c in chars if c is not None]
    costs = [r.cost for r in runs.runs]
    return {
        "growth_frac": growth_of(known[0], known[1]) if len(known) == 2 else None,
        "infra": {a.name: [a.lost, a.runs] for a in arms},
        "broken_down": {a.name: a.broken for a in arms},
        "tampered": {a.name: a.tampered for a in arms},
        "known_cost": sum(c for c in costs if c is not None),
        "runs_without_cost": sum(r.assumed(None) is None for r in runs.runs),
        "isolation": runs.isolation,
    }


def _shown(
    found: Tested, look: Look, bar: float, worse: Mapping[str, float], arms: tuple[Arm, Arm]
) -> dict[str, Any]:
    from assay.gates._deploy.tested import wilson  # noqa: PLC0415 - scipy

    tasks = {
        task: {
            arm.name: {
                "passes": arm.cells[task].total,
                "runs": arm.cells[task].runs,
                "rate": arm.cells[task].rate,
                "interval": list(wilson(arm.cells[task])),
            }
            for arm in arms
        }
        for task in arms[0].cells
        if all(arm.cells[task].runs for arm in arms)
    }
    return {
        "look": look.number,
        "looks": look.of,
        "alpha_better": look.better,
        "alpha_worse": look.worse,
        "p_better": found.p_better,
        "p_worse": found.p_worse,
        "gain": found.gain,
        "lower": found.lower,
        "upper": found.upper,
        "bar": bar,
        "method": found.method,
        "estimand": found.estimand,
        "deterministic": found.deterministic,
        "task_sd": found.task_sd,
        "worse_tasks": dict(worse),
        "tasks": tasks,
        "wilson_level": 0.9,
    }


def _name(worse: Mapping[str, float]) -> str:
    return min(worse).replace("{", "{{").replace("}", "}}")


def _floor(share: float) -> str:
    """A lower bound, rounded down."""
    return f"{math.floor(share * 100 + 1e-9) / 100:+.2f}"


def _ceil(share: float) -> str:
    """An upper bound, rounded up."""
    return f"{math.ceil(share * 100 - 1e-9) / 100:+.2f}"
