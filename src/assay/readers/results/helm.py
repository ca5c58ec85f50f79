"""HELM: a run's folder with `run_spec.json`, `stats.json` and `per_instance_stats.json`.

Answers and prompts lie in `scenario_state.json`, which may be left away; token counts and finish reasons are
statistics of each instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput
from assay.core.evidence import Artifact
from assay.core.results import Results, RunStatus, SampleState, TaskResult
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
    plain,
    read_bytes,
    row_digest,
    some,
    text,
)
from assay.readers.results.metrics import scale_of
from assay.readers.results.rows import Columns, cluster_of, identity

SPEC, STATS, ROWS, STATE = (
    "run_spec.json",
    "stats.json",
    "per_instance_stats.json",
    "scenario_state.json",
)
PREFERRED = (
    "exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match", "f1_score",
    "final_number_exact_match", "chain_of_thought_correctness", "math_equiv_chain_of_thought", "math_equiv",
    "ifeval_strict_accuracy", "omni_math_accuracy", "wildbench_score", "rouge_2", "bleu_4",
)  # fmt: skip
FINISH = {"finish_reason_length": "length", "finish_reason_stop": "stop", "finish_reason_endoftext": "stop"}
_NO_PROTOCOL = ("model", "model_deployment", "max_eval_instances", "eval_splits")


class Helm:
    """Reader of a run's folder, or of a suite's folder of runs."""

    name = "helm"

    def claims(self, source: Source) -> bool:
        """See `Harness.claims`."""
        if not source.is_dir:
            return False
        folders = {f.parent for f in source.named(SPEC)}
        return any(f.parent in folders for f in source.named(STATS, ROWS, STATE))

    def read(self, source: Source, asked: Asked) -> Results:
        """See `Harness.read`."""
        pins: list[Artifact] = []
        tasks: list[TaskResult] = []
        protocol: dict[str, Any] = {"harness": "helm"}
        for file in source.named(SPEC):
            spec = _load(file, pins)
            if not isinstance(spec, dict):
                continue
            task = _task(file.parent, spec, asked, pins)
            tasks.append(task)
            protocol |= _protocol(spec, task)
        if not tasks:
            raise UnreadableInput("no run of HELM", where=str(source.path))
        return Results(
            subject=asked.subject,
            harness=self.name,
            tasks=tuple(tasks),
            protocol=protocol,
            measurements=measured(tasks),
            artifacts=tuple(pins),
        )


def _load(file: Path, pins: list[Artifact]) -> Any:
    data = read_bytes(file)
    pins.append(artifact(file, data))
    return parse_json(data, str(file))


def _task(folder: Path, spec: Mapping[str, Any], asked: Asked, pins: list[Artifact]) -> TaskResult:
    name = _name(spec, folder)
    stats = _load(folder / STATS, pins) if (folder / STATS).is_file() else None
    rows = _load(folder / ROWS, pins) if (folder / ROWS).is_file() else None
    state = _load(folder / STATE, pins) if (folder / STATE).is_file() else None
    errors = [f"{f} is missing" for f, v in ((STATS, stats), (ROWS, rows)) if v is None]
    means = _means(listed(stats))
    wanted = asked.metrics.get(name)
    if wanted is not None and wanted not in means:
        raise UnreadableInput(
            f"task {clip(name)!r} has no metric {clip(wanted)!r}", allowed=", ".join(map(clip, means))
        )
    metric = wanted or next((m for m in PREFERRED if m in means), "")
    raw = means.get(metric)
    if number(raw) is None:
        errors.append(f"its score is {clip(repr(raw))}, not a finite number")
    scale = scale_of(metric, raw, task=name, table=asked.table)
    columns = _rows(listed(rows), metric, _requests(state))
    instances = len(listed(state, "request_states"))
    limit = count(mapping(spec, "adapter_spec").get("max_eval_instances"))
    trials = count(mapping(spec, "adapter_spec").get("num_train_trials")) or 1
    return TaskResult(
        task=name,
        metric=metric,
        status=RunStatus.SUCCESS if means else RunStatus.FAILED,
        score=number(raw),
        low=scale.low,
        high=scale.high,
        direction=scale.direction,
        scale_source=scale.source,
        expected=_expected(asked, name, metric, instances, _evaluated(listed(stats), trials), limit),
        errors=some(errors),
        samples=columns.samples(),
    )


def _name(spec: Mapping[str, Any], folder: Path) -> str:
    """The run's name without the model: both sides must have the same."""
    whole = text(spec.get("name") or folder.name)
    scenario, _, arguments = whole.partition(":")
    kept = [a for a in arguments.split(",") if a and not a.startswith(("model=", "model_deployment="))]
    return f"{scenario}:{','.join(kept)}" if kept else scenario


def _expected(
    asked: Asked, name: str, metric: str, requested: int, evaluated: int | None, limit: int | None
) -> int | None:
    known = asked.table.find(metric, name)
    if known is not None and known.rows is not None:
        return known.rows
    if requested:
        return requested
    return evaluated if evaluated is not None else limit


def _evaluated(stats: list[Any], trials: int) -> int | None:
    """HELM counts the instances of a run itself."""
    for stat in stats:
        name = mapping(stat, "name")
        if name.get("name") == "num_instances" and not name.get("perturbation"):
            mean = number(mapping(stat).get("mean"))
            return None if mean is None else count(round(mean) * trials)
    return None


def _means(stats: list[Any]) -> dict[str, Any]:
    """Metric → mean over the test split, without perturbations."""
    found: dict[str, Any] = {}
    for stat in stats:
        name = mapping(stat, "name")
        if name.get("perturbation") or name.get("split") not in (None, "test", "valid"):
            continue
        if name.get("split") == "valid" and text(name.get("name")) in found:
            continue
        found[text(name.get("name"))] = mapping(stat).get("mean")
    return found


class _Request(dict[str, Any]):
    """What one request asked and got."""


def _requests(state: Any) -> dict[tuple[str, int], _Request]:
    found: dict[tuple[str, int], _Request] = {}
    for entry in listed(state, "request_states"):
        key = (
            identity(mapping(entry, "instance").get("id")),
            count(mapping(entry).get("train_trial_index")) or 0,
        )
        result = mapping(entry, "result")
        first = mapping(next(iter(listed(result, "completions")), None))
        found[key] = _Request(
            prompt=mapping(entry, "request").get("prompt") or mapping(entry, "instance", "input").get("text"),
            reference=mapping(entry, "instance").get("references"),
            answer=first.get("text"),
            finish=mapping(first, "finish_reason").get("reason"),
            failed=result.get("success") is False,
            there=bool(result),
        )
    return found


def _rows(rows: list[Any], metric: str, requests: dict[tuple[str, int], _Request]) -> Columns:
    columns = Columns()
    for row in rows:
        if not isinstance(row, dict) or row.get("perturbation"):
            continue
        key = (identity(row.get("instance_id")), count(row.get("train_trial_index")) or 0)
        values = dict(_values(row))
        request = requests.get(key, _Request())
        score = number(values.get(metric))
        state = SampleState.SCORED
        if request.get("failed") or (requests and not request.get("there")):
            state = SampleState.INFRA_FAILURE
        elif score == 0 and request.get("answer") == "":
            state = SampleState.MODEL_FAILURE
        finish = request.get("finish") or next((word for k, word in FINISH.items() if values.get(k)), "")
        columns.add(
            key[0],
            repeat=key[1],
            prompt=row_digest([request.get("prompt"), request.get("reference")]) if request else "",
            score=score,
            state=state,
            output=row_digest(request.get("answer")) if request else "",
            tokens=count(values.get("num_output_tokens", values.get("num_completion_tokens"))),
            finish_reason=text(finish, 60),
            cluster=cluster_of(row),
        )
    return columns


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for stat in listed(row, "stats"):
        if not mapping(stat, "name").get("perturbation"):
            yield text(mapping(stat, "name").get("name")), mapping(stat).get("mean")


def _protocol(spec: Mapping[str, Any], task: TaskResult) -> dict[str, Any]:
    name = f"task.{task.task}"
    adapter = mapping(spec, "adapter_spec")
    facts: dict[str, Any] = {
        f"{name}.metric": task.metric,
        f"{name}.scenario": row_digest(spec.get("scenario_spec")),
        f"{name}.metrics": row_digest(spec.get("metric_specs")),
        "model_name": plain(adapter.get("model_deployment") or adapter.get("model")),
    }
    limit = count(adapter.get("max_eval_instances"))
    facts[f"{name}.max_eval_instances"] = limit
    bites = limit is not None and len(task.samples) >= limit
    facts[f"{name}.limit"] = limit if bites else None
    for key, value in adapter.items():
        if key not in _NO_PROTOCOL:
            facts |= flat(f"{name}.{text(key)}", value)
    return facts
