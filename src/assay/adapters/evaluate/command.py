"""Evaluate kind `command`: any harness that writes results which Assay reads.

`{base_url}`, `{model}`, `{path}`, `{name}`, `{out}`, `{seed}` and `{samples}` are filled in; there is no shell.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun, SpecPath
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.evidence import Evidence
from assay.core.ports import Component, Session, Target
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.readers.results import read_results
from assay.readers.results.served import served
from assay.runtime import asking
from assay.runtime.files import digest_file
from assay.runtime.work import run_to_end


class Options(Noun):
    """Options of `evaluate: {kind: command}`."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments. `{base_url}` (up to `/v1`), `{model}`, `{path}` (the checkpoint), `{name}`,
    `{out}` (an empty folder), `{seed}` and `{samples}` are replaced: the last is a JSON file, task → indices of the
    items to ask, for a study that evaluates in batches (`sequential`)."""
    results: str = "."
    """Where the results lie, relative to `{out}`; may be a glob of which one match is expected, and may
    use the same placeholders."""
    harness: str | None = None
    """Reader of the results; null = found by their content."""
    expected: Mapping[str, int] = Field(default_factory=dict)
    """Task → samples that must come back."""
    metrics: Mapping[str, str] = Field(default_factory=dict)
    """Task → metric to judge by, where the harness computes several."""
    metric_table: SpecPath | None = None
    """YAML file of metrics (range, direction, samples, judge) laid over the table that comes with Assay."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the environment."""
    version: str = ""
    """What you call this version of the harness; both sides must be measured with one."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Ended after this long; null = only by the study's budget."""


class Adapter:
    """Runs the user's own harness."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program is on this machine."""
        detail = asking.missing(self.options.command[0])
        return Component(
            verb="evaluate", kind="command", state="missing" if detail else "ready", detail=detail
        )

    def protocol(self) -> Mapping[str, Any]:
        """The command before anything is filled in, and the version that the user gave it."""
        return {
            "harness": self.options.harness or "command",
            "command": "\0".join(self.options.command),
            "results": self.options.results,
            "version": self.options.version,
            **{f"expected.{task}": n for task, n in sorted(self.options.expected.items())},
            **{f"metrics.{task}": metric for task, metric in sorted(self.options.metrics.items())},
            **({"metric_table": digest_file(Path(table))} if (table := self.options.metric_table) else {}),
        }

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Run the command and read what it left under `{out}`.

        Raises:
            ComponentMissing: if the program is not there.
            ComponentFailed: if it ends with another exit code than 0, or leaves no results.
        """
        out = session.workdir / "out"
        shutil.rmtree(out, ignore_errors=True)  # an earlier attempt's files must not be taken for this one's
        out.mkdir(parents=True)
        values = self._values(target, out, session)
        limits = [t for t in (self.options.timeout_s, session.remaining_s()) if t is not None]
        work = Work(
            label=f"evaluate {target.name}",
            command=tuple(asking.filled(part, values) for part in self.options.command),
            env=self.options.env,
            cwd=str(session.workdir),
            log=str(session.workdir / "evaluate.log"),
            timeout_s=max(0.1, min(limits)) if limits else None,
        )
        session.note(f"running {work.command[0]}")
        run = run_to_end(session, work)
        if run.exit_code != 0:
            raise _failed(f"it ended with exit code {run.exit_code}", run)
        try:
            found = _only(out, asking.filled(self.options.results, values))
            results = read_results(
                found,
                subject=target.name,
                harness=self.options.harness,
                expected=self.options.expected,
                metrics=self.options.metrics,
                metric_table=self.options.metric_table,
            )
        except UnreadableInput as error:
            raise _failed(f"its results cannot be used: {error}", run) from error
        return served(results, target, {"command_version": self.options.version})

    def _values(self, target: Target, out: Path, session: Session) -> Mapping[str, str]:
        endpoint = target.endpoint
        if target.samples is not None and not any("{samples}" in part for part in self.options.command):
            raise ComponentFailed(
                "the study evaluates in batches, and the command does not say which items to ask",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where="evaluate command",
                next="name `{samples}` in it, or remove `sequential`",
            )
        listed = session.workdir / "samples.json"
        listed.write_text(json.dumps(target.samples), encoding="utf-8")
        values = {"path": target.path, "name": target.name, "out": str(out), "seed": str(session.seed)}
        values["samples"] = str(listed)
        if endpoint is not None:
            return values | {"base_url": endpoint.base_url, "model": endpoint.model}
        wanted = [w for w in ("{base_url}", "{model}") if any(w in part for part in self.options.command)]
        if wanted:
            raise ComponentFailed(
                f"the command names {' and '.join(wanted)}, and the step serves nothing",
                failure_class=FailureClass.USER_CONFIG_ERROR,
                where="evaluate command",
                next="add a `serve:` to the step",
            )
        return values


def _only(out: Path, pattern: str) -> Path:
    """The one place that the pattern names, inside the folder or absolute under it."""
    relative = os.path.relpath(pattern, out) if Path(pattern).is_absolute() else pattern
    if not any(c in relative for c in "*?["):
        return out / relative
    found = sorted(out.glob(relative))
    if len(found) != 1:
        raise UnreadableInput(f"{len(found)} files match {relative!r}, one is expected", where=str(out))
    return found[0]


def _failed(what: str, run: Run) -> ComponentFailed:
    return ComponentFailed(
        f"the evaluation command failed: {what}",
        failure_class=FailureClass.BUDGET_EXHAUSTED if run.timed_out else FailureClass.UNKNOWN,
        where="evaluate command",
        next=f"read {run.log}",
        log_tail=run.log_tail,
    )
