"""What texts are held to, and how severe each rule is in which dialect."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from assay.core.artifact_text import Finding, Severity, TextKind
from assay.core.gate import Policy

SIZE_LIMIT_CHARS: Mapping[TextKind, int] = {TextKind.SKILL: 15_000, TextKind.TOOL: 500}
"""Largest text of a kind where the policy names none: whole SKILL.md files, and descriptions of tools."""


class Dialect(StrEnum):
    """Whose rules a skill or manifest must meet."""

    AGENTSKILLS = "agentskills"
    """The open format and its reference validator."""
    ANTHROPIC = "anthropic"
    """The reference's rules and those of Anthropic's quick validator."""
    CLAUDE_CODE = "claude-code"
    """More keys in the frontmatter."""
    CODEX = "codex"
    """Shorter descriptions of one line, longer names."""
    COPILOT = "copilot"
    """Skills share a menu of about 15,000 characters."""
    MCP = "mcp"
    """Tools as the protocol defines them."""
    SEED = "seed"
    """Tools as the source system's parser took them: a description, no dots in names, no look-alikes."""


class TextPolicy(Policy):
    """Limits of a text and of a change to it; checked before anything is run."""

    dialects: tuple[Dialect, ...] = (Dialect.AGENTSKILLS, Dialect.MCP)
    size_limit_chars: int | None = Field(default=None, gt=0)
    """Largest text; None = 15,000 for a SKILL.md, 500 for a tool's description, no limit for others."""
    max_growth_frac: float | None = Field(default=None, ge=0)
    """Growth over the baseline that is refused, as a share of its length; None = no budget."""
    ceiling_chars: int | None = Field(default=None, gt=0)
    """Absolute ceiling of a candidate; it never lies below `ceiling_ratio` times the baseline. None = no ceiling."""
    ceiling_ratio: float = Field(default=1.5, ge=1)
    """Relative part of the ceiling: a long baseline may keep its length."""
    anchors: tuple[str, ...] = ()
    """Sentences that must stand in the candidate as they stand in the baseline."""
    severities: Mapping[str, Severity] = Field(default_factory=dict)
    """Rule → severity, laid over the defaults."""

    def ceiling_for(self, baseline: str) -> int | None:
        """The effective ceiling in characters: max(absolute, int(ratio * baseline))."""
        if self.ceiling_chars is None:
            return None
        return max(self.ceiling_chars, int(self.ceiling_ratio * len(baseline)))

    def growth_budget(self, baseline: str) -> int | None:
        """Characters that a candidate may have by `max_growth_frac`: at least one."""
        if self.max_growth_frac is None:
            return None
        return max(1, int(len(baseline) * (1 + self.max_growth_frac)))

    def size_limit(self, kind: TextKind) -> int | None:
        """Largest text of that kind."""
        return self.size_limit_chars or SIZE_LIMIT_CHARS.get(kind)


class Findings:
    """Collects findings with the severities of a policy."""

    def __init__(self, severities: Mapping[str, Severity], where: str = "") -> None:
        self.severities = severities
        self.where = where
        self.found: list[Finding] = []

    def add(self, rule: str, severity: Severity, text: str, **more: object) -> None:
        """Note a finding; the policy may have another severity for its rule."""
        severity = self.severities.get(rule, severity)
        more = {"where": self.where, **more}
        self.found.append(Finding.model_validate({"rule": rule, "severity": severity, "text": text, **more}))
