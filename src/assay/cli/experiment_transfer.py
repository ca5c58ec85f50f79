"""Experiments out (JSON, CSV, the older layout, a bundle) and in (the older layout)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput, UsageError
from assay.core.experiment import Experiment
from assay.core.experiment_result import primary_of
from assay.core.vocabulary import Provenance
from assay.readers.training import is_experiment, iter_rows, read_any, read_experiments, read_registry
from assay.readers.training.imported import ImportedRun, read_runs
from assay.readers.training.lines import parse_object, read_bytes, read_lines, regular
from assay.readers.training.zo import numbered, read_zo
from assay.runtime.files import copy_tree, digest_file, explaining, files_of, write_atomic, write_json
from assay.track import registry
from assay.track.experiments import mint
from assay.track.files import append_event
from assay.track.status import OLD_EVENTS, OLD_KEYS

ENTRY_FILE = "zo_entry.json"
"""An experiment's entry of the older registry.json, as it was taken over."""
FIXED = ("event", "attempt", "step", "epoch", "t", "timestamp")
ROW_KEYS = (
    "timestamp", "event", "experiment_id", "experiment_name", "epoch", "total_epochs", "metrics", "learning_rate",
    "checkpoint_path", "wall_time_seconds", "gpu_memory_mb", "config",
)  # fmt: skip
"""Keys of an event of the older metrics.jsonl."""
ENDED_WELL = frozenset({"FINISHED", "COMPLETED", "EXIT 0"})
ENDED_BADLY = frozenset({"FAILED", "KILLED", "CRASHED"})
"""Words of other trackers; any other word, and none, means that nobody knows."""
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def json_lines(folder: Path) -> Iterator[str]:
    """All that is known, as one document."""
    found = read_any(folder, digests=True)
    yield json.dumps({"schema": "experiment/1", **found.to_json()}, indent=2, allow_nan=False) + "\n"


def csv_lines(folder: Path) -> Iterator[str]:
    """The rows that count, one column a metric and signal; a non-finite value stands as its word."""
    metrics: dict[str, None] = {}
    signals: dict[str, None] = {}
    for row in iter_rows(folder):
        metrics |= dict.fromkeys(n for n in (*row.metrics, *row.nonfinite) if n not in row.signals)
        signals |= dict.fromkeys(row.signals)
    signals = {s: None for s in signals if s not in metrics}
    yield _csv([*FIXED, *metrics, *signals])
    for row in iter_rows(folder):
        values: dict[str, Any] = {**row.signals, **row.metrics, **row.nonfinite}
        fixed = [row.kind, row.attempt, row.step, row.epoch, row.t, row.timestamp]
        yield _csv([*fixed, *(values.get(n) for n in (*metrics, *signals))])


def _csv(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(["" if c is None else c for c in cells])
    return line.getvalue()


def put(lines: Iterable[str], out: Path | None) -> None:
    """Write to a file, or to stdout.

    Raises:
        UsageError, ComponentFailed: if the file cannot be written.
    """
    if out is None:
        for line in lines:
            sys.stdout.write(line)
        return
    with explaining(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f".{out.name}.part")
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        aside.replace(out)


def write_bundle(folder: Path, out: Path, *, checkpoints: bool) -> None:
    """A zip of the experiment's files with MANIFEST.json: the digest of each, and the verdict on them.

    Raises:
        UsageError: if the file exists.
        UnreadableInput: if the folder holds links that lead out of it.
    """
    from assay.gates.training import TrainingGate

    if out.exists():
        raise UsageError("already exists", where=str(out), next="name a file that does not exist yet")
    found = read_any(folder, digests=True)
    verdict = TrainingGate().judge({"experiment": found})
    root = folder.resolve()
    names = [
        p for p in files_below(folder) if checkpoints or "checkpoints" not in p.relative_to(root).parts[:1]
    ]
    manifest = {
        "schema": "experiment-bundle/1",
        "experiment": found.id,
        "evidence_digest": found.content_digest,
        "verdict": verdict.to_json(),
        "files": [
            {"name": p.relative_to(root).as_posix(), "bytes": p.stat().st_size, "sha256": digest_file(p)}
            for p in names
        ],
    }
    with explaining(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f".{out.name}.part")
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as bundle:
            text = json.dumps(manifest, indent=2, allow_nan=False)
            bundle.writestr(zipfile.ZipInfo(f"{found.id}/MANIFEST.json", ZIP_TIME), text)
            for path in names:
                info = zipfile.ZipInfo(f"{found.id}/{path.relative_to(root).as_posix()}", ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                with path.open("rb") as source, bundle.open(info, "w", force_zip64=True) as target:
                    while piece := source.read(1 << 20):
                        target.write(piece)
        aside.replace(out)


def files_below(folder: Path) -> tuple[Path, ...]:
    """Files of an experiment but pointers and what is hidden.

    Raises:
        UnreadableInput: if it holds links that lead out of it.
    """
    root = folder.resolve()
    found: list[Path] = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            found += [p for child in sorted(path.iterdir()) if not child.is_symlink() for p in _files(child)]
        elif path.is_file():
            found.append(path)
    return tuple(found)


def _files(path: Path) -> tuple[Path, ...]:
    return files_of(path) if path.is_dir() else ((path,) if path.is_file() else ())


def write_zo(root: Path, out: Path, only: Sequence[str] | None) -> list[str]:
    """Experiments in the older layout: registry.json v1, CHECKLIST.md, and per experiment its files with the old keys.

    Raises:
        UsageError: if the target is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError("not empty", where=str(out), next="name a folder that does not exist yet")
    known = registry.derive(root, parse_object(read_bytes(root / "registry.json") or b"") or {})
    entries = [e for e in known["experiments"] if only is None or e["id"] in only]
    with explaining(out):
        for entry in entries:
            target = out / str(entry["id"])
            target.mkdir(parents=True)
            _old_files(root / str(entry["id"]), target)
        document = {**known, "experiments": entries}
        write_json(out / "registry.json", document)
        (out / "CHECKLIST.md").write_text(registry.checklist(document), encoding="utf-8")
    return [str(e["id"]) for e in entries]


def _old_files(folder: Path, target: Path) -> None:
    for name in ("hypothesis.md", "config.yaml", "result.md", "diagnosis.md", "next.md"):
        data = read_bytes(folder / name)
        if data is not None:
            (target / name).write_bytes(data)
    status = parse_object(read_bytes(folder / "training_status.json") or b"")
    if status is not None:
        kept = {k: status[k] for k in OLD_KEYS if k in status}
        write_json(target / "training_status.json", _strict(kept))
    if regular(folder / "metrics.jsonl"):
        with (target / "metrics.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in _old_rows(folder))


def _old_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The old events as they stand; evaluations stand in where the script told no epochs."""
    has_epochs = any(row.kind == "epoch_end" for row in iter_rows(folder))
    for row in iter_rows(folder):
        if row.kind in OLD_EVENTS:
            yield {k: _strict(row.fields.get(k)) for k in ROW_KEYS if k in row.fields}
        elif row.kind == "evaluation" and not has_epochs:
            epoch = row.epoch if row.epoch is not None else row.step
            known = {"timestamp": row.timestamp, "event": "epoch_end", "experiment_id": folder.name}
            yield {**known, "epoch": epoch, "metrics": row.metrics, "wall_time_seconds": row.t}


def _strict(value: Any) -> Any:
    """Without NaN: an older reader would take it, a strict one not."""
    if isinstance(value, float) and value - value != 0.0:
        return None
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    return [_strict(v) for v in value] if isinstance(value, list) else value


def take_over(source: Path, root: Path) -> dict[str, Any]:
    """Copy experiments of the older layout, keeping ids and bytes, and begin a record of each.

    Returns:
        `imported` and `there` (ids), `left_out` (id → why).

    Raises:
        UnreadableInput: if the source holds no such experiments.
        UsageError: if an id is taken by another experiment; then nothing was copied.
    """
    if not source.is_dir():
        raise UnreadableInput("no such folder", where=str(source), allowed="an existing .zo/experiments")
    source = source / ".zo" / "experiments" if (source / ".zo" / "experiments").is_dir() else source
    entries, problems = read_registry(source)
    folders = {p.name: p for p in numbered(source) if not is_experiment(p)}
    order = [*(n for n in entries if n in folders), *(n for n in folders if n not in entries)]
    if not order:
        why = str(problems[0]) if problems else "no folder exp-NNN of the older layout"
        raise UnreadableInput(why, where=str(source), allowed="an existing .zo/experiments")
    marks = {name: _mark(folders[name]) for name in order}
    there = [name for name in order if _taken_over(root / name, marks[name])]
    taken = [name for name in order if name not in there and (root / name).exists()]
    if taken:
        raise UsageError(
            f"{', '.join(taken[:5])} already exist as other experiments",
            where=str(root),
            next="import into an empty root: `assay experiment import DIR --root OTHER`",
        )
    left_out = {n: "its folder is missing" for n in entries if n not in folders}
    made: list[str] = []
    for name in order:
        if name in there:
            continue
        try:
            _take(folders[name], root / name, entries.get(name), marks[name])
            made.append(name)
        except UnreadableInput as error:
            left_out[name] = str(error)
    return {"imported": made, "there": there, "left_out": left_out}


def _mark(folder: Path) -> str:
    """Digest over names and bytes of the texts and rows: what makes it the same experiment."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if regular(p) and not p.name.startswith(".")):
        whole.update(f"{path.name}\0{digest_file(path)}\0".encode())
    return "sha256:" + whole.hexdigest()


def _taken_over(folder: Path, mark: str) -> bool:
    first = next(iter(read_lines(folder / "events.jsonl")), None)
    record = parse_object(first.data) if first is not None else None
    return record is not None and record.get("source_digest") == mark


def _take(source: Path, target: Path, entry: Mapping[str, Any] | None, mark: str) -> None:
    found = read_zo(source, entry)
    copy_tree(source, target)
    if entry is not None:
        write_json(target / ENTRY_FILE, dict(entry))
    config = read_bytes(target / "config.yaml")
    with explaining(target):
        for event, attempt, fields in _events(found, entry or {}, mark, config):
            append_event(target, event, attempt, {**fields, "provenance": Provenance.SELF_REPORTED.value})


def _events(
    found: Experiment, entry: Mapping[str, Any], mark: str, config: bytes | None
) -> Iterator[tuple[str, int | None, dict[str, Any]]]:
    """The record that the files support: each event says that it is self-reported and when it was said to happen."""
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}" if config is not None else ""
    about = {"experiment": found.id, "name": found.name, "parent": found.parent or None, "phase": found.phase}
    plan = _plan(found)
    yield (
        "created",
        None,
        {**about, "plan": plan, "config_digest": digest, "source_digest": mark, "recorded": found.created},
    )
    if found.hypothesis is not None and found.hypothesis.digest:
        text = found.hypothesis.text
        yield "hypothesis", None, {"digest": f"sha256:{found.hypothesis.digest}", "text": text}
    for attempt in found.attempts:
        known = {
            "command": None,
            "pid": None,
            "host": "",
            "boot_id": "",
            "hypothesis_digest": "",
            "config_digest": "",
        }
        yield "attempt_started", attempt.number, {**known, "recorded": attempt.started}
        if attempt.training_reason:
            metrics = {m.name: m.value for m in attempt.final_metrics}
            yield (
                "training_ended",
                attempt.number,
                {
                    "reason": attempt.training_reason,
                    "final_metrics": metrics,
                    "recorded": attempt.training_ended,
                },
            )
        outcome = "exited" if attempt.training_reason else "lost"
        yield "attempt_ended", attempt.number, {"outcome": outcome, "exit_code": None}
    primary = primary_of(found)
    if primary is not None and primary.metric.value is not None:
        yield "result", None, _result(found, primary.metric.name, primary.metric.value)
    word = str(entry.get("status") or "")
    kind = {"complete": "completed", "failed": "failed", "aborted": "aborted"}.get(word)
    if kind is not None:
        yield kind, None, {"reason": f"as registry.json said: {word}"}


def _plan(found: Experiment) -> dict[str, Any]:
    """Nothing of a plan is known but the name of the metric that the result gives."""
    primary = primary_of(found)
    return {"primary_metric": {"name": primary.metric.name}} if primary is not None else {}


def _result(found: Experiment, name: str, value: float) -> dict[str, Any]:
    secondary = found.result.secondary if found.result is not None else ()
    listed = found.recorded_result.get("shortfalls")
    return {
        "digest": f"sha256:{found.result.digest}" if found.result is not None else None,
        "primary": {"name": name, "value": value},
        "metrics": {m.name: m.value for m in secondary if m.value is not None},
        "tier": None,
        "claimed_tier": found.result.claimed_tier
        if found.result
        else found.recorded_result.get("claimed_tier"),
        "shortfalls": list(found.result.shortfalls) if found.result is not None else listed or [],
    }


def take_runs(tool: str, source: Path, root: Path) -> dict[str, Any]:
    """Make an experiment of each run that another tracker recorded: rows and configuration, self-reported.

    Returns:
        `imported` (new ids), `there` (ids of runs that were taken over before), `left_out` (run → why).

    Raises:
        UnreadableInput, UsageError: see `readers.training.imported.read_runs`.
        ComponentFailed: if the disk does not take it.
    """
    runs = read_runs(tool, source)
    known = {str(e.events[0].fields.get("source_run")): e.id for e in read_experiments(root) if e.events}
    made: list[str] = []
    there: list[str] = []
    left_out: dict[str, str] = {}
    for run in runs:
        mark = f"{tool}:{run.project}:{run.id}"
        if mark in known:
            there.append(known[mark])
        elif not run.rows:
            left_out[run.name or run.id] = "; ".join(run.problems) or "it holds no values"
        else:
            made.append(_take_run(run, root, mark))
    return {"imported": made, "there": there, "left_out": left_out}


def _take_run(run: ImportedRun, root: Path, mark: str) -> str:
    with explaining(root):
        folder = mint(root)
        rows = (json.dumps({**_strict(dict(row)), "attempt": 1}, allow_nan=False) + "\n" for row in run.rows)
        write_atomic(folder / "metrics.jsonl", "".join(rows).encode())
        digest = ""
        if run.config:
            write_json(folder / "config.yaml", _strict(dict(run.config)))
            digest = digest_file(folder / "config.yaml")
        about: dict[str, Any] = {
            "experiment": folder.name,
            "name": run.name,
            "parent": None,
            "phase": run.project or "train",
            "plan": {},
        }
        origin = {
            "config_digest": digest,
            "source_run": mark,
            "recorded": run.started,
            "tags": dict(run.tags),
        }
        ended = run.state.upper() in ENDED_WELL
        events: list[tuple[str, int | None, dict[str, Any]]] = [
            ("created", None, {**about, **origin}),
            (
                "attempt_started",
                1,
                {"command": None, "pid": None, "host": "", "boot_id": "", "recorded": run.started},
            ),
        ]
        if ended:
            events.append(
                ("training_ended", 1, {"reason": "completed", "final_metrics": {}, "recorded": run.ended})
            )
        outcome = "exited" if ended else "crashed" if run.state.upper() in ENDED_BADLY else "lost"
        events.append(("attempt_ended", 1, {"outcome": outcome, "exit_code": None, "said": run.state}))
        events += [("note", None, {"text": problem}) for problem in run.problems]
        for event, attempt, fields in events:
            append_event(folder, event, attempt, {**fields, "provenance": Provenance.SELF_REPORTED.value})
    return folder.name
