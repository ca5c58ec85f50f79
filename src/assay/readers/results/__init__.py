"""Results of evaluations → evidence. One harness a file; the content says which it is, not the name.

A new harness is one module with an object like `LmEval`, named in `READERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assay.core.errors import UnreadableInput, UsageError
from assay.core.results import Results, RunStatus, TaskResult
from assay.readers.results.harness import Asked, Harness, Source, clip, pin
from assay.readers.results.helm import Helm
from assay.readers.results.inspect_ai import InspectAI
from assay.readers.results.junit import JUnit
from assay.readers.results.lm_eval import LmEval
from assay.readers.results.logs import scan
from assay.readers.results.metrics import MetricTable, table_with
from assay.readers.results.nemo_bundle import NemoBundle
from assay.readers.results.nemo_launcher import NemoLauncher
from assay.readers.results.nemo_skills import NemoSkills
from assay.readers.results.promptfoo import Promptfoo
from assay.readers.results.run_summary import RunSummary
from assay.readers.results.scores import Scores
from assay.readers.results.table import Table

READERS: tuple[Harness, ...] = (
    NemoLauncher(),  # before the harnesses that run inside its jobs
    LmEval(),
    InspectAI(),
    NemoBundle(),
    NemoSkills(),
    Helm(),
    Promptfoo(),
    JUnit(),
    RunSummary(),
    Scores(),
    Table(),
)
"""In the order in which they are asked; the first that claims the content reads it."""

__all__ = ["READERS", "Harness", "read_results"]


def read_results(
    path: str | Path,
    *,
    subject: str,
    harness: str | None = None,
    expected: Mapping[str, int] | None = None,
    metrics: Mapping[str, str] | None = None,
    metric_table: str | Path | None = None,
) -> Results:
    """Read the results of an evaluation, whatever wrote them.

    Args:
        path: the output folder or file of a harness, a file of rows, a score file, or a run summary.
        subject: whose results they are: `source`, `candidate`, or a name.
        harness: name of the reader; None finds it by the content.
        expected: samples per task that were asked for; a task that is not there at all becomes an entry
            without a score. They win over what the harness says of itself.
        metrics: task → metric (`exact_match` or `exact_match,strict-match`) to judge by, where the
            harness computed several; the first that it lists otherwise.
        metric_table: a YAML file of metrics that is laid over the table that comes with Assay.

    Raises:
        UnreadableInput: if the path is absent or nothing can be made of its bytes.
        UsageError: if no reader has that name.
    """
    place = Path(path)
    table = table_with(metric_table)
    try:
        if not place.exists():
            raise UnreadableInput("no such file or folder", where=clip(place))
        source = Source(place)
        reader = _named(harness) if harness else _claiming(source)
        results = reader.read(source, Asked(subject, metrics or {}, table))
        results = _with_facts(results, source, table)
    except RecursionError as error:
        raise UnreadableInput("nested too deeply", where=clip(place)) from error
    except (OSError, ValueError, OverflowError) as error:
        # ValueError: a path with a zero byte, or a value that no noun can hold; the file is then not a
        # results file of any harness, which is the user's to know and not a defect to crash on
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else clip(error)
        raise UnreadableInput(f"cannot be read as results: {why}", where=clip(place)) from error
    return _with_expected(results, expected or {})


def _named(harness: str) -> Harness:
    for reader in READERS:
        if reader.name == harness:
            return reader
    raise UsageError(
        f"no reader for the harness {clip(harness)!r}", allowed=", ".join(r.name for r in READERS)
    )


def _claiming(source: Source) -> Harness:
    for reader in READERS:
        if reader.claims(source):
            return reader
    if lacking := Table().lacks(source):
        raise UnreadableInput(lacking, where=clip(source.path))
    if source.is_dir:
        files = [f for f in source.files if f.suffix in (".json", ".xml")]
        if len(files) == 1:
            return _Only(files[0])
    else:
        _ = source.document  # says what is wrong with it, if it is no JSON at all
    raise UnreadableInput(
        "no results that Assay knows",
        where=clip(source.path),
        allowed="results of " + ", ".join(r.name for r in READERS),
    )


class _Only:
    """A folder with one document in it, which no reader claims as a folder: the document is what is meant."""

    name = "only"

    def __init__(self, file: Path) -> None:
        self._inner = Source(file)

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        return True

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        return _claiming(self._inner).read(self._inner, asked)


def _with_facts(results: Results, source: Source, table: MetricTable) -> Results:
    """Which tasks a judge decides, and the failures that logs in the folder tell of."""
    facts: dict[str, Any] = {}
    rows = {t.task: table.find(t.metric, t.task) for t in results.tasks if t.metric}
    judged = sorted(task for task, row in rows.items() if row is not None and row.judge)
    if judged and "judged" not in results.facts:
        facts["judged"] = judged
    found, telling = scan(source.files) if source.is_dir else ([], [])
    if found:
        facts["log_failures"] = found
    if not facts:
        return results
    pins = (*results.artifacts, *map(pin, telling))
    return results.model_copy(update={"facts": {**results.facts, **facts}, "artifacts": pins})


def _with_expected(results: Results, expected: Mapping[str, int]) -> Results:
    if not expected:
        return results
    tasks = [
        t.model_copy(update={"expected": expected[t.task]}) if t.task in expected else t
        for t in results.tasks
    ]
    present = {t.task for t in tasks}
    tasks += [
        TaskResult(
            task=task, metric="", status=RunStatus.UNKNOWN, expected=n, errors=("there is no result for it",)
        )
        for task, n in expected.items()
        if task not in present
    ]
    return results.model_copy(update={"tasks": tuple(tasks)})
