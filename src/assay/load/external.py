"""Other load tools in our place: run one as a child process, and read its requests as if they were ours.

Their figures are made by their own clocks and counters, so they are `self_reported`, and they cost what they cost:
6 to 14 s a call before the first request.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, ComponentMissing, UnreadableInput
from assay.core.load import Length, LoadPoint, PointPlan, RequestError, RequestRecord, ServiceLevels, Workload
from assay.core.ports import Component, Endpoint, Session, Target
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass, Provenance
from assay.load.evidence import load_evidence
from assay.load.reply import http_error
from assay.load.summary import Circumstances, summarize
from assay.runtime.files import artifact

POLL_S = 0.5
MOST_BYTES = 1 << 30
_STATUS = re.compile(r"(?<!\d)([45]\d\d)(?!\d)")


class ToolOptions(Noun):
    """What the load tools have in common."""

    points: tuple[PointPlan, ...] = Field(min_length=1)
    """Load points; the tool is started once for each."""
    workload: Workload = Workload()
    service_levels: ServiceLevels = ServiceLevels()
    tokenizer: SpecPath | None = None
    """Folder with a tokenizer, which these tools need to make prompts; null = the target's own folder."""
    python: SpecPath | None = None
    """Interpreter that has the tool installed; null = the one that runs Assay."""
    extra_args: tuple[str, ...] = ()
    """Further flags, at the end of the command line."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Each run is ended after this long; null = only by the study's budget."""

    @model_validator(mode="after")
    def _within_what_tools_can(self) -> Self:
        """Refuse here what would otherwise be measured differently from what was asked."""
        workload = self.workload
        if workload.turns > 1 or workload.shared_prefix_frac:
            raise ValueError("several turns and shared prefixes: use kind `load`")
        if any(p.arrivals.kind == "trace" for p in self.points):
            raise ValueError("traces: use kind `load`")
        lengths = (workload.prompt_tokens, workload.output_tokens)
        if any(length.kind not in ("fixed", "normal") for length in lengths):
            raise ValueError("lengths other than fixed and normal: use kind `load`")
        return self


class ToolAdapter:
    """An evaluate adapter around one tool; a subclass says how it is called and what it leaves.

    Args:
        options: of the kind.
    """

    kind: str
    module: str
    """Python module that must be importable for it."""
    install: str

    def __init__(self, options: ToolOptions) -> None:
        self.options = options

    @property
    def python(self) -> str:
        """The interpreter that has the tool."""
        return self.options.python or sys.executable

    def command(self, plan: PointPlan, endpoint: Endpoint, tokenizer: str, out: Path, seed: int) -> list[str]:
        """The command line of one point."""
        raise NotImplementedError

    def environment(self, workdir: Path) -> dict[str, str]:
        """Added to its environment: caches go where the other files of the step are."""
        return {"XDG_CACHE_HOME": str(workdir / "cache"), "PYTHONUNBUFFERED": "1"}

    def read(self, out: Path, plan: PointPlan) -> tuple[str, list[RequestRecord], list[Path]]:
        """Version of the tool, the requests, and the files they were read from.

        Raises:
            UnreadableInput: if the files are not what the tool writes.
        """
        raise NotImplementedError

    def check(self) -> Component:
        """Whether the tool is there, without importing it."""
        if self.options.python is not None:
            found = shutil.which(self.options.python) is not None
            return self._component("ready" if found else "missing", f"in {self.options.python}")
        from importlib.util import find_spec  # noqa: PLC0415

        if find_spec(self.module) is None:
            detail = f"{self.module} is not installed: {self.install}, in an environment of its own"
            return self._component("missing", detail)
        return self._component("ready", "")

    def protocol(self) -> Mapping[str, Any]:
        """Everything that decides what is asked."""
        options = self.options
        return {
            "harness": self.kind,
            "workload": options.workload.content_digest,
            "points": [p.to_json() for p in options.points],
            "extra_args": "\0".join(options.extra_args),
        }

    def evaluate(self, target: Target, session: Session) -> Any:
        """Run the tool once for each point and read what it left.

        Raises:
            ComponentMissing: if the tool is not there.
            ComponentFailed: if it fails, or leaves nothing that can be read.
        """
        if target.endpoint is None:
            raise ComponentFailed(
                f"{self.kind} needs a served target",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                next="add a `serve:` to the step",
            )
        points: list[LoadPoint] = []
        files: list[Path] = []
        version = ""
        for number, plan in enumerate(self.options.points):
            out = session.workdir / f"{self.kind}-{number}"
            shutil.rmtree(out, ignore_errors=True)  # an earlier attempt's files are not this one's
            out.mkdir(parents=True)
            session.note(f"{self.kind}: {plan.arrivals.text}", number / len(self.options.points))
            run = self._run(target, target.endpoint, plan, out, session)
            try:
                version, records, read = self.read(out, plan)
            except UnreadableInput as error:
                raise self._failed(f"its output cannot be used: {error}", run) from error
            files += read
            points.append(self.point(plan, records))
        return load_evidence(
            target.name,
            f"{self.kind} {version}".strip(),
            self.options.workload,
            self.options.service_levels,
            points,
            artifacts=tuple(artifact(file) for file in files),
            facts={"engine": target.endpoint.engine, "engine_version": target.endpoint.engine_version},
            provenance=Provenance.SELF_REPORTED,
        )

    def point(self, plan: PointPlan, records: Sequence[RequestRecord]) -> LoadPoint:
        """The records of one run as a load point."""
        wall = max((r.end_s for r in records if r.end_s is not None), default=0.0)
        circumstances = Circumstances(
            plan=plan,
            started=datetime.now(UTC).isoformat(),
            wall_s=wall,
            stopped_by="requests" if plan.requests is not None else "duration",
            offered_rps=plan.arrivals.rate_rps,
        )
        return summarize(records, self.options.service_levels, circumstances)

    def _run(self, target: Target, endpoint: Endpoint, plan: PointPlan, out: Path, session: Session) -> Run:
        tokenizer = self.options.tokenizer or target.path
        if not Path(tokenizer).is_dir():
            raise ComponentFailed(
                f"{self.kind} needs the folder of a tokenizer to make prompts",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where=str(tokenizer),
                next="name one with `tokenizer`",
            )
        limits = [t for t in (self.options.timeout_s, session.remaining_s()) if t is not None]
        environment = self.environment(session.workdir)
        key = os.environ.get(str(endpoint.facts.get("api_key_env") or ""))
        work = Work(
            label=f"{self.kind} {target.name} {out.name}",
            command=(
                *self.command(plan, endpoint, str(tokenizer), out, session.seed),
                *self.options.extra_args,
            ),
            env={**environment, "OPENAI_API_KEY": key} if key else environment,
            cwd=str(session.workdir),
            log=str(session.workdir / f"{out.name}.log"),
            timeout_s=max(0.1, min(limits)) if limits else None,
        )
        run = _wait(session, work)
        if run.exit_code != 0:
            if "No module named" in run.log_tail:
                raise ComponentMissing(
                    f"{self.module} is not installed", where=self.python, next=f"`{self.install}`"
                )
            raise self._failed(f"it ended with exit code {run.exit_code}", run)
        return run

    def _failed(self, what: str, run: Run) -> ComponentFailed:
        return ComponentFailed(
            f"{self.kind} failed: {what}",
            failure_class=FailureClass.BUDGET_EXHAUSTED if run.timed_out else FailureClass.UNKNOWN,
            where=self.kind,
            next=f"read {run.log}",
            log_tail=run.log_tail,
        )

    def _component(self, state: str, detail: str) -> Component:
        return Component(verb="evaluate", kind=self.kind, state=state, detail=detail)


def _wait(session: Session, work: Work) -> Run:
    """Run the work to its end; whatever interrupts us ends it."""
    handle = session.execute.submit(work)
    try:
        while (run := session.execute.poll(handle, POLL_S)).wall_s is None:
            pass
    except BaseException:
        session.execute.cancel(handle)
        raise
    return run


def read_document(path: Path, parse: Callable[[Any], Any] = json.loads) -> Any:
    """A tool's file, parsed.

    Raises:
        UnreadableInput: if it is missing, too large, or cannot be parsed.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnreadableInput("larger than 1 GiB", where=str(path))
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableInput(f"cannot be read: {str(error)[:200]}", where=str(path)) from error


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if good else None


def count(value: Any) -> int | None:
    """A count, or None. Nanoseconds of a wall clock stay exact: they are beyond what a float holds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 1 << 63 else None
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def tool_error(text: str) -> RequestError:
    """The class of a failure that a tool tells in words."""
    match = _STATUS.search(text)
    if match:
        return http_error(int(match[1]), text.encode())[0]
    lowered = text.lower()
    for words, error in (
        (("timeout", "timed out"), RequestError.TIMEOUT),
        (("disconnected", "reset", "closed"), RequestError.RESET),
        (("connect", "refused"), RequestError.CONNECT),
    ):
        if any(word in lowered for word in words):
            return error
    return RequestError.OTHER


def spread(length: Length) -> int:
    """Standard deviation of a length in whole tokens."""
    return round(length.spread) if length.kind == "normal" else 0
