"""What a decided trial hands over as files: both texts whole, a patch, the reasons, and the document of the rule before.

Everything is derived from the ledger and from what was built, so that a kill at any moment is mended by writing again:
`assay show` and `assay resume` do. A file that stands already as it must is left alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core.decision import Decision
from assay.core.history import StudyHistory
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates._deploy.seed import DECISION_FILE, SeedInputs, SeedReason, seed_decision
from assay.ledger.evolve_records import DEPLOY, JOB, EvolveRecord, of_trial
from assay.ledger.home import Home
from assay.report._view.evolve.gain import gain_of
from assay.report._view.evolve.reasons import needed_text, said
from assay.report._view.evolve.rules import seed_document
from assay.report._view.evolve.tasks import dumbbell
from assay.report._view.settled import mapping
from assay.report._view.text import one_line, percent
from assay.report.judged_texts import DELIVERY, TrialTexts, texts_of
from assay.report.seed_fields import known_fields
from assay.report.unified import patch
from assay.runtime.files import remove, write_atomic

REASONS = "reasons.md"
PATCH = "candidate.patch"


def deliver(home: Home, history: StudyHistory) -> tuple[Path, ...]:
    """Write the files of all decided trials of a study of texts; doing it again changes nothing.

    Args:
        home: the `.assay` folder.
        history: the study; another job's gives nothing.

    Returns:
        The files, as they stand now.

    Raises:
        ComponentFailed, UsageError: see `runtime.files.write_atomic`.
    """
    if history.study.job != JOB:
        return ()
    made: list[Path] = []
    for trial in history.trials.values():
        decision = trial.decision
        if decision is None or decision.interrupted:
            continue
        record = of_trial(trial, home.store)
        folder = delivery_folder(home, history, trial.id)
        made += _written(folder, files_of_trial(home, history, record, decision), kept=decision.keeps)
    return tuple(made)


def delivery_folder(home: Home, history: StudyHistory, trial: str) -> Path:
    """Where the files of a trial lie: a folder of its own only where the study holds several candidates."""
    folder = home.study(history.study.id) / DELIVERY
    planned = history.study.proposer.options.get("candidates")
    several = len(history.trials) > 1 or (isinstance(planned, list | tuple) and len(planned) > 1)
    return folder / trial if several else folder


def files_of_trial(
    home: Home, history: StudyHistory, record: EvolveRecord, decision: Decision
) -> dict[str, bytes]:
    """Name → bytes of everything that a trial hands over.

    Args:
        home: the `.assay` folder.
        history: the study.
        record: the trial.
        decision: its Decision.
    """
    texts = texts_of(home.folder, history, record)
    files: dict[str, bytes] = {}
    if not record.found:
        texts = replace(texts, after=None)
    if texts.before is not None and record.found:
        files[f"baseline_{texts.stem}{texts.suffix}"] = texts.before
    if texts.after is not None:
        name = texts.stem if decision.keeps else "FAILED"
        files[f"evolved_{name}{texts.suffix}"] = texts.after
    if texts.before is not None and texts.after is not None:
        files[PATCH] = patch(texts.before, texts.after, texts.file)
    document = gate_decision(record, decision, texts)
    if document:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        files[DECISION_FILE] = (text + "\n").encode("utf-8", "replace")
    files[REASONS] = reasons(record, decision, texts).encode("utf-8", "replace")
    return files


# -- gate_decision.json -------------------------------------------------------------------------------


def gate_decision(record: EvolveRecord, decision: Decision, texts: TrialTexts) -> dict[str, Any]:
    """The document of schema 5; empty where no candidate came so far.

    `decision` and `reason` are those of the rule that decided. Where that is ours, those of the rule before it stand in
    `seed_decision` and `seed_reason`: a reader of this file must never deploy what was refused.
    """
    document = _seed(record, texts)
    if not document:
        return {}
    document |= known_fields(record, str(document.get("gate_mode", "")))
    verdict = record.deploy
    rules = verdict.extra.get("rules", "sound") if verdict else "sound"
    word, reason = _ours(decision, record)
    ours = {
        "rules": rules,
        "seed_decision": document.get("decision"),
        "seed_reason": document.get("reason"),
        "assay": {
            "study": decision.study,
            "trial": decision.trial,
            "outcome": decision.outcome.value,
            "sentence": decision.sentence,
            "ledger_head": decision.head,
        },
    }
    if rules == "seed" and (word == "deploy") == (document.get("decision") == "deploy"):
        return {**document, **ours}
    return {**document, "decision": word, "reason": reason, **ours}


def _seed(record: EvolveRecord, texts: TrialTexts) -> dict[str, Any]:
    """What the system before would have written, also where its gate was not asked."""
    found = mapping(seed_document(record).get("document"))
    if found:
        return dict(found)
    if not record.found:
        return {}
    chars = {
        "baseline_chars": _chars(texts.before, texts.baseline),
        "evolved_chars": _chars(texts.after, texts.candidate),
    }
    text = record.verdicts.get("text")
    if text is not None and text.status is Status.FAIL:
        broken = tuple(dict.fromkeys(r.where or r.text for r in text.reasons if not r.ok)) or (text.detail,)
        return seed_decision(SeedInputs(**chars, static_failures=broken))
    failed = next((v for v in record.verdicts.values() if v.status is Status.ERROR), None)
    if failed is None and record.deploy is None:
        return {}
    why = failed.detail if failed else "the runs cannot be judged"
    return seed_decision(SeedInputs(**chars, force_run_error=why, closed_loop="always"))


def _chars(data: bytes | None, text: str | None) -> int:
    """Characters of the whole file; of the text where the file is gone."""
    return len(data.decode("utf-8", "replace")) if data is not None else len(text or "")


def _ours(decision: Decision, record: EvolveRecord) -> tuple[str, str]:
    text = record.verdicts.get("text")
    if decision.keeps:
        return "deploy", "ok"
    if text is not None and text.status is Status.FAIL:
        return "reject", SeedReason.STATIC.value
    if decision.outcome is Outcome.INCONCLUSIVE:
        return "reject", "inconclusive"
    if decision.outcome is Outcome.ANOMALOUS:
        return "aborted", SeedReason.CL_INCOMPLETE.value if record.runs else SeedReason.CL_FAILED.value
    return "reject", SeedReason.GATE.value


# -- reasons.md ---------------------------------------------------------------------------------------


def reasons(record: EvolveRecord, decision: Decision, texts: TrialTexts) -> str:
    """The verdict for a person who reads files: word, numbers, tasks, and what would change it."""
    parts = [
        f"# {decision.outcome.value}: {_cell(decision.candidate)}",
        _cell(said(decision), 2_000),
        f"Study `{decision.study}`, trial `{decision.trial}`, ledger head `{decision.head}`.",
        _rules(record),
        _gain(record),
        "\n".join(_tasks(record)),
        "## Gates",
        "\n".join(_gates(decision, record.verdicts)),
        "## What would change it" if not decision.keeps else "## What to do with it",
        "\n".join(f"- {line}" for line in _next(record, decision, texts)),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _rules(record: EvolveRecord) -> str:
    seed = seed_document(record)
    if not seed:
        return ""
    word = one_line(seed.get("decision") or "cannot say", 40)
    return f"The rule before ours, on one pass of the same runs: {word} ({_cell(seed.get('reason') or 'no reason')})."


def _gain(record: EvolveRecord) -> str:
    gain = gain_of(record.deploy)
    if gain is None:
        return ""
    level = f", level {percent(gain.level, 0)}" if gain.level else ""
    needed = f"; needed: {percent(gain.bar)}" if gain.bar > 0 else ""
    return f"Gain of the mean pass rate: {percent(gain.value)} ({gain.told} points{level}){needed}."


def _tasks(record: EvolveRecord) -> Sequence[str]:
    if record.runs is None or not record.runs.runs:
        return ()
    found = dumbbell(record.runs)
    lines = ["## Tasks", "", "| task | baseline | candidate | difference, points |", "|---|---|---|---|"]
    lines += [
        f"| {_cell(r.task)}{' (canary)' if r.canary else ''} | {r.baseline.text} | {r.candidate.text} | {r.difference} |"
        for r in (*found.rows, *found.canaries)
    ]
    return [*lines, f"{found.more}."] if found.more else lines


def _gates(decision: Decision, verdicts: Mapping[str, Verdict]) -> list[str]:
    lines = []
    for line in decision.gates:
        word = line.status.value if line.status else "not reached"
        lines.append(f"- **{_cell(line.gate)}** {word}: {_cell(line.detail, 1_000)}")
        verdict = verdicts.get(line.gate)
        lines += (
            [f"  - not ok: {_cell(r.text, 1_000)}" for r in verdict.reasons if not r.ok] if verdict else []
        )
    return lines


def _next(record: EvolveRecord, decision: Decision, texts: TrialTexts) -> list[str]:
    trial = decision.trial
    lines = []
    if decision.keeps:
        lines.append(f"`assay apply {trial}` puts it in place; `assay undo {trial}` takes it back.")
    if needed := needed_text(record):
        lines.append(needed)
    if decision.outcome is Outcome.REGRESSION:
        lines.append("Nothing but another text: it is shown to be worse.")
    if record.artifact and not record.found:
        lines.append(
            "A larger budget, other proposers, or tasks with more room: the search found nothing better."
        )
    elif decision.outcome is Outcome.NO_GAIN:
        lines.append("Another text, or tasks with more room: no gain was shown at this length.")
    if decision.outcome is Outcome.INFEASIBLE:
        lines.append("Mend what the failing gate names; it cost no run.")
    if decision.outcome is Outcome.ANOMALOUS:
        lines.append(f"Find the cause: `assay show {trial}`. The candidate was neither kept nor judged.")
    failing = record.verdicts.get(DEPLOY)
    if failing is not None and not decision.keeps:
        lines += [_cell(r.text, 1_000) for r in failing.reasons if not r.ok][:8]
    if texts.before is not None and texts.after is not None:
        where = "the project's folder" if texts.inside else _cell(texts.root)
        lines.append(f"`{PATCH}` is the change; `patch -p1` or `git apply` takes it in {where}.")
    elif texts.problem and record.found:
        lines.append(f"There is no patch: {_cell(texts.problem)}.")
    return list(dict.fromkeys(lines)) or ["Nothing is known that would."]


def _cell(value: Any, limit: int = 300) -> str:
    """Foreign text in Markdown: one line that opens no table, link, element or code."""
    text = one_line(value, limit)
    for character in "\\`|<>[]*":
        text = text.replace(character, f"\\{character}")
    return text


# -- writing ------------------------------------------------------------------------------------------


def _written(folder: Path, files: Mapping[str, bytes], *, kept: bool) -> list[Path]:
    """Take away what says the opposite, then write what is missing or differs."""
    # an earlier delivery of the other word, from before the study was topped up
    for path in sorted(folder.glob("evolved_*")) if folder.is_dir() else ():
        if ("FAILED" in path.name) == kept:
            remove(path)
    for name, data in files.items():
        path = folder / name
        with contextlib.suppress(OSError):
            if path.read_bytes() == data:
                continue
        write_atomic(path, data)
    return [folder / name for name in files]
