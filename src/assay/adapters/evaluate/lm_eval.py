"""Evaluate kind `lm_eval`: lm-evaluation-harness 0.4 as a child process, against a served target.

Only its files are read, never its output. `doctor` and the plan ask for its version without importing it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.canon import digest
from assay.core.errors import ComponentFailed, ComponentMissing, UnreadableInput
from assay.core.evidence import Evidence
from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.readers.results import read_results
from assay.readers.results.harness import flat
from assay.readers.results.lm_eval import NULL_CONTENT
from assay.readers.results.served import served
from assay.runtime.files import digest_file, files_of, write_json
from assay.runtime.work import run_to_end
from assay.runtime.worker import WORKERS

BATCH_POLL_S = 0.1
WORKER = WORKERS / "lm_eval_batches.py"
LOG_BYTES = 64 * 1024
INSTALL = 'pip install "assay[lm-eval]"'
_NEEDS = ("lm_eval", "aiohttp", "tenacity")
_PROGRESS = re.compile(rb"Requesting API:[^\r\n]*?\|\s*(\d+)/(\d+)\s*\[")
_ERROR_LINE = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt)\b.*|.*\berror: .*)$", re.MULTILINE)


class Options(Noun):
    """Options of `evaluate: {kind: lm_eval}`."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks or groups, as `--tasks` takes them."""
    include_path: SpecPath | None = None
    """Folder with task YAMLs of your own. Data files that they name are looked for beside them."""
    model: Literal["chat", "completions"] = "chat"
    """Which route of the server is asked. Tasks scored by likelihood need `completions`."""
    apply_chat_template: bool = True
    """Send messages, so that the server applies the model's own template. The chat route needs it."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples in the prompt; null = as the task says."""
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, Any] = Field(default_factory=dict)
    """Sampling that overrides the task's, such as `temperature`."""
    limit: int | None = Field(default=None, gt=0)
    """Samples per task; null = all. A limit must also be declared to the results gate."""
    metrics: Mapping[str, str] = Field(default_factory=dict)
    """Task → metric (`exact_match,strict-match`) to judge by; by default the first that the task lists."""
    expected: Mapping[str, int] = Field(default_factory=dict)
    """Task → samples that must come back; by default what lm-eval says the task has."""
    metric_table: SpecPath | None = None
    """YAML file of metrics (range, direction, samples, judge) laid over the table that comes with Assay."""
    num_concurrent: int = Field(default=8, ge=1)
    """Requests under way at once."""
    batch_size: int = Field(default=1, ge=1)
    """Prompts per request on the completions route."""
    max_retries: int = Field(default=3, ge=1)
    """Attempts per request."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds until a request is given up."""
    model_args: Mapping[str, Any] = Field(default_factory=dict)
    """More of lm-eval's `--model_args`, such as `tokenizer`; they win over ours."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    """Handed to tasks that ask for it (`--metadata`)."""
    seed: int | None = Field(default=None, ge=0)
    """One seed for all that lm-eval draws; null = lm-eval's own fixed ones."""
    offline: bool = True
    """Hugging Face libraries use their cache and the files named, and never the network."""
    python: SpecPath | None = None
    """Interpreter that has lm-eval installed; null = the one that runs Assay."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Ended after this long; null = only by the study's budget."""


class _Symptom(NamedTuple):
    """What a line of the log says went wrong."""

    pattern: re.Pattern[str]
    failure_class: FailureClass
    meaning: str
    next: str = ""


def _symptom(pattern: str, failure_class: FailureClass, meaning: str, next: str = "") -> _Symptom:
    return _Symptom(re.compile(pattern, re.IGNORECASE), failure_class, meaning, next)


_SYMPTOMS = (
    _symptom(
        r"loglikelihood is not supported for chat|Loglikelihood \(and therefore",
        FailureClass.USER_CONFIG_ERROR,
        "a task is scored by likelihood, which the chat route cannot give",
        "set `model: completions`",
    ),
    _symptom(
        r"tasks? (?:were |was )?not found|No such task|not in task list|Could not find task",
        FailureClass.USER_CONFIG_ERROR,
        "a task is unknown to lm-eval",
        "`lm-eval ls tasks --include_path FOLDER` lists what there is",
    ),
    _symptom(
        r"FileNotFoundError|Unable to find|DatasetNotFoundError|OfflineModeIsEnabled|Couldn't (?:find|reach)",
        FailureClass.USER_CONFIG_ERROR,
        "a data file or data set was not found",
        "check the paths in the task YAML; `offline: false` allows a download",
    ),
    _symptom(r"No space left on device", FailureClass.SYSTEMIC, "the disk is full"),
    _symptom(r"MemoryError|Cannot allocate memory", FailureClass.INFRA_TRANSIENT, "memory ran out"),
    _symptom(
        r"Status code: 40[13]|\b40[13],? (?:message=)?'?(?:Unauthorized|Forbidden)|40[13] Client Error",
        FailureClass.USER_CONFIG_ERROR,
        "the server refused the key",
        "put the key in OPENAI_API_KEY",
    ),
    _symptom(
        r"Status code: 429|Too Many Requests", FailureClass.INFRA_TRANSIENT, "the server limits the rate"
    ),
    _symptom(
        r"ClientConnector\w*Error|Connection ?Refused|ServerDisconnected|Connection ?Reset|ClientOSError"
        r"|Cannot connect to host|Remote end closed",
        FailureClass.DEPLOYMENT_HEALTH_FAILED,
        "the server went away",
    ),
    _symptom(
        r"Status code: (?:404|5\d\d)|[45]\d\d (?:Client|Server) Error|ClientResponseError",
        FailureClass.DEPLOYMENT_HEALTH_FAILED,
        "the server answered with an error",
    ),
    _symptom(
        r"TimeoutError|ReadTimeout|timed out",
        FailureClass.INFRA_TRANSIENT,
        "the server did not answer in time",
    ),
)


class Adapter:
    """lm-eval over HTTP."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether lm-eval is installed beside Assay; another interpreter is only looked for."""
        if self.options.python is not None:
            found = shutil.which(self.options.python) is not None
            detail = f"in {self.options.python}" if found else f"no interpreter at {self.options.python}"
            return _component("ready" if found else "missing", detail)
        missing = [name for name in _NEEDS if util.find_spec(name) is None]
        if missing:
            return _component("missing", f"{', '.join(missing)} not installed: {INSTALL}")
        return _component("ready", vendor={"lm_eval": _version()})

    def protocol(self) -> Mapping[str, Any]:
        """Every option that changes what is asked or how it is scored, and the digest of the task files."""
        asked = {
            "tasks", "model", "apply_chat_template", "num_fewshot", "system_instruction", "gen_kwargs",
            "limit", "metrics", "model_args", "metadata", "seed", "batch_size", "max_retries",
        }  # fmt: skip
        facts: dict[str, Any] = {"harness": "lm_eval", "task_files": self._task_files()}
        if self.options.metric_table is not None:
            facts["metric_table"] = digest_file(Path(self.options.metric_table))
        facts["lm_eval_version"] = self.options.python or _version()
        for key, value in self.options.model_dump(mode="json", include=asked).items():
            facts |= flat(key, value)
        return facts

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Run lm-eval to its end and read the files that it wrote.

        Raises:
            ComponentMissing: if lm-eval or its interpreter is not there.
            ComponentFailed: if it fails, with the class of what its log shows.
        """
        if target.endpoint is None:
            raise ComponentFailed(
                "lm_eval needs a served target",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                next="add a `serve:` to the step",
            )
        out = session.workdir / "results"
        shutil.rmtree(out, ignore_errors=True)  # an earlier attempt's files must not be taken for this one's
        out.mkdir(parents=True)
        log = self._run(target, target.endpoint, out, session)
        try:
            results = read_results(
                out, subject=target.name, harness="lm_eval", expected=self.options.expected,
                metrics=self.options.metrics, metric_table=self.options.metric_table,
            )  # fmt: skip
        except UnreadableInput as error:
            raise ComponentFailed(
                f"lm-eval ended well, but its results cannot be used: {error.what}",
                where="lm_eval",
                next=f"read {log}",
                log_tail=_tail(log).decode("utf-8", "replace")[-2000:],
            ) from error
        beyond = sorted({t.task for t in results.tasks} - set(target.samples or ()))
        if target.samples is not None and beyond:
            raise ComponentFailed(
                f"the study draws items, and lm-eval asked all of {', '.join(beyond[:5])}",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where="evaluate.tasks",
                next="name every task in `expected_samples`, a group by its parts, or remove it from `tasks`",
            )
        return served(results, target)

    def _run(self, target: Target, endpoint: Endpoint, out: Path, session: Session) -> Path:
        """Have lm-eval do it, in a process of its own or, for one batch of several, in one that stays; its log."""
        python = self.options.python or sys.executable
        flags = list(self._flags(target, endpoint, out))
        environment = self._environment(endpoint)
        limits = [t for t in (self.options.timeout_s, session.remaining_s()) if t is not None]
        limit_s = max(0.1, min(limits)) if limits else None
        session.note("lm-eval is loading its tasks")
        if target.samples is not None:
            key = f"lm_eval-{digest([python, environment])[7:15]}"
            batches = session.keep(key, lambda own: self._batches(python, environment, own))
            batches.ask(flags, limit_s, session)
            return batches.log
        work = Work(
            label=f"lm_eval {target.name}",
            command=(python, "-m", "lm_eval", "run", *flags),
            env=environment,
            cwd=str(self._working_folder() or session.workdir),
            log=str(session.workdir / "lm_eval.log"),
            timeout_s=limit_s,
        )
        run = run_to_end(session, work, _teller(Path(work.log), session))
        if run.exit_code != 0:
            raise _failure(run, Path(work.log), python)
        return Path(work.log)

    @contextmanager
    def _batches(self, python: str, environment: Mapping[str, str], session: Session) -> Iterator[_Batches]:
        """An lm-eval that waits for batches."""
        folder = session.workdir / "batches"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        work = Work(
            label="lm_eval in batches",
            command=(python, str(WORKER), str(folder.absolute())),
            env=environment,
            cwd=str(self._working_folder() or session.workdir),
            log=str(session.workdir / "lm_eval.log"),
        )
        handle = session.execute.submit(work)
        try:
            yield _Batches(session, handle, folder, Path(work.log), python)
        finally:
            session.execute.cancel(handle)

    def _flags(self, target: Target, endpoint: Endpoint, out: Path) -> Iterator[str]:
        options = self.options
        route, kind = {
            "chat": ("chat/completions", "local-chat-completions"),
            "completions": ("completions", "local-completions"),
        }[options.model]
        arguments: dict[str, Any] = {
            "model": endpoint.model,
            "base_url": f"{endpoint.base_url.rstrip('/')}/{route}",
            "num_concurrent": options.num_concurrent,
            "max_retries": options.max_retries,
            "timeout": options.request_timeout_s,
        }
        if options.model == "completions" and Path(target.path).is_dir():
            arguments |= {"tokenizer_backend": "huggingface", "tokenizer": target.path}
        yield from ("--model", kind, "--model_args", json.dumps(arguments | dict(options.model_args)))
        yield from ("--tasks", ",".join(options.tasks), "--output_path", str(out.absolute()), "--log_samples")
        yield from ("--batch_size", str(options.batch_size))
        if target.samples is not None:
            yield from ("--samples", json.dumps({t: list(asked) for t, asked in target.samples.items()}))
        if options.include_path is not None:
            yield from ("--include_path", str(Path(options.include_path).absolute()))
        if options.apply_chat_template:
            yield "--apply_chat_template"
        for flag, value in (
            ("--num_fewshot", options.num_fewshot),
            ("--system_instruction", options.system_instruction),
            ("--limit", options.limit),
            ("--seed", options.seed),
        ):
            if value is not None:
                yield from (flag, str(value))
        for flag, mapping in (("--gen_kwargs", options.gen_kwargs), ("--metadata", options.metadata)):
            if mapping:
                yield from (flag, json.dumps(dict(mapping)))

    def _environment(self, endpoint: Endpoint) -> dict[str, str]:
        environment = {
            "PYTHONSAFEPATH": "1",  # a file in the tasks folder must not shadow a module of lm-eval
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "LMEVAL_MODEL_NONE_ANSWER_PLACEHOLDER": NULL_CONTENT,
        }
        if self.options.offline:
            environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        key = os.environ.get(str(endpoint.facts.get("api_key_env", "")))
        return environment | {"OPENAI_API_KEY": key} if key else environment

    def _working_folder(self) -> Path | None:
        """Where the data files of the task YAMLs are found: lm-eval takes them relative to its own folder."""
        if self.options.include_path is None:
            return None
        folder = Path(self.options.include_path).absolute()
        if not folder.is_dir():
            raise ComponentFailed(
                "no such folder of tasks",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where=str(folder),
                next="correct `include_path`",
            )
        files = set(_data_files(folder))
        places = (folder, folder.parent, Path.cwd(), *sorted({y.parent for y in folder.rglob("*.yaml")}))
        return next((p for p in places if all(any(p.glob(f)) for f in files)), folder)

    def _task_files(self) -> str | None:
        """One digest over the files beside the task YAMLs; None without a folder of one's own."""
        if self.options.include_path is None:
            return None
        folder = Path(self.options.include_path)
        kept = [f for f in files_of(folder) if "__pycache__" not in f.parts]
        return digest([[f.relative_to(folder.resolve()).as_posix(), digest_file(f)] for f in kept])


class _Batches:
    """An lm-eval process that answers one batch after another; see `workers/lm_eval_batches.py`."""

    def __init__(self, session: Session, handle: str, folder: Path, log: Path, python: str) -> None:
        self._execute = session.execute
        self._handle = handle
        self._folder = folder
        self._python = python
        self._number = 0
        self.log = log

    def ask(self, flags: list[str], limit_s: float | None, session: Session) -> None:
        """Run one batch to its end.

        Raises:
            ComponentMissing, ComponentFailed: see `Adapter.evaluate`; the process is over then.
        """
        self._number += 1
        batch = self._folder / f"batch-{self._number}.json"
        write_json(batch, flags)
        deadline = None if limit_s is None else time.monotonic() + limit_s
        told = (0, 0)
        while not batch.with_suffix(".done").exists():
            run = self._execute.poll(self._handle, BATCH_POLL_S)
            if run.wall_s is not None:
                raise _failure(run, self.log, self._python)
            if deadline is not None and time.monotonic() > deadline:
                run = self._execute.cancel(self._handle)
                raise _failure(run.model_copy(update={"timed_out": True}), self.log, self._python)
            told = _tell_progress(self.log, told, session)


def _component(state: str, detail: str = "", vendor: Mapping[str, str] | None = None) -> Component:
    return Component(verb="evaluate", kind="lm_eval", state=state, detail=detail, vendor=vendor or {})


def _version() -> str:
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return ""


def _data_files(folder: Path) -> Iterator[str]:
    """Relative local data files that the YAMLs of a folder name."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - not needed unless a study evaluates
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    for file in sorted(folder.rglob("*.yaml")):
        try:
            config = YAML(typ="rt", pure=True).load(file.read_bytes())
        except (YAMLError, OSError, ValueError):
            continue  # lm-eval will say what is wrong with it, if it needs it
        arguments = config.get("dataset_kwargs") if isinstance(config, dict) else None
        named = arguments.get("data_files") if isinstance(arguments, dict) else None
        for value in named.values() if isinstance(named, dict) else [named]:
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and name and not name.startswith("/") and "://" not in name:
                    yield str(name)


def _teller(log: Path, session: Session) -> Callable[[], None]:
    """Says how many answers are in, whenever that is news."""
    told = (0, 0)

    def tell() -> None:
        nonlocal told
        told = _tell_progress(log, told, session)

    return tell


def _tell_progress(log: Path, told: tuple[int, int], session: Session) -> tuple[int, int]:
    """Say how many answers are in, if that is news."""
    now = _progress(log)
    if now != told and now[1]:
        what = "lm-eval is scoring" if now[0] == now[1] else f"{now[0]:,} of {now[1]:,} answers"
        session.note(what, now[0] / now[1])
    return now


def _progress(log: Path) -> tuple[int, int]:
    """Answers so far, and of how many; 0 of 0 before the first."""
    found = _PROGRESS.findall(_tail(log))
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


def _tail(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read()
    except OSError:
        return b""


def _failure(run: Run, log: Path, python: str) -> ComponentFailed | ComponentMissing:
    text = _tail(log).decode("utf-8", "replace") or run.log_tail
    missing = re.search(r"No module named '?([\w.]+)|pip install lm[-_]eval\[(?:api|\w+)\]", text)
    if missing:
        return ComponentMissing(
            f"{missing[1] or 'a part of lm-eval'} is not installed for {python}",
            where="lm_eval",
            next=f"`{INSTALL}`",
        )
    if run.timed_out:
        return ComponentFailed(
            "lm-eval was ended by the time limit",
            failure_class=FailureClass.BUDGET_EXHAUSTED,
            where="lm_eval",
            next=f"read {log}",
            log_tail=run.log_tail,
        )
    symptom = next((s for s in _SYMPTOMS if s.pattern.search(text)), None)
    lines = [line.strip() for line in _ERROR_LINE.findall(text)]
    telling = [line for line in lines if symptom and symptom.pattern.search(line)] or lines
    said = f": {telling[-1][:300]}" if telling else ""
    killed = run.exit_code is not None and run.exit_code < 0
    unknown = FailureClass.INFRA_TRANSIENT if killed else FailureClass.UNKNOWN
    return ComponentFailed(
        f"lm-eval failed, {symptom.meaning if symptom else f'exit code {run.exit_code}'}{said}",
        failure_class=symptom.failure_class if symptom else unknown,
        where="lm_eval",
        next=(symptom.next if symptom else "") or f"read {log}",
        log_tail=run.log_tail,
    )
