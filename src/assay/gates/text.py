"""Gate `text`: may this text be tried at all? Formats, sizes, protected parts; nothing is run.

A rule that the baseline itself breaks only warns about the baseline; a candidate that breaks it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.core.artifact_text import Finding, Severity, TextArtifact, TextKind
from assay.core.verdict import Reason, Verdict
from assay.core.vocabulary import FailureClass, Outcome, Status
from assay.gates._text.manifest import check_tools
from assay.gates._text.policy import Dialect, TextPolicy
from assay.gates._text.skill import check_frontmatter
from assay.gates._text.static import check_change, check_static, hidden_characters, protected_regions

__all__ = [
    "Dialect",
    "TextPolicy",
    "blocking",
    "check_candidate",
    "check_manifest",
    "check_text",
    "hidden_characters",
    "judge_text",
    "protected_regions",
]


def check_text(artifact: TextArtifact, policy: TextPolicy | None = None) -> tuple[Finding, ...]:
    """What a text breaks by itself: `lint-skill`, or a baseline before a study."""
    policy = policy or TextPolicy()
    found = check_frontmatter(artifact, policy).found if artifact.kind is TextKind.SKILL else []
    if protected_regions(artifact.text) is None:
        found = [*found, _markers(policy)]
    return (*found, *check_static(artifact, artifact.text, policy).found)


def check_manifest(
    tools: Sequence[Mapping[str, Any]], policy: TextPolicy | None = None
) -> tuple[Finding, ...]:
    """What the tools of a manifest break."""
    return tuple(check_tools(tools, policy or TextPolicy()).found)


def check_candidate(
    baseline: TextArtifact, text: str, policy: TextPolicy | None = None
) -> tuple[Finding, ...]:
    """What a candidate breaks, by itself and as a change of its baseline; what the baseline breaks becomes a warning.

    Args:
        baseline: the text in force, with its file.
        text: the candidate.
        policy: limits, dialects and severities.
    """
    policy = policy or TextPolicy()
    inherited = [
        f.model_copy(update={"severity": Severity.WARN, "text": f"the baseline: {f.text}"})
        for f in check_text(baseline, policy)
        if f.severity is Severity.BLOCK
    ]
    out = check_static(baseline, text, policy)
    check_change(baseline, text, policy, out)
    return (*inherited, *out.found)


def judge_text(baseline: TextArtifact, text: str, policy: TextPolicy | None = None) -> Verdict:
    """PASS, or FAIL with every rule that the candidate breaks; a refused candidate is INFEASIBLE and costs no run."""
    found = check_candidate(baseline, text, policy)
    bad = blocking(found)
    reasons = tuple(
        Reason(
            text=f.text, ok=f.severity is not Severity.BLOCK, where=f.rule, measured=f.measured, limit=f.limit
        )
        for f in found
    )
    extra = {"growth_frac": (len(text) - len(baseline.text)) / max(1, len(baseline.text))}
    if not bad:
        return Verdict(
            gate="text",
            status=Status.PASS,
            detail=f"{len(text):,} characters, {extra['growth_frac']:+.0%}; no rule is broken",
            reasons=reasons,
            extra=extra,
        )
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return Verdict(
        gate="text",
        status=Status.FAIL,
        failure_class=FailureClass.POINT_INFEASIBLE,
        outcome=Outcome.INFEASIBLE,
        detail=f"{bad[0].rule}: {bad[0].text}{more}",
        reasons=reasons,
        extra=extra,
    )


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that refuse."""
    return tuple(f for f in findings if f.severity is Severity.BLOCK)


def _markers(policy: TextPolicy) -> Finding:
    rule = "protected-markers"
    return Finding(
        rule=rule,
        severity=policy.severities.get(rule, Severity.BLOCK),
        text="the markers of protected regions do not match",
    )
