"""The protocol between an adapter and a worker: a job file in, progress on stdout, a result file out.

A worker is started as ``PYTHON quantize_KIND.py JOB.json``. The job file holds::

    {"source": dir, "out": dir, "result": path, "options": {...}, "seed": 0, "threads": 1}

While it runs, stdout carries one JSON object a line, ``{"progress": 0..1, "message": "..."}``, and nothing
else: what the vendor prints goes to stderr. The ending is always written to ``result``::

    {"ok": true, "vendor": {...}, "seconds": s, "notes": [...], ...}                             exit 0
    {"ok": false, "error": one line, "error_type": ..., "failure_class": ..., "traceback": ...}  exit 1

``PYTHON quantize_KIND.py --probe`` prints the vendor's versions without importing it.

Standard library only: the interpreter that runs this has no `assay`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT_SCHEMA = "assay.worker-result/1"
STAGING_NAME = ".partial"
TRACEBACK_CHARS = 20_000
ERROR_CHARS = 600

MODEL_UNSUPPORTED = "MODEL_UNSUPPORTED"
QUANT_COVERAGE_FAILURE = "QUANT_COVERAGE_FAILURE"
USER_CONFIG_ERROR = "USER_CONFIG_ERROR"
INFRA_TRANSIENT = "INFRA_TRANSIENT"
UNKNOWN = "UNKNOWN"

# What travels with a checkpoint unchanged. Weights are the toolkit's, config.json is merged key by key, and a
# model card or a training report speaks about the source, so it stays there.
COMPANION_FILE = re.compile(
    r"^(tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|.*\.(model|tiktoken|py)"
    r"|chat_template.*|generation_config\.json|.*processor_config\.json|(LICENSE|NOTICE|USE_POLICY).*)$"
)
COMPANION_FOLDER = "additional_chat_templates"


class JobError(Exception):
    """A refusal with a known cause: the message is written for the person who reads the result."""

    def __init__(self, message: str, failure_class: str) -> None:
        super().__init__(message)
        self.failure_class = failure_class


@dataclass(frozen=True)
class Option:
    """One entry of ``job["options"]``."""

    name: str
    """Key in the job file."""
    kind: str
    """``int``, ``float``, ``str``, ``bool``, ``names`` (a list of strings) or ``path`` (made absolute)."""
    default: Any
    """Value when the key is missing or null."""
    help: str
    """One sentence for the error message and the documentation."""
    choices: tuple[str, ...] = ()
    """The closed set of values; empty means open."""
    minimum: float | None = None
    """Smallest number allowed."""


@dataclass(frozen=True)
class Worker:
    """What a script declares about itself."""

    kind: str
    """Name of the toolkit, as adapters call it."""
    packages: tuple[str, ...]
    """Distributions needed, the first one being the toolkit itself."""
    options: tuple[Option, ...]
    """Every option it knows; others are refused."""
    run: Callable[[Job], None]
    """Does the work: reads ``job.source``, writes into ``job.staging``."""
    failures: tuple[tuple[str, str], ...] = ()
    """(regular expression over "Type: message", failure_class) for errors that the vendor raises."""
    extra_packages: tuple[str, ...] = ()
    """Distributions whose version is worth recording, but which may be absent."""


@dataclass
class Job:
    """One validated job, handed to :attr:`Worker.run`."""

    source: Path
    out: Path
    options: dict[str, Any]
    seed: int
    threads: int
    emit: Callable[[float, str], None]
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Further keys of the result file."""

    @property
    def staging(self) -> Path:
        """Folder inside ``out`` where unfinished files lie until all of them are written."""
        return self.out / STAGING_NAME


def main(worker: Worker, argv: Sequence[str] | None = None) -> int:
    """Run one job file (or ``--probe``) and return the exit status: 0 done, 1 failed, 2 wrong usage."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--probe"]:
        print(json.dumps(probe(worker)))
        return 0
    if len(args) != 1 or args[0].startswith("-"):
        print(f"usage: {Path(sys.argv[0]).name} JOB.json | --probe", file=sys.stderr)
        return 2
    with _vendor_output_on_stderr() as emit:
        return _run_file(worker, Path(args[0]), emit)


def probe(worker: Worker) -> dict[str, Any]:
    """Say which vendor versions this interpreter has; reads metadata only, so it costs milliseconds."""
    versions, missing = _versions(worker.packages)
    extra, _ = _versions(worker.extra_packages)
    return {
        "kind": worker.kind,
        "vendor": {**versions, **extra},
        "missing": missing,
        "python": platform.python_version(),
    }


def _versions(packages: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    missing: list[str] = []
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return found, missing


@contextlib.contextmanager
def _vendor_output_on_stderr() -> Iterator[Callable[[float, str], None]]:
    """Keep stdout for progress lines: file descriptor 1 points to stderr while the vendor may print."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    before = os.dup(1)
    os.dup2(2, 1)

    def emit(progress: float, message: str) -> None:
        line = json.dumps({"progress": round(min(1.0, max(0.0, progress)), 4), "message": message})
        # A reader that has gone away must not end the work it asked for: the result file is what counts.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=ours, flush=True)

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield emit
    finally:
        os.dup2(before, 1)
        os.close(before)
        with contextlib.suppress(BrokenPipeError):
            ours.close()


def _run_file(worker: Worker, path: Path, emit: Callable[[float, str], None]) -> int:
    started = time.monotonic()
    result_path: Path | None = None
    try:
        raw = _read_job(path)
        result_path = Path(raw["result"]).absolute()
        job = _validated(worker, raw, emit)
        _prepare_process(job)
        _require_packages(worker)
        _execute(worker, job)
    except Exception as exc:  # noqa: BLE001  (every ending leaves a result file)
        result = _failure(worker, exc)
        result["seconds"] = round(time.monotonic() - started, 3)
        print(result["traceback"], file=sys.stderr)
        if result_path is None:
            print(f"error: {result['error']}", file=sys.stderr)
            return 1
        write_json(result_path, result)
        return 1
    result = {
        "schema": RESULT_SCHEMA,
        "ok": True,
        "kind": worker.kind,
        "vendor": probe(worker)["vendor"],
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - started, 3),
        # ru_maxrss is in KiB on Linux.
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in job.options.items()},
        "notes": job.notes,
        **job.extra,
    }
    write_json(result_path, result)
    emit(1.0, "done")
    return 0


def _read_job(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise JobError(f"cannot read the job file {path}: {exc.strerror}", USER_CONFIG_ERROR) from exc
    except ValueError as exc:
        raise JobError(f"the job file {path} is not JSON: {exc}", USER_CONFIG_ERROR) from exc
    if not isinstance(raw, dict) or not isinstance(raw.get("result"), str):
        raise JobError(f'the job file {path} must be an object with "result": a path', USER_CONFIG_ERROR)
    return raw


def _validated(worker: Worker, raw: Mapping[str, Any], emit: Callable[[float, str], None]) -> Job:
    known = {"source", "out", "result", "options", "seed", "threads"}
    if unknown := sorted(set(raw) - known):
        raise JobError(f"unknown job keys {unknown}; known: {sorted(known)}", USER_CONFIG_ERROR)
    for key in ("source", "out"):
        if not isinstance(raw.get(key), str):
            raise JobError(f'job key "{key}" must be a path', USER_CONFIG_ERROR)
    source, out = Path(raw["source"]).absolute(), Path(raw["out"]).absolute()
    if not (source / "config.json").is_file():
        raise JobError(f"{source} is not a checkpoint folder: it has no config.json", USER_CONFIG_ERROR)
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise JobError(f"out ({out}) must lie outside source ({source})", USER_CONFIG_ERROR)
    return Job(
        source=source,
        out=out,
        options=validate_options(worker, raw.get("options") or {}),
        seed=_whole_number(raw, "seed", 0, 0),
        threads=_whole_number(raw, "threads", 1, 1),
        emit=emit,
    )


def _whole_number(raw: Mapping[str, Any], key: str, default: int, minimum: int) -> int:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise JobError(
            f'job key "{key}" must be a whole number >= {minimum}, not {value!r}', USER_CONFIG_ERROR
        )
    return value


def validate_options(worker: Worker, given: Any) -> dict[str, Any]:
    """Check ``job["options"]`` against what the worker declares and fill in the defaults.

    Raises:
        JobError: USER_CONFIG_ERROR for an unknown key, a wrong type or a value outside the allowed set.
    """
    if not isinstance(given, Mapping):
        raise JobError(f"options must be an object, not {type(given).__name__}", USER_CONFIG_ERROR)
    known = {option.name: option for option in worker.options}
    if unknown := sorted(set(given) - set(known)):
        allowed = ", ".join(f"{o.name} ({o.kind}, default {o.default!r})" for o in worker.options)
        raise JobError(f"unknown options {unknown} for {worker.kind}; allowed: {allowed}", USER_CONFIG_ERROR)
    return {
        name: option.default if given.get(name) is None else _checked(option, given[name])
        for name, option in known.items()
    }


def _checked(option: Option, value: Any) -> Any:
    names = isinstance(value, list) and all(isinstance(item, str) for item in value)
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "names": names,
        "path": isinstance(value, str),
    }[option.kind]
    if not fits:
        message = f'option "{option.name}" must be {option.kind}, not {value!r}: {option.help}'
        raise JobError(message, USER_CONFIG_ERROR)
    if option.minimum is not None and value < option.minimum:
        raise JobError(
            f'option "{option.name}" must be >= {option.minimum}, not {value!r}', USER_CONFIG_ERROR
        )
    if option.choices and value not in option.choices:
        allowed = ", ".join(option.choices)
        raise JobError(f'option "{option.name}" must be one of {allowed}; not {value!r}', USER_CONFIG_ERROR)
    return Path(value).absolute() if option.kind == "path" else value


def _prepare_process(job: Job) -> None:
    """Set what the vendor reads from the environment; it must happen before the vendor is imported."""
    os.environ.update(
        {
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            # A bar without a line end would swallow the progress line that follows it in a common log.
            "TQDM_DISABLE": "1",
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(job.threads)),
        }
    )
    # The toolkits compile small CPU kernels with torch.compile when they may: that needs a C++ compiler on
    # the machine, writes caches outside `out`, and costs more than it saves.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if job.threads > 1:
        # Spinning OpenMP threads collapse beside another busy process.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _require_packages(worker: Worker) -> None:
    _, missing = _versions(worker.packages)
    if missing:
        message = f"{', '.join(missing)} not installed for {sys.executable}: pip install {' '.join(missing)}"
        raise JobError(message, USER_CONFIG_ERROR)


def _execute(worker: Worker, job: Job) -> None:
    """Run the worker in a staging folder inside ``out``; publish everything, or leave ``out`` empty."""
    _clear_leftovers(job)
    job.staging.mkdir(parents=True)
    before = Path.cwd()
    # Whatever a vendor drops into the working directory stays inside `out`.
    os.chdir(job.staging)
    try:
        worker.run(job)
        os.chdir(before)
        _publish(job)
    except BaseException:
        os.chdir(before)
        shutil.rmtree(job.staging, ignore_errors=True)
        raise


def _clear_leftovers(job: Job) -> None:
    if not job.out.exists():
        return
    if not job.out.is_dir():
        raise JobError(f"out ({job.out}) is a file", USER_CONFIG_ERROR)
    if job.staging.exists():
        # An earlier attempt at this very job was killed: all that lies here is its unfinished work.
        for entry in job.out.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif any(job.out.iterdir()):
        raise JobError(f"out ({job.out}) is not empty: name a new folder", USER_CONFIG_ERROR)


def _publish(job: Job) -> None:
    """Move the finished files from staging into ``out``; staging goes last, so a kill between is seen."""
    files = sorted(path for path in job.staging.rglob("*") if path.is_file())
    for path in files:
        target = job.out / path.relative_to(job.staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        # transformers 5 writes weights with mode 0600: a server under another user could not read them.
        path.chmod(0o644)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        path.replace(target)
    shutil.rmtree(job.staging)
    job.extra["files"] = {
        str(path.relative_to(job.out)): path.stat().st_size
        for path in sorted(job.out.rglob("*"))
        if path.is_file()
    }


def copy_companions(job: Job) -> None:
    """Give the new checkpoint the source's own tokenizer, template and generation settings, byte for byte.

    A tokenizer that was used for calibration remembers its truncation and padding, so what a toolkit saves is
    not what the source shipped. Files that only the toolkit wrote (a generation_config.json the source never
    had) are removed: they are no part of the change that is judged.
    """
    ours = {path.name for path in job.source.iterdir() if path.is_file() and COMPANION_FILE.match(path.name)}
    for path in sorted(job.staging.iterdir()):
        if path.is_file() and COMPANION_FILE.match(path.name) and path.name not in ours:
            path.unlink()
            job.notes.append(f"removed {path.name}: the toolkit wrote it, the source has none")
    for name in sorted(ours):
        shutil.copyfile(job.source / name, job.staging / name)
    if (job.source / COMPANION_FOLDER).is_dir():
        shutil.copytree(job.source / COMPANION_FOLDER, job.staging / COMPANION_FOLDER, dirs_exist_ok=True)
    job.notes.append(f"copied byte for byte from the source: {', '.join(sorted(ours))}")


def merge_config(job: Job) -> None:
    """Write the source's config.json plus the vendor's quantization keys; note any other change."""
    source = read_json(job.source / "config.json")
    vendor = read_json(job.staging / "config.json")
    taken = {"quantization_config", "dtype", "torch_dtype"}
    drift = [
        key
        for key in sorted((set(source) | set(vendor)) - taken - {"transformers_version"})
        if key in vendor and source.get(key) != vendor[key]
    ]
    if drift:
        job.notes.append(
            f"config.json keys that the toolkit changed and that were put back: {', '.join(drift)}"
        )
    write_json(
        job.staging / "config.json",
        {**source, **{key: vendor[key] for key in sorted(taken) if key in vendor}},
    )


def require_unquantized(job: Job) -> None:
    """Refuse a source that is quantized already: a second quantization would be judged as the first.

    Raises:
        JobError: USER_CONFIG_ERROR when config.json declares a quantization.
    """
    declared = read_json(job.source / "config.json").get("quantization_config")
    if declared:
        method = declared.get("quant_method", "unknown") if isinstance(declared, dict) else "unknown"
        message = f"{job.source} is quantized already ({method}): start from the unquantized checkpoint"
        raise JobError(message, USER_CONFIG_ERROR)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise JobError(f"{path} must hold a JSON object", USER_CONFIG_ERROR)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, flush it to disk and rename it, so that a reader never sees half a file."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)


def read_rows(path: Path, limit: int) -> list[dict[str, Any]]:
    """Read calibration rows: JSON lines of ``{"messages": [...]}`` or ``{"text": "..."}``.

    Raises:
        JobError: USER_CONFIG_ERROR naming the line that is neither.
    """
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise JobError(f"cannot read calibration rows {path}: {exc.strerror}", USER_CONFIG_ERROR) from exc
    for number, line in enumerate(lines, 1):
        if len(rows) == limit:
            break
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not (
            isinstance(row.get("messages"), list) or isinstance(row.get("text"), str)
        ):
            message = f'{path}:{number}: a calibration row is {{"messages": [...]}} or {{"text": "..."}}'
            raise JobError(message, USER_CONFIG_ERROR)
        rows.append(row)
    if not rows:
        raise JobError(f"{path} holds no calibration row", USER_CONFIG_ERROR)
    return rows


def _failure(worker: Worker, exc: BaseException) -> dict[str, Any]:
    failure_class, message = classify(worker, exc)
    return {
        "schema": RESULT_SCHEMA,
        "ok": False,
        "kind": worker.kind,
        "vendor": probe(worker)["vendor"],
        "python": platform.python_version(),
        "error": message,
        "error_type": type(exc).__name__,
        "failure_class": failure_class,
        "traceback": "".join(traceback.format_exception(exc))[-TRACEBACK_CHARS:],
    }


def classify(worker: Worker, exc: BaseException) -> tuple[str, str]:
    """Give an exception its failure_class and a message of one line.

    A refusal of ours carries its class. The machine's faults (disk, memory) come next, as they hide inside
    any vendor exception, then a missing package, then the worker's own table of vendor messages.
    """
    text = _one_line(f"{type(exc).__name__}: {exc}")
    if isinstance(exc, JobError):
        return exc.failure_class, _one_line(str(exc))
    chain = list(_chain(exc))
    if any(_is_disk_full(link) for link in chain):
        return INFRA_TRANSIENT, _one_line(f"No space left on device: {text}")
    if any(_is_out_of_memory(link) for link in chain):
        return INFRA_TRANSIENT, _one_line(f"out of memory: {text}")
    for link in chain:
        if isinstance(link, ImportError):
            name = (link.name or "").partition(".")[0]
            message = f"{text}; in {sys.executable}: pip install {name or ' '.join(worker.packages)}"
            return USER_CONFIG_ERROR, _one_line(message)
    for pattern, failure_class in worker.failures:
        if any(re.search(pattern, f"{type(link).__name__}: {link}", re.DOTALL) for link in chain):
            return failure_class, text
    return UNKNOWN, text


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= ERROR_CHARS else line[: ERROR_CHARS - 1] + "…"


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _is_disk_full(exc: BaseException) -> bool:
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors raises its own type from Rust: only the text says which error of the system it was.
    # numpy reports a short write without its errno ("32768 requested and 17216 written").
    text = str(exc)
    return "No space left on device" in text or bool(re.fullmatch(r"\d+ requested and \d+ written", text))


def _is_out_of_memory(exc: BaseException) -> bool:
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return True
    return isinstance(exc, RuntimeError | OSError) and "allocate memory" in str(exc)
