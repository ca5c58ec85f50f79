"""inspect_ai 0.3: `.eval` archives and `.json` logs, of runs that ended well, badly, or not at all.

`success` is compatible with samples lost to errors, with unscored samples and with a limit, so each row is
looked at. A grader whose verdict could not be parsed leaves a score of NaN or "incorrect" with a tell-tale
explanation: that is the judge's failure and not the model's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.results import Results, RunStatus, SampleState, TaskResult
from assay.readers.results.archive import Archive
from assay.readers.results.harness import (
    Asked,
    Source,
    artifact,
    clip,
    count,
    flat,
    listed,
    mapping,
    measured,
    number,
    parse_json,
    pin,
    plain,
    read_bytes,
    row_digest,
    some,
    text,
    times,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, cluster_of, identity

GRADE_LOST = "Grade not found in model output"
"""How model_graded_* explain a verdict of the judge that they could not parse."""

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_JUDGED = re.compile(r"model_graded|judge|grader|rubric|llm", re.IGNORECASE)
_RUN_KEYS = ("epochs", "epochs_reducer", "message_limit", "token_limit", "time_limit", "working_limit")
_NOT_SAMPLING = ("max_connections", "max_retries", "timeout", "attempt_timeout", "cache_prompt")


class _Log(NamedTuple):
    """One log: its header, and its samples one after the other."""

    header: Mapping[str, Any]
    samples: Iterator[Any]
    where: Path


class InspectAI:
    """Reader of a log, or of a folder of logs: one log is one task."""

    name = "inspect_ai"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.is_dir:
            return _is_archive(source.head) or (source.holds_document() and _is_log(source.document))
        return any(_is_log_file(f) for f in _log_files(source))

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        files = _log_files(source) if source.is_dir else [source.path]
        newest: dict[str, tuple[str, TaskResult, dict[str, Any]]] = {}
        older: list[str] = []
        pins: list[Artifact] = []
        for file in files:
            if source.is_dir and not _is_log_file(file):
                continue
            created, task, protocol = _read_log(file, asked, pins)
            known = newest.get(task.task)
            if known is not None:
                older.append(file.name if created < known[0] else known[2]["_file"])
            if known is None or created >= known[0]:
                newest[task.task] = (created, task, {**protocol, "_file": file.name})
        if not newest:
            raise UnreadableInput("no log of inspect_ai", where=str(source.path))
        found = [newest[name] for name in sorted(newest)]
        facts: dict[str, Any] = {"older_runs": older} if older else {}
        protocol = _merged([p for _, _, p in found])
        models = sorted({m for p in protocol.pop("_answered", []) for m in p})
        if models:
            facts["answered_by"] = models
        return Results(
            subject=asked.subject,
            harness=self.name,
            harness_version=text(protocol.pop("inspect_ai", "") or ""),
            tasks=tuple(task for _, task, _ in found),
            protocol=protocol,
            measurements=measured([t for _, t, _ in found]),
            artifacts=tuple(pins),
            facts=facts,
        )


def _is_archive(head: bytes) -> bool:
    return head[:4] == b"PK\x03\x04" and (b"_journal/start.json" in head or b"header.json" in head)


def _is_log(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("eval"), dict)
        and "status" in document
        and ("task" in document["eval"] or "run_id" in document["eval"])
    )


def _log_files(source: Source) -> list[Path]:
    return [f for f in source.files if f.suffix in (".eval", ".json")]


def _is_log_file(file: Path) -> bool:
    """By its first bytes: a folder may hold other large files."""
    head = Source(file).head
    if file.suffix == ".eval":
        return head[:4] == b"PK\x03\x04"
    return b'"eval"' in head and b'"status"' in head and b'"run_id"' in head


def _read_log(file: Path, asked: Asked, pins: list[Artifact]) -> tuple[str, TaskResult, dict[str, Any]]:
    with file.open("rb") as opened:
        archived = opened.read(4) == b"PK\x03\x04"
    if not archived:
        data = read_bytes(file)
        document = parse_json(data, str(file))
        if not _is_log(document):
            raise UnreadableInput("no log of inspect_ai", where=str(file))
        pins.append(artifact(file, data))
        return _read(_Log(document, iter(listed(document, "samples")), file), asked)
    pins.append(pin(file))
    with Archive(file) as archive:
        return _read(_Log(_header(archive), _members(archive), file), asked)


def _header(archive: Archive) -> Mapping[str, Any]:
    """The header; of a run that was killed there is only what was written when it started."""
    for name, status in (("header.json", None), ("_journal/start.json", "started")):
        if name in archive.names:
            found = parse_json(archive.read(name), f"{archive.path}: {name}")
            if isinstance(found, dict) and isinstance(found.get("eval"), dict):
                return {**found, "status": status} if status else found
    raise UnreadableInput("an archive without a header: no log of inspect_ai", where=str(archive.path))


def _members(archive: Archive) -> Iterator[Any]:
    for name in archive.names:
        if name.startswith("samples/") and name.endswith(".json"):
            try:
                yield json.loads(archive.read(name))
            except (UnreadableInput, ValueError, RecursionError) as error:
                yield UnreadableInput(f"{name}: {clip(error)}")


def _read(log: _Log, asked: Asked) -> tuple[str, TaskResult, dict[str, Any]]:
    header, about = log.header, mapping(log.header, "eval")
    task = text(about.get("task") or log.where.stem)
    scorer, metric, raw, reducer = _chosen(header, asked.metrics.get(task))
    name = metric if not scorer or scorer == metric else f"{scorer}/{metric}"
    judged = bool(_JUDGED.search(scorer)) or bool(mapping(about, "model_roles"))
    columns, errors, answered = _rows(log.samples, scorer, judged=judged)
    status = RunStatus.of(header.get("status"))
    failure = mapping(header, "error").get("message")
    if failure:
        errors.insert(0, f"the run ended with an error: {clip(failure)}")
    if header.get("invalidated"):
        errors.append("the log was marked as invalidated")
    score = number(raw)
    if score is None and status is RunStatus.SUCCESS:
        errors.append(f"its score is {clip(repr(raw))}, not a finite number")
    scale = scale_of(name, raw, task=task, table=asked.table)
    if scale.source == "inferred" and metric in ("accuracy", "mean"):
        scale = scale_of(metric, raw, table=asked.table)
    logged = mapping(about, "config").get("log_samples") is not False
    scores = mapping(header, "results")
    result = TaskResult(
        task=task,
        metric=name if reducer in ("", "mean") else f"{name}[{reducer}]",
        status=status,
        score=score,
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=_expected(about),
        scored=None if logged else count(scores.get("completed_samples")),
        errors=some(errors),
        samples=columns.samples(),
    )
    protocol = _protocol(header, task, result.metric)
    return text(about.get("created") or ""), result, {**protocol, "_answered": [answered]}


def _chosen(header: Mapping[str, Any], wanted: str | None) -> tuple[str, str, Any, str]:
    """Scorer, metric, value and reducer: what was asked for (`scorer/metric` or `metric`), else the headline."""
    found: list[tuple[str, str, Any, str]] = []
    for entry in listed(header, "results", "scores"):
        for key, value in mapping(entry, "metrics").items():
            reducer = text(mapping(entry).get("reducer") or "")
            scorer = text(mapping(entry).get("name") or mapping(entry).get("scorer") or "")
            found.append((scorer, text(key), mapping(value).get("value"), reducer))
    if wanted is not None:
        for hit in found:
            if wanted in (f"{hit[0]}/{hit[1]}", hit[1]):
                return hit
        names = ", ".join(clip(f"{f[0]}/{f[1]}") for f in found)
        raise UnreadableInput(f"there is no metric {clip(wanted)!r}", allowed=names)
    headline = mapping(header, "results", "headline")
    for hit in found:
        if hit[0] == headline.get("scorer") and hit[1] == headline.get("metric"):
            return hit
    if found:
        return found[0]
    scorers = listed(header, "eval", "scorers")
    return (text(mapping(scorers[0]).get("name") or "") if scorers else "", "accuracy", None, "")


def _expected(about: Mapping[str, Any]) -> int | None:
    dataset = mapping(about, "dataset")
    epochs = count(mapping(about, "config").get("epochs")) or 1
    ids = dataset.get("sample_ids")
    items = len(ids) if isinstance(ids, list) and ids else count(dataset.get("samples"))
    return times(items, epochs)


def _rows(samples: Iterator[Any], scorer: str, *, judged: bool) -> tuple[Columns, list[str], frozenset[str]]:
    columns = Columns()
    errors: list[str] = []
    answered: set[str] = set()
    told: dict[str, int] = {}
    for sample in samples:
        if not isinstance(sample, dict):
            errors.append(f"a sample cannot be read: {clip(sample)}")
            continue
        failure = mapping(sample, "error").get("message")
        if failure:
            told[clip(failure)] = told.get(clip(failure), 0) + 1
        _add(columns, sample, scorer, judged=judged)
        model = mapping(sample, "output").get("model")
        if isinstance(model, str) and listed(sample, "output", "choices"):
            answered.add(text(model, 200))
    errors += [f"{n} samples ended with an error: {message}" for message, n in told.items()]
    return columns, errors, frozenset(answered)


def _add(columns: Columns, sample: Mapping[str, Any], scorer: str, *, judged: bool) -> None:
    score, lost_grade = _score(sample, scorer)
    limit = mapping(sample, "limit").get("type")
    choices = listed(sample, "output", "choices")
    stop = mapping(choices[0]).get("stop_reason") if choices else None
    state = SampleState.SCORED
    if sample.get("error"):
        state = SampleState.JUDGE_FAILURE if judged and choices else SampleState.INFRA_FAILURE
    elif lost_grade or (score is None and judged):
        state = SampleState.JUDGE_FAILURE
    elif score is None:
        state = SampleState.MISSING
    elif score == 0 and limit:
        state = SampleState.MODEL_FAILURE
    prompt = [
        [mapping(m).get("role"), mapping(m).get("content")] for m in _until_answer(listed(sample, "messages"))
    ] or sample.get("input")
    columns.add(
        identity(sample.get("id")),
        repeat=max(0, (count(sample.get("epoch")) or 1) - 1),
        prompt=row_digest([prompt, sample.get("target")]),
        score=score,
        state=state,
        output=row_digest(mapping(sample, "output").get("completion")),
        tokens=count(mapping(sample, "output", "usage").get("output_tokens")),
        finish_reason=f"limit:{text(limit, 40)}" if limit else text(stop or "", 40),
        cluster=cluster_of(sample.get("metadata")),
    )


def _until_answer(messages: list[Any]) -> list[Any]:
    asked = []
    for message in messages:
        if mapping(message).get("role") in ("assistant", "tool"):
            break
        asked.append(message)
    return asked


def _score(sample: Mapping[str, Any], scorer: str) -> tuple[float | None, bool]:
    """The row's value as a number, and whether the judge's verdict was lost."""
    scores = mapping(sample, "scores")
    entry = mapping(scores, scorer)
    if not entry:  # a scorer that gives several values names them in one score
        entry = next((mapping(s) for s in scores.values() if scorer in mapping(s, "value")), {})
    value = entry.get("value")
    if isinstance(value, dict):
        value = value.get(scorer)
    lost = text(entry.get("explanation") or "", 100).startswith(GRADE_LOST)
    if isinstance(value, bool):
        return float(value), lost
    if isinstance(value, str):
        word = value.strip()
        known = _LETTERS.get(word, _WORDS.get(word.lower()))
        if known is not None:
            return known, lost
        try:
            value = float(word)
        except ValueError:
            return None, lost
    return number(value), lost


def _protocol(header: Mapping[str, Any], task: str, metric: str) -> dict[str, Any]:
    """How it was measured; where files lie and how fast it went is no part of it."""
    about = mapping(header, "eval")
    config = mapping(about, "config")
    facts: dict[str, Any] = {"harness": "inspect_ai"}
    facts["inspect_ai"] = plain(mapping(about, "packages").get("inspect_ai"))
    facts["model_name"] = plain(about.get("model"))
    facts["limit"] = plain(config.get("limit"))
    name = f"task.{task}"
    facts[f"{name}.metric"] = metric
    facts[f"{name}.version"] = plain(about.get("task_version"))
    ids = mapping(about, "dataset").get("sample_ids")
    facts[f"{name}.dataset"] = row_digest([mapping(about, "dataset").get("name"), ids])
    facts[f"{name}.scorers"] = row_digest(about.get("scorers"))
    facts[f"{name}.solvers"] = row_digest([mapping(s, "params") for s in listed(header, "plan", "steps")])
    for key in _RUN_KEYS:
        if config.get(key) is not None:
            facts[f"{name}.{key}"] = plain(config[key])
    sampling = {**mapping(header, "plan", "config"), **mapping(about, "model_generate_config")}
    for key, value in sampling.items():
        if key not in _NOT_SAMPLING:
            facts |= flat(f"sampling.{text(key)}", value)
    for role, value in mapping(about, "model_roles").items():
        facts |= flat(f"judge.{text(role)}.model", mapping(value).get("model") or value)
    return facts


def _merged(protocols: list[dict[str, Any]]) -> dict[str, Any]:
    """One protocol of several logs: a key with two values becomes a key a log."""
    merged: dict[str, Any] = {"_answered": [a for p in protocols for a in p.pop("_answered")]}
    for protocol in protocols:
        file = protocol.pop("_file", "")
        task = next((k.split(".", 1)[1].rpartition(".")[0] for k in protocol if k.endswith(".metric")), file)
        for key, value in protocol.items():
            if key in merged and merged[key] != value:
                merged[f"{key}@{task}"] = value
            else:
                merged[key] = value
    return merged
