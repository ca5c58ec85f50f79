"""NeMo Evaluator Launcher 0.2: `<invocation>/<task>/{artifacts,logs}` with `artifacts/results.yml`.

The launcher calls a job a success when its process ended well, even if the artifacts are bad. Here the exit
code, the statistics of the responses and the rows of the harness inside are looked at.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact, Measurement
from assay.core.results import Results, RunStatus, Samples, TaskResult
from assay.readers.results.harness import (
    Asked,
    Source,
    artifact,
    clip,
    count,
    flat,
    mapping,
    number,
    parse_json,
    plain,
    read_bytes,
    some,
    text,
    times,
)
from assay.readers.results.lm_eval import LmEval
from assay.readers.results.metrics import scale_of
from assay.readers.results.nemo_skills import OUTPUT, output_rows

RESULTS_FILE = "results.yml"
STATS_FILE = "eval_factory_metrics.json"
TRUNCATED = frozenset({"length", "max_tokens", "model_length"})
MAX_YAML_BYTES = 8 * 2**20
MAX_NODES = 1_000_000
_EXIT = re.compile(r"(-?\d{1,6})\s*$")
_STAGES = ("stage.exit", "stage.running", "stage.pre-start")
_NOT_ASKED = ("parallelism", "request_timeout", "max_retries", "timeout")
_AVERAGE = re.compile(r"avg[-_]of[-_](\d{1,6})")


class _Score(NamedTuple):
    """One number of `results.yml`."""

    metric: str
    score: str
    value: Any
    stats: Mapping[str, Any]

    @property
    def flat(self) -> str:
        """Metric and score as the flat names of the exporters have them."""
        parts = [self.metric] if self.metric == self.score else [self.metric, self.score]
        joined = "_".join(parts).replace("pass@", "pass_at_")
        return re.sub(r"[^0-9A-Za-z.\-]+", "_", joined).strip("_")


class NemoLauncher:
    """Reader of an invocation's folder, of one job's, or of a `results.yml`."""

    name = "nemo_launcher"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.is_dir:
            return source.path.name == RESULTS_FILE or _looks_so(source.head)
        return any(_looks_so(Source(f).head) for f in source.named(RESULTS_FILE)) or bool(
            source.named(*_STAGES)
        )

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        pins: list[Artifact] = []
        tasks: list[TaskResult] = []
        protocol: dict[str, Any] = {"harness": "nemo_launcher"}
        facts: dict[str, Any] = {"http_status": {}}
        shares: list[Measurement] = []
        for job in _jobs(source):
            document = _document(job.results, pins) if job.results else {}
            stats = _stats(job.artifacts, pins)
            found = list(_tasks(job, document, stats, asked, pins))
            tasks += found
            for task in found:
                protocol |= _protocol(document, task)
                facts["http_status"] |= _http(stats, task.task)
                shares += _truncated(stats, task.task)
        if not tasks:
            raise UnreadableInput("no results of the NeMo Evaluator Launcher", where=str(source.path))
        return Results(
            subject=asked.subject,
            harness=self.name,
            harness_version=text(protocol.pop("git_hash", None) or ""),
            tasks=tuple(tasks),
            protocol=protocol,
            measurements=(
                *(
                    Measurement.of(
                        f"{t.task}/{t.metric}", t.score, low=t.low, high=t.high, direction=t.direction
                    )
                    for t in tasks
                ),
                *shares,
            ),
            artifacts=tuple(pins),
            facts={key: value for key, value in facts.items() if value},
        )


class _Job(NamedTuple):
    """One job: the folder of its artifacts, and where it stands."""

    name: str
    artifacts: Path
    results: Path | None
    status: RunStatus
    why: str = ""


def _looks_so(head: bytes) -> bool:
    text_ = head.decode("utf-8", "replace")
    return bool(re.search(r"^results:", text_, re.MULTILINE)) and bool(
        re.search(r"^\s+(?:tasks|groups):", text_, re.MULTILINE)
    )


def _jobs(source: Source) -> Iterator[_Job]:
    if not source.is_dir:
        yield _Job(source.path.parent.name, source.path.parent, source.path, RunStatus.SUCCESS)
        return
    folders = {
        f.parent.parent if f.parent.name == "artifacts" else f.parent for f in source.named(RESULTS_FILE)
    }
    folders |= {f.parent.parent for f in source.named(*_STAGES) if f.parent.name == "logs"}
    for folder in sorted(folders):
        artifacts = folder / "artifacts" if (folder / "artifacts").is_dir() else folder
        results = artifacts / RESULTS_FILE
        status, why = _ended(folder / "logs")
        name = re.sub(r"^.*?\.", "", folder.name) or folder.name
        yield _Job(name, artifacts, results if results.is_file() else None, status, why)


def _ended(logs: Path) -> tuple[RunStatus, str]:
    """By the launcher's own marks; without any, a results file counts as the sign of an end."""
    try:
        if (logs / "stage.exit").is_file():
            match = _EXIT.search((logs / "stage.exit").read_bytes()[-200:].decode("utf-8", "replace"))
            code = int(match[1]) if match else None
            if code == 0:
                return RunStatus.SUCCESS, ""
            killed = code is not None and (code < 0 or code in (130, 137, 143))
            return (RunStatus.KILLED if killed else RunStatus.FAILED), f"the job ended with exit code {code}"
        if (logs / "stage.running").is_file():
            return RunStatus.RUNNING, "the job has not ended: preempted ones are not taken up by themselves"
        if (logs / "stage.pre-start").is_file():
            return RunStatus.PENDING, "the job has not started"
    except OSError as error:
        return RunStatus.UNKNOWN, f"its logs cannot be read: {clip(error)}"
    return RunStatus.SUCCESS, ""


def _document(file: Path, pins: list[Artifact]) -> Mapping[str, Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - only for this harness
    from ruamel.yaml.error import YAMLError, YAMLWarning  # noqa: PLC0415

    data = read_bytes(file, MAX_YAML_BYTES)
    pins.append(artifact(file, data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)  # an anchor twice is odd, and no reason to print
            document = YAML(typ="safe", pure=True).load(data)
    except (
        YAMLError,
        ValueError,
        RecursionError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
    ) as error:
        # ruamel 0.18 lets these through for tags and dates that it cannot make anything of
        why = clip(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UnreadableInput(f"no YAML document: {why}", where=str(file)) from error
    _bounded(document, file)
    if not isinstance(document, dict):
        raise UnreadableInput("no results of the NeMo Evaluator Launcher", where=str(file))
    return document


def _bounded(document: Any, file: Path) -> None:
    """Aliases make a small file into a large tree: count what a walk would meet."""
    waiting, seen = [document], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            raise UnreadableInput(f"a document of more than {MAX_NODES:,} values", where=str(file))
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | set | tuple):
            waiting.extend(value)


def _stats(artifacts: Path, pins: list[Artifact]) -> Mapping[str, Any]:
    file = artifacts / STATS_FILE
    if not file.is_file():
        return {}
    data = read_bytes(file)
    pins.append(artifact(file, data))
    return mapping(parse_json(data, str(file)), "response_stats")


def _tasks(
    job: _Job, document: Mapping[str, Any], stats: Mapping[str, Any], asked: Asked, pins: list[Artifact]
) -> Iterator[TaskResult]:
    tasks = mapping(document, "results", "tasks") or mapping(document, "results", "groups")
    if not tasks:
        status = job.status if job.status is not RunStatus.SUCCESS else RunStatus.FAILED
        why = job.why or "its results.yml is missing or holds no task"
        yield TaskResult(task=text(job.name), metric="", status=status, errors=(why,))
    for name, entry in tasks.items():
        scores = list(_scores(entry))
        params = mapping(document, "config", "params")
        yield _task(text(name), scores, params, stats, job, asked, pins)


def _scores(entry: Any) -> Iterator[_Score]:
    for metric, about in mapping(entry, "metrics").items():
        for score, value in mapping(about, "scores").items():
            yield _Score(text(metric), text(score), mapping(value).get("value"), mapping(value, "stats"))


def _task(
    name: str,
    scores: list[_Score],
    params: Mapping[str, Any],
    stats: Mapping[str, Any],
    job: _Job,
    asked: Asked,
    pins: list[Artifact],
) -> TaskResult:
    repeats = count(mapping(params, "extra").get("num_repeats"))
    chosen = _chosen(name, scores, repeats, asked)
    errors = [job.why] if job.why else []
    if number(chosen.value) is None:
        errors.append(f"its score is {clip(repr(chosen.value))}, not a finite number")
    scale = scale_of(chosen.flat, chosen.value, task=name, table=asked.table)
    samples, more = _rows(name, chosen, job.artifacts, asked, pins)
    known = asked.table.find(chosen.flat, name)
    average = _AVERAGE.search(chosen.flat)
    repeated = repeats or (int(average[1]) if average else 1)
    entries = _entries(scores, chosen)
    limit = count(params.get("limit_samples"))
    items = known.samples if known and known.samples else entries
    expected = limit if limit is not None else items
    scored = count(chosen.stats.get("count")) or times(entries, repeated)
    if scored is None and not len(samples):
        scored = count(stats.get("successful_count"))
    return TaskResult(
        task=name,
        metric=chosen.flat,
        status=job.status,
        score=number(chosen.value),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=times(expected, repeated),
        scored=None if len(samples) else scored,
        errors=some([*errors, *more]),
        samples=samples,
    )


def _chosen(task: str, scores: list[_Score], repeats: int | None, asked: Asked) -> _Score:
    """What was asked for; else what the metric table knows of the task, over the agreed number of repeats."""
    wanted = asked.metrics.get(task)
    if wanted is not None:
        for score in scores:
            if wanted in (score.flat, f"{task}_{score.flat}", score.metric, f"{score.metric}/{score.score}"):
                return score
        raise UnreadableInput(
            f"task {clip(task)!r} has no metric {clip(wanted)!r}",
            allowed=", ".join(clip(s.flat) for s in scores),
        )

    def rank(score: _Score) -> tuple[int, int, int]:
        row = asked.table.find(score.flat, task)
        average = _AVERAGE.search(score.flat)
        agreed = repeats or (row.repeats if row else None)
        known = row is not None and row.samples is not None
        return (
            not known,
            not (average and agreed and int(average[1]) == agreed),
            "no_answer" in score.flat or "std" in score.flat or "num_entries" in score.flat,
        )

    if not scores:
        return _Score("", "", None, {})
    return min(scores, key=rank)


def _entries(scores: list[_Score], chosen: _Score) -> int | None:
    for score in scores:
        if score.score == "num_entries" and score.metric == chosen.metric:
            return count(score.value)
    return next((count(s.value) for s in scores if s.score == "num_entries"), None)


def _rows(
    task: str, chosen: _Score, artifacts: Path, asked: Asked, pins: list[Artifact]
) -> tuple[Samples, list[str]]:
    """The rows of the harness that ran inside, where it left any."""
    metric = chosen.score
    for folder in (artifacts / "eval-results" / task, artifacts / task, artifacts):
        if folder.is_dir() and any(OUTPUT.fullmatch(f.name) for f in folder.iterdir()):
            samples, errors, going_on = output_rows(folder, metric, pins)
            return samples, [*errors, *(["the run inside has not ended"] if going_on else [])]
    inner = Source(artifacts)
    reader = LmEval()
    if reader.claims(inner):
        found = reader.read(inner, asked)
        pins += found.artifacts
        row = found.task(task)
        if row is not None:
            return row.samples, list(row.errors)
    return Samples(), []


def _protocol(document: Mapping[str, Any], task: TaskResult) -> dict[str, Any]:
    name = f"task.{task.task}"
    config = mapping(document, "config")
    params = mapping(config, "params")
    facts: dict[str, Any] = {
        f"{name}.metric": task.metric,
        f"{name}.type": plain(config.get("type")),
        f"{name}.limit": plain(params.get("limit_samples")),
        "git_hash": plain(document.get("git_hash")),
    }
    for key, value in params.items():
        if key not in (*_NOT_ASKED, "limit_samples", "extra"):
            facts |= flat(f"{name}.sampling.{text(key)}", value)
    for key, value in mapping(params, "extra").items():
        where = "judge" if "judge" in text(key) else "extra"
        facts |= flat(f"{name}.{where}.{text(key)}", _without_secrets(value))
    endpoint = mapping(document, "target", "api_endpoint")
    facts["model_name"] = plain(endpoint.get("model_id"))
    for key in ("type", "adapter_config"):
        if endpoint.get(key) is not None:
            facts |= flat(f"endpoint.{key}", endpoint[key])
    return facts


def _without_secrets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        k: _without_secrets(v)
        for k, v in value.items()
        if not re.search(r"key|token|secret|url", text(k), re.IGNORECASE)
    }


def _http(stats: Mapping[str, Any], task: str) -> dict[str, Any]:
    codes = {text(k, 10): count(v) for k, v in mapping(stats, "status_codes").items()}
    known = {k: v for k, v in codes.items() if v is not None}
    return {task: known} if known else {}


def _truncated(stats: Mapping[str, Any], task: str) -> list[Measurement]:
    reasons = {text(k): count(v) or 0 for k, v in mapping(stats, "finish_reason").items()}
    total = sum(reasons.values())
    if total <= 0:
        return []
    cut = sum(n for reason, n in reasons.items() if reason in TRUNCATED)
    return [Measurement.of(f"{task}/truncated_frac", cut / total, low=0.0, high=1.0, n=total)]
