"""What a study of texts rests on: its setting, its frozen policy, and the digests of what was judged."""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.ledger.evolve_records import DEPLOY, EvolveRecord
from assay.report._view.settled import finite, mapping
from assay.report._view.text import Digest, digest_of, duration, one_line


def setting(history: StudyHistory, records: Sequence[EvolveRecord]) -> tuple[tuple[str, str], ...]:
    """The text, its suite, the agent, and what was in force when it ran."""
    spec = history.study.spec
    agent, suite = mapping(spec.get("agent")), mapping(spec.get("suite"))
    runs = next((r.runs or r.preflight for r in records if r.runs or r.preflight), None)
    command = agent.get("command")
    words = " ".join(str(w) for w in command) if isinstance(command, list | tuple) else ""
    rows = [
        ("text", history.study.source.path),
        ("suite", suite.get("path")),
        ("agent", f"{agent.get('preset', '')} {agent.get('model', '')}".strip()),
        ("its command", words),
        ("time limit of a run", duration(t) if (t := finite(agent.get("timeout_s"))) else ""),
        ("isolation in force", runs.isolation if runs else ""),
        ("tasks that decide", str(len([t for t in runs.tasks if t not in runs.canaries])) if runs else ""),
        ("canaries", ", ".join(runs.canaries) if runs else ""),
    ]
    return tuple((k, one_line(v, 240)) for k, v in rows if v)


def plan(history: StudyHistory) -> tuple[tuple[str, str], ...]:
    """The deploy gate's policy as it was frozen."""
    ref = next((g for g in history.study.gates if g.gate == DEPLOY), None)
    policy = ref.policy if ref else {}
    shown = {k: v for k, v in policy.items() if v not in (None, "", [], ())}
    return tuple((str(k).replace("_", " "), _value(v)) for k, v in shown.items())


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(one_line(v, 40) for v in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else one_line(value, 120)


def digests(history: StudyHistory, records: Sequence[EvolveRecord]) -> tuple[tuple[str, Digest], ...]:
    """The digests of all that was judged."""
    runs = next((r.runs or r.preflight for r in records if r.runs or r.preflight), None)
    source: Artifact = history.study.source
    rows = [("text", source.digest)]
    if runs is not None:
        rows += [("suite", runs.suite), ("agent", runs.runner)]
        rows += [(f"text of {arm}", digest) for arm, digest in runs.texts.items()]
    return tuple((name, digest_of(digest)) for name, digest in rows if digest)
