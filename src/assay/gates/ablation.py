"""Gate `ablation`: what does each section of a text earn? The text without it, against the whole text.

It measures and refuses nothing: a section that earns nothing on these tasks may still be there for a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict

from assay.core.agent import BASELINE, AgentRuns
from assay.core.evidence import Evidence
from assay.core.gate import Policy
from assay.core.verdict import Estimate, Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._deploy.policy import DeployPolicy, Rate
from assay.gates._deploy.runs import Flaw, accounting, gather

ROLE = "source.runs"


class AblationPolicy(Policy):
    """What is said of a section."""

    sections: Mapping[str, str] = Field(default_factory=dict)
    """Arm that lacks it → title of the section."""
    alpha: Rate = 0.05
    """Chance to say of any section that it earns or harms something where none does (Holm's bound over all of them)."""
    max_infra_frac: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.1
    """Share of an arm's runs that may have taught nothing."""


class AblationGate:
    """Judges runs of the whole text and of the text without each of its sections.

    Args:
        policy: the sections.
    """

    name = "ablation"
    reads: tuple[str, ...] = (ROLE,)

    def __init__(self, policy: AblationPolicy | None = None) -> None:
        self.policy = policy or AblationPolicy()

    def judge(self, evidence: Mapping[str, Evidence]) -> Verdict:
        """See `Gate.judge`."""
        runs = evidence.get(ROLE)
        if not isinstance(runs, AgentRuns):
            return _broken([Flaw("there are no runs", FailureClass.USER_CONFIG_ERROR)])
        arms = list(self.policy.sections)
        if not arms:
            return _broken([Flaw("no section is named", FailureClass.USER_CONFIG_ERROR)])
        if flaws := accounting(runs, [BASELINE, *arms]) or self._lost(runs, [BASELINE, *arms]):
            return _broken(flaws)
        rows = self._rows(runs, arms)
        told = [r["title"] for r in rows if r["word"] == "earns"]
        detail = f"{len(told)} of {len(rows)} sections are shown to earn something: {', '.join(told)[:200] or 'none'}"
        return Verdict(
            gate=self.name,
            status=Status.PASS,
            detail=detail,
            reasons=tuple(Reason(text=_sentence(r), ok=r["word"] != "harms", where=r["title"]) for r in rows),
            estimates=tuple(_estimate(r, len(runs.tasks) - len(runs.canaries)) for r in rows),
            reads={ROLE: runs.content_digest},
            provenance=runs.provenance,
            extra={"sections": rows},
        )

    def _lost(self, runs: AgentRuns, arms: list[str]) -> list[Flaw]:
        found = []
        for name in arms:
            arm = gather(runs, name)
            if arm.lost > self.policy.max_infra_frac * arm.runs:
                text = f"{arm.lost} of {arm.runs} runs of {name} taught nothing"
                found.append(Flaw(text, FailureClass.INFRA_TRANSIENT))
        return found

    def _rows(self, runs: AgentRuns, arms: list[str]) -> list[dict[str, Any]]:
        from assay import stats  # noqa: PLC0415 - scipy
        from assay.gates._deploy.tested import Look, test_look  # noqa: PLC0415

        whole = gather(runs, BASELINE)
        level = self.policy.alpha / (2 * len(arms))
        rule = DeployPolicy(alpha=self.policy.alpha, estimand="fixed_suite")
        tested = {a: test_look(whole, gather(runs, a), rule, Look(1, 1, level, level))[0] for a in arms}
        p_values = [min(1.0, 2 * min(t.p_better, t.p_worse)) for t in tested.values()]
        rows = []
        for (arm, found), adjusted in zip(tested.items(), stats.holm(p_values), strict=True):
            shown = bool(adjusted <= self.policy.alpha)
            word = ("earns" if found.gain < 0 else "harms") if shown else "nothing shown"
            rows.append(
                {
                    "arm": arm,
                    "title": self.policy.sections[arm],
                    "earns": -found.gain,
                    "lower": -found.upper,
                    "upper": -found.lower,
                    "level": 1 - 2 * level,
                    "p": float(adjusted),
                    "word": word,
                    "whole": whole.rate,
                    "without": gather(runs, arm).rate,
                    "method": found.method,
                }
            )
        return sorted(rows, key=lambda r: (-r["earns"], r["arm"]))


def _sentence(row: Mapping[str, Any]) -> str:
    between = f"{row['lower']:+.2f} to {row['upper']:+.2f}"
    return f"{row['title']}: {row['word']}; without it {row['without']:.2f} instead of {row['whole']:.2f} ({between})"


def _estimate(row: Mapping[str, Any], tasks: int) -> Estimate:
    return Estimate(
        task=row["title"],
        baseline=row["whole"],
        candidate=row["without"],
        drop=row["earns"],
        lower=row["lower"],
        upper=row["upper"],
        level=row["level"],
        n=tasks,
        role="advisory",
    )


def _broken(found: list[Flaw]) -> Verdict:
    first = found[0]
    return Verdict(
        gate="ablation",
        status=Status.ERROR,
        failure_class=first.failure,
        outcome=Outcome.ANOMALOUS,
        detail=f"{first.where}: {first.text}" if first.where else first.text,
        reasons=tuple(Reason(text=f.text, ok=False, where=f.where) for f in found),
    )
