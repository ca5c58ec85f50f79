"""What forbids a verdict although the books are in order: rates of infra errors, meddling, controls, drift, noise."""

from __future__ import annotations

from assay.core.agent import AGAIN, BASELINE, CANDIDATE, KNOWN_GOOD, AgentRuns
from assay.core.vocabulary import FailureClass
from assay.gates._deploy import tested
from assay.gates._deploy.policy import DeployPolicy
from assay.gates._deploy.runs import Arm, Flaw, delivery, gather, has_arm, interleaved
from assay.stats import agent_suites


def flaws(runs: AgentRuns, arms: tuple[Arm, Arm], policy: DeployPolicy) -> list[Flaw]:
    """Everything found; the worst first.

    Args:
        runs: as measured.
        arms: baseline and candidate, counted.
        policy: the limits.
    """
    out = _tampered(*arms, policy)
    out += delivery(
        runs,
        [a for a in (BASELINE, CANDIDATE, KNOWN_GOOD) if has_arm(runs, a)],
        policy.canary_rate,
        required=policy.require_canary,
    )
    out += _lost(arms, policy)
    before = arms[0]
    if before.broken > policy.max_agent_error_frac * before.runs:
        text = f"the agent breaks down or runs out of time in {before.broken} of {before.runs} runs of the baseline"
        out.append(Flaw(text, FailureClass.SYSTEMIC))
    if policy.require_interleaved:
        out += interleaved(runs)
    if runs.repeats.get(AGAIN):
        out += _again(runs, before, policy)
    return out


def _tampered(before: Arm, after: Arm, policy: DeployPolicy) -> list[Flaw]:
    if after.tampered <= before.tampered + policy.max_tampered_excess:
        return []
    text = (
        f"with the candidate the agent touched deciding files in {after.tampered} runs, "
        f"with the baseline in {before.tampered}"
    )
    return [Flaw(text, FailureClass.NOT_COMPARABLE)]


def _lost(arms: tuple[Arm, Arm], policy: DeployPolicy) -> list[Flaw]:
    out = []
    for arm in arms:
        if arm.lost > policy.max_infra_frac * arm.runs:
            text = (
                f"{arm.lost} of {arm.runs} runs of {arm.name} taught nothing; {policy.max_infra_frac:.0%} may"
            )
            out.append(Flaw(text, FailureClass.INFRA_TRANSIENT))
        if empty := sorted(t for t, c in arm.cells.items() if not c.runs):
            out.append(
                Flaw(f"no run of {arm.name} taught anything", FailureClass.SAMPLE_ACCOUNTING_FAILED, empty[0])
            )
    first, second = arms
    found = agent_suites.fixed_gain_test([first.lost], [first.runs], [second.lost], [second.runs])
    p = min(1.0, 2 * min(found.p_better, found.p_worse))
    if p < policy.infra_differs_p:
        text = (
            f"runs teach nothing at different rates: {first.lost} of {first.runs} with the baseline, "
            f"{second.lost} of {second.runs} with the candidate (p {p:.2g})"
        )
        out.append(Flaw(text, FailureClass.SAMPLE_ACCOUNTING_FAILED))
    return out


def _again(runs: AgentRuns, before: Arm, policy: DeployPolicy) -> list[Flaw]:
    """The baseline a second time must look like the baseline."""
    second = gather(runs, AGAIN)
    common = {t for t, c in before.cells.items() if c.runs and second.cells[t].runs}
    if not common:
        return [
            Flaw("no task was run with the baseline a second time", FailureClass.SAMPLE_ACCOUNTING_FAILED)
        ]
    p = tested.again_p(before.only(common), second.only(common), policy)
    if p < policy.again_differs_p:
        text = f"the baseline differs from itself: {before.rate:.2f} and {second.only(common).rate:.2f} (p {p:.2g})"
        return [Flaw(text, FailureClass.NOT_COMPARABLE)]
    return []
