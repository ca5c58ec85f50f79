"""A study of texts on a terminal: the change as a diff, and the tasks one by one."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.core.errors import UsageError
from assay.core.history import StudyHistory
from assay.core.trial import Trial
from assay.ledger.evolve_records import JOB, EvolveRecord, of_trial
from assay.ledger.home import Home
from assay.report._view.evolve.gain import gain_of
from assay.report._view.evolve.tasks import dumbbell
from assay.report._view.text import percent, plain
from assay.report.console import result_console
from assay.report.judged_texts import TrialTexts, texts_of
from assay.report.unified import patch

TONES = {"good": "green", "bad": "red", "idle": "dim"}


def change_of(home: Home, history: StudyHistory, trial: Trial | None) -> tuple[str, bytes, TrialTexts]:
    """The change of a trial, or of the study's candidate: trial, patch, texts.

    Args:
        home: the `.assay` folder.
        history: the study.
        trial: the trial; None = the accepted one, else the last one that was built.

    Raises:
        UsageError: if it is no study of texts, nothing was built yet, or the files are gone.
    """
    study = history.study.id
    if history.study.job != JOB:
        raise UsageError(
            "only a study of texts has a diff",
            where=study,
            allowed=f"job {JOB}",
            next=f"`assay show {study}`",
        )
    record = of_trial(trial, home.store) if trial is not None else _candidate(home, history)
    if record is None or not record.artifact:
        raise UsageError("no candidate was built yet", where=study, next=f"`assay resume {study}`")
    if not record.found:
        raise UsageError("the search found nothing better: there is no change", where=record.trial.id)
    texts = texts_of(home.folder, history, record)
    if texts.before is None or texts.after is None:
        raise UsageError(f"the change cannot be shown: {texts.problem}", where=record.trial.id)
    return record.trial.id, patch(texts.before, texts.after, texts.file), texts


def change_json(trial: str, made: bytes, texts: TrialTexts) -> dict[str, Any]:
    """The change for scripts: `schema: diff/1`."""
    return {
        "schema": "diff/1",
        "trial": trial,
        "file": texts.file,
        "root": texts.root,
        "baseline": texts.baseline,
        "candidate": texts.candidate,
        "patch": made.decode("utf-8", "replace"),
    }


def print_change(made: bytes, console: Console | None = None) -> None:
    """The patch in colours, made harmless for a terminal."""
    console = console or result_console()
    for line in made.decode("utf-8", "replace").split("\n")[:-1]:
        console.print(Text(plain(line), style=_style(line)), soft_wrap=True)
    if not made:
        console.print(Text("the texts are the same", style="dim"))


def print_tasks(record: EvolveRecord, console: Console | None = None) -> None:
    """Rates of baseline and candidate task by task, and their mean; nothing before the first run."""
    if record.runs is None or not record.runs.runs:
        return
    console = console or result_console()
    found = dumbbell(record.runs)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    for name in ("task", "baseline", "", "candidate", "", "points"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=name != "task")
    for row in (*found.rows, *found.canaries):
        shown = f"{plain(row.task)} (canary)" if row.canary else plain(row.task)
        table.add_row(
            Text(shown, style="dim" if row.canary else ""),
            row.baseline.text,
            Text(_interval(row.baseline.low, row.baseline.high), style="dim"),
            row.candidate.text,
            Text(_interval(row.candidate.low, row.candidate.high), style="dim"),
            Text(row.difference, style=TONES[row.tone]),
        )
    console.print(table)
    console.print(Text(f"  {found.summary}", style="dim"))
    if found.more:
        console.print(Text(f"  {found.more}", style="dim"))
    gain = gain_of(record.deploy)
    if gain is not None:
        level = f", {percent(gain.level, 0)}" if gain.level else ""
        console.print(Text(f"  mean {percent(gain.value)}  ({gain.told} points{level})"))


def tasks_json(record: EvolveRecord) -> list[dict[str, Any]]:
    """The same for scripts."""
    if record.runs is None:
        return []
    found = dumbbell(record.runs)
    return [
        {
            "task": r.task,
            "canary": r.canary,
            **{
                arm: {
                    "passed": rate.passed,
                    "runs": rate.n,
                    "lost": rate.lost,
                    "rate": rate.value,
                    "low": rate.low,
                    "high": rate.high,
                }
                for arm, rate in (("baseline", r.baseline), ("candidate", r.candidate))
            },
        }
        for r in (*found.rows, *found.canaries)
    ]


def _candidate(home: Home, history: StudyHistory) -> EvolveRecord | None:
    records = [of_trial(t, home.store) for t in history.trials.values()]
    built = [r for r in records if r.artifact]
    built = [r for r in built if r.found] or built
    kept = [r for r in built if r.trial.decision is not None and r.trial.decision.keeps]
    return next(reversed(kept or built), None)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.0f}-{100 * high:.0f} %"


def _style(line: str) -> str:
    if line.startswith(("---", "+++")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan", "\\": "dim"}.get(line[:1], "")
