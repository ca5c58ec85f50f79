"""`assay decide`: the statistics alone, on any two result folders or tables, with a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from assay.core.vocabulary import FailureClass, Outcome

if TYPE_CHECKING:
    from assay.core.results import Results
    from assay.core.verdict import Verdict
    from assay.gates.compare import ComparePolicy

EXIT = {Outcome.ACCEPT: 0, Outcome.REGRESSION: 1, Outcome.INCONCLUSIVE: 4, Outcome.ANOMALOUS: 5}
PICTURES = (".html", ".svg")
ROLES = {"baseline": "baseline.results", "candidate": "candidate.results"}
TABLE = "rows"
"""The reader of bare tables, and the name of the task in two tables that name none."""
SCORES = "scores"
"""The reader of `{task: score}` files."""


class Question(NamedTuple):
    """What is asked about the two sides, beside the margins."""

    expect: tuple[str, ...] = ()
    declare: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()
    harness: str | None = None


@click.command()
@click.option(
    "--baseline", required=True, type=click.Path(path_type=Path), help="Result folder, or a table of rows."
)
@click.option(
    "--candidate", required=True, type=click.Path(path_type=Path), help="The same of the candidate."
)
@click.option(
    "--margin", type=float, default=0.01, show_default=True, help="Largest tolerated drop of the mean."
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Chance of either wrong verdict.")
@click.option(
    "--policy",
    type=click.Choice(["paired", "point"]),
    default="paired",
    show_default=True,
    help="Test the pairs of samples, or hold bare numbers against the margin.",
)
@click.option(
    "--metric", multiple=True, metavar="[TASK=]METRIC", help="Which metric, where there are several."
)
@click.option("--harness", help="Which harness wrote them; by default found from their content.")
@click.option("--expect", multiple=True, metavar="[TASK=]N", help="Samples that a task must have scored.")
@click.option(
    "--declare", multiple=True, metavar="KEY", help="A setting that the change is about; may differ."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the picture: FILE.html or FILE.svg.")
def decide(
    baseline: Path,
    candidate: Path,
    margin: float,
    alpha: float,
    policy: str,
    as_json: bool,
    out: Path | None,
    **question: Any,
) -> int:
    """Decide between any two result folders or tables, with a picture.

    A table is a CSV file with a header, or JSONL: the columns id and score, and where there are some task,
    repeat and prompt. Exit codes: 0 accept, 1 regression, 2 unreadable, 4 inconclusive, 5 anomalous.
    """
    from assay.report.decide import Answer, print_answer, write_picture

    _check_usage(baseline, candidate, out)
    contract = _policy(margin, alpha, policy)
    verdict, notes = judge({"baseline": baseline, "candidate": candidate}, contract, Question(**question))
    answer = Answer(verdict, str(baseline), str(candidate), notes)
    if out is not None:
        write_picture(answer, out)
    if as_json:
        _print_json(answer.verdict, baseline, candidate, notes, out)
    else:
        print_answer(answer)
        if out is not None:
            click.echo(f"picture  {out}")
    return EXIT[answer.outcome]


def judge(
    paths: Mapping[str, Path], policy: ComparePolicy, question: Question
) -> tuple[Verdict, tuple[str, ...]]:
    """Results gate on both sides, comparability, then compare: nothing is compared past a failed gate.

    Args:
        paths: `baseline` and `candidate`.
        policy: the contract of the comparison.
        question: metric, harness, expected samples and declared differences.

    Returns:
        The verdict of the gate that ended it, and what a person should know beside it.

    Raises:
        UnreadableInput: if a side cannot be read.
        UsageError: if an option names what is not there.
    """
    sides = _named_alike({side: _read(path, side, question) for side, path in paths.items()}, paths)
    _check_pairable(sides, policy)
    notes = list(_notes(sides, question))
    refused = _refusal(sides, question, policy, notes)
    return refused or _compare(sides, policy), tuple(notes)


def _refusal(
    sides: Mapping[str, Results], question: Question, policy: ComparePolicy, notes: list[str]
) -> Verdict | None:
    """The verdict of the gate that forbids to compare, if one does; adds to the notes."""
    from assay.gates.comparability import ComparabilityGate, ComparabilityPolicy

    for side, results in sides.items():
        verdict, warnings = _complete(results, question.expect)
        notes += [f"{side} {warning}" for warning in warnings]
        if not verdict.passed:
            if verdict.failure_class is FailureClass.SAMPLE_ACCOUNTING_FAILED and not question.expect:
                notes.append("How many samples were asked for can be said: `--expect N`.")
            return verdict.model_copy(update={"detail": f"the {side}: {verdict.detail}"})
    alike = ComparabilityPolicy(declared=question.declare, require_samples=policy.policy == "paired")
    verdict = ComparabilityGate(alike).judge(_evidence(sides))
    notes += _told(verdict)
    if verdict.passed:
        return None
    keys = [d["key"] for d in verdict.extra.get("differences", ()) if d["rule"] == "fatal"]
    if keys:
        flags = " ".join(f"--declare {key}" for key in keys[:5])
        notes.append(f"If that difference is the change you want to judge, say so: `{flags}`.")
    return verdict


def _compare(sides: Mapping[str, Results], policy: ComparePolicy) -> Verdict:
    from assay.gates.compare import CompareGate

    return CompareGate(policy).judge(_evidence(sides))


def _evidence(sides: Mapping[str, Results]) -> dict[str, Results]:
    return {ROLES[side]: results for side, results in sides.items()}


def _read(path: Path, side: str, question: Question) -> Results:
    """One side, by the metrics that were asked for."""
    from assay.core.errors import UsageError
    from assay.readers.results import read_results

    _check_table(path, question.harness)
    named = dict(item.rsplit("=", 1) for item in question.metric if "=" in item)
    bare = [item for item in question.metric if "=" not in item]
    if len(bare) > 1:
        raise UsageError(
            "--metric names two metrics for all tasks", allowed="one METRIC, or TASK=METRIC each"
        )
    results = read_results(path, subject=side, harness=question.harness, metrics=named)
    if bare:
        wanted = {**{t.task: bare[0] for t in results.tasks}, **named}
        results = read_results(path, subject=side, harness=question.harness, metrics=wanted)
    unknown = sorted(set(named) - {t.task for t in results.tasks})
    if unknown:
        tasks = ", ".join(sorted({t.task for t in results.tasks})[:10])
        raise UsageError(f"--metric names the task {unknown[0]!r}, which is not there", allowed=tasks)
    for task in results.tasks:
        asked = named.get(task.task, bare[0] if bare else None)
        if asked is not None and task.metric.partition(",")[0] != asked.partition(",")[0]:
            raise UsageError(f"{task.task!r} has no metric {asked!r}", where=str(path), allowed=task.metric)
    return results


def _check_table(path: Path, harness: str | None) -> None:
    """A CSV file is nothing but a table: what lacks there is a column, and not JSON."""
    from assay.core.errors import UnreadableInput
    from assay.readers.results.harness import Source
    from assay.readers.results.table import IDS, SCORES, Table

    if harness is None and path.suffix == ".csv" and path.is_file() and not Table().claims(Source(path)):
        ids, scores = (", ".join(names[:6]) for names in (IDS, SCORES))
        raise UnreadableInput(
            "its first line does not name a column of ids and one of scores",
            where=str(path),
            allowed=f"names between commas, semicolons or tabs, such as {ids} and {scores}",
        )


def _named_alike(sides: dict[str, Results], paths: Mapping[str, Path]) -> dict[str, Results]:
    """Two tables without a task column hold one and the same task, though their files have two names."""
    for side, results in sides.items():
        path = paths[side]
        stem = results.harness == TABLE and path.is_file() and [t.task for t in results.tasks] == [path.stem]
        if not stem or _names_tasks(path):
            return sides
    if len({results.tasks[0].task for results in sides.values()}) == 1:
        return sides
    return {side: _renamed(results) for side, results in sides.items()}


def _names_tasks(path: Path) -> bool:
    """Whether the first row or the header of a table has a column `task`."""
    from assay.readers.results.harness import Source, parse_line
    from assay.readers.results.table import CSV, header

    first = Source(path).head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf")
    if path.suffix in CSV:
        return "task" in header(first)
    row = parse_line(first)
    return isinstance(row, Mapping) and bool(row.get("task"))


def _renamed(results: Results) -> Results:
    task = results.tasks[0]
    prefix = f"task.{task.task}."
    protocol = {
        f"task.{TABLE}.{key.removeprefix(prefix)}" if key.startswith(prefix) else key: value
        for key, value in results.protocol.items()
    }
    return results.model_copy(
        update={"tasks": (task.model_copy(update={"task": TABLE}),), "protocol": protocol}
    )


def _complete(results: Results, expect: Iterable[str]) -> tuple[Verdict, list[str]]:
    """What the results gate says of one side, and what it tells without refusing.

    A bare table says nowhere how many samples there should be: its own rows are then all, and each of them
    must have a score. That both sides have the same ones is for the comparability gate.
    """
    from assay.gates.results import ResultsGate, ResultsPolicy

    expected = {}
    if results.harness == TABLE:
        for task in results.tasks:
            if task.expected is None:
                expected[task.task] = len(set(zip(task.samples.id, task.samples.repeat, strict=True)))
    elif results.harness == SCORES:
        return _score_file(results), []
    expected.update(_expected(results, expect))
    verdict = ResultsGate(ResultsPolicy(expected=expected)).judge({"results": results})
    return verdict, _told(verdict)


def _told(verdict: Verdict) -> list[str]:
    """What a gate tells without refusing; places of one and the same finding stand on one line."""
    places: dict[str, list[str]] = {}
    for reason in verdict.reasons if verdict.extra.get("warnings") else ():
        if reason.ok:
            places.setdefault(reason.text, []).append(reason.where)
    return [f"{', '.join(filter(None, where))}: {text}".removeprefix(": ") for text, where in places.items()]


def _score_file(results: Results) -> Verdict:
    """A score file has no rows to judge; the compare gate refuses what is no score, by name."""
    from assay.core.verdict import Verdict
    from assay.core.vocabulary import Provenance, Status

    detail = f"{len(results.tasks)} bare scores"
    told = Provenance.SELF_REPORTED
    return Verdict(gate="results", status=Status.PASS, detail=detail, provenance=told)


def _expected(results: Results, expect: Iterable[str]) -> dict[str, int]:
    from assay.core.errors import UsageError

    found = {}
    for item in expect:
        task, equals, count = item.rpartition("=")
        if not count.isascii() or not count.isdecimal() or not int(count[:15]) or (equals and not task):
            raise UsageError(f"--expect {item!r} is no number of samples", allowed="N or TASK=N")
        found.update({task: int(count[:15])} if task else {t.task: int(count[:15]) for t in results.tasks})
    return found


def _notes(sides: Mapping[str, Results], question: Question) -> Iterable[str]:
    """What a bare table cannot show."""
    tables = [r for r in sides.values() if r.harness == TABLE]
    if not question.expect and any(t.expected is None for r in tables for t in r.tasks):
        yield (
            "A table does not say how many samples there should be: the rows that are there were taken for all "
            "of them. `--expect N` says it."
        )
    if any(len(set(t.samples.prompt)) == 1 < len(t.samples) for r in tables for t in r.tasks):
        yield "A table without prompts shows by its ids alone that both sides were asked the same."
    pins = [{a.digest for a in r.artifacts} for r in sides.values()]
    if pins[0] and pins[0] == pins[1]:
        yield "Both sides are the same bytes: is one of them a copy by mistake?"


def _check_usage(baseline: Path, candidate: Path, out: Path | None) -> None:
    from assay.core.errors import UsageError

    if out is not None and out.suffix.lower() not in PICTURES:
        raise UsageError("--out ends in no known picture", where=str(out), allowed="FILE.html or FILE.svg")
    try:
        same = baseline.resolve() == candidate.resolve()
    except (OSError, ValueError, RuntimeError):  # no path that a file can have: the reader says so
        return
    if same:
        raise UsageError("baseline and candidate are one and the same path", where=str(baseline))


def _check_pairable(sides: Mapping[str, Results], policy: ComparePolicy) -> None:
    from assay.core.errors import UsageError

    if policy.policy == "paired" and all(r.harness == SCORES for r in sides.values()):
        raise UsageError(
            "two score files hold no samples to pair",
            allowed="tables or result folders",
            next="`--policy point`",
        )


def _policy(margin: float, alpha: float, policy: str) -> ComparePolicy:
    from pydantic import ValidationError

    from assay.core.errors import UsageError
    from assay.gates.compare import ComparePolicy

    values = {"policy": policy, "margin": margin, "threshold": margin}
    try:
        return ComparePolicy.model_validate({**values, "alpha_accept": alpha, "alpha_regress": alpha})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = {"alpha_accept": "alpha", "alpha_regress": "alpha", "threshold": "margin"}
        key = str(first["loc"][0])
        raise UsageError(
            f"--{name.get(key, key)} {first['input']!r} cannot be used: {first['msg']}",
            allowed="more than 0 and less than 1, such as 0.01 for 1 point of 100",
        ) from error


def _print_json(
    verdict: Verdict, baseline: Path, candidate: Path, notes: tuple[str, ...], out: Path | None
) -> None:
    from assay.cli.gate import as_json

    more: dict[str, Any] = {"inputs": {"baseline": str(baseline), "candidate": str(candidate)}}
    if out is not None:
        more["picture"] = str(out)
    click.echo(json.dumps(as_json(verdict, notes=list(notes), **more), indent=2))
