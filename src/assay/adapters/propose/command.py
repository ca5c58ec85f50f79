"""Propose kind `command`: any program, such as a coding agent, reads what came out so far and answers with an idea.

It gets a JSON file (`{request}`, also `ASSAY_REQUEST`) with the metric, the best experiment (result, diagnosis, next
ideas), and all that was tried; it writes one JSON object to `{reply}` (`ASSAY_REPLY`), or prints it last:
`{"patch": {...}, "hypothesis": "...", "rationale": "...", "name": "..."}`, or `{"stop": "why nothing is left to try"}`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from assay.core.base import Noun, SpecPath
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import ComponentFailed, UnreadableInput
from assay.core.ports import Component
from assay.core.proposal import Idea, Past, Template, baseline, best, candidate, pasts
from assay.core.run import Run, Work
from assay.core.vocabulary import FailureClass
from assay.readers.training import read_experiment
from assay.runtime import asking
from assay.runtime.files import write_json
from assay.runtime.logs import log_text
from assay.runtime.work import guarded_to_end

REPLY_LIMIT_BYTES = 200_000


class Options(Noun):
    """Options of `propose: {kind: command}`."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; no shell. `{request}`, `{reply}` and `{python}` (that of Assay) are replaced."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Ended after this long."""
    attempts: int = Field(default=2, ge=1, le=10)
    """How often it is asked when its answer cannot be used; the next request says why."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the environment."""
    cwd: SpecPath = "."
    """Folder that it runs in."""
    context: Mapping[str, Any] = Field(default_factory=dict)
    """Anything that it should know, such as which settings there are; stands in the request as it is."""
    template: Template | None = None
    """What all candidates share; the job fills it in."""


class Reply(Noun):
    """What the program answers."""

    patch: Mapping[str, Any] = Field(default_factory=dict)
    hypothesis: str = ""
    rationale: str = ""
    name: str = ""
    stop: str = ""
    """Why it has nothing to try; empty = it has."""


class _Unusable(Exception):
    def __init__(self, why: str, log_tail: str = "") -> None:
        super().__init__(why)
        self.why, self.log_tail = why, log_tail


class Adapter:
    """Asks the user's own program."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program is on this machine."""
        detail = asking.missing(asking.filled(self.options.command[0], {"python": sys.executable}))
        state: Literal["ready", "missing"] = "missing" if detail else "ready"
        return Component(verb="propose", kind="command", state=state, detail=detail)

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The configuration as it stands, then what the program says; None when it has nothing new.

        Raises:
            ComponentMissing: if the program is not there.
            ComponentFailed: INFRA_TRANSIENT if it fails or takes too long, UNKNOWN if its answers cannot be used.
        """
        template = self.options.template
        if template is None:
            raise ValueError("a proposer needs its template")
        known = pasts(history)
        first = baseline(template, known)
        if first is not None:
            return first
        request = _request(template, known, self.options.context)
        told: _Unusable | None = None
        for _ in range(self.options.attempts):
            run, found = self._asked({**request, "error": told.why if told else None})
            try:
                return _candidate(template, known, _parsed(found))
            except _Unusable as unusable:
                told = _Unusable(unusable.why, run.log_tail)
        assert told is not None
        if told.why.startswith(TRIED):
            return None
        raise ComponentFailed(
            f"the answer of the proposing command cannot be used: {told.why}",
            failure_class=FailureClass.UNKNOWN,
            where="propose",
            next="it must write one JSON object with `patch` and `hypothesis` to {reply}",
            log_tail=told.log_tail,
        )

    def _asked(self, request: Mapping[str, Any]) -> tuple[Run, dict[str, Any] | None]:
        """One call: how it went, and what it answered."""
        with tempfile.TemporaryDirectory(prefix="assay-propose-") as name:
            folder = Path(name)
            paths = {"request": str(folder / "request.json"), "reply": str(folder / "reply.json")}
            given = {"python": sys.executable, **paths}
            write_json(folder / "request.json", request)
            work = Work(
                label="propose",
                command=tuple(asking.filled(part, given) for part in self.options.command),
                env={
                    **self.options.env,
                    "ASSAY_REQUEST": paths["request"],
                    "ASSAY_REPLY": paths["reply"],
                },
                cwd=self.options.cwd,
                log=str(folder / "propose.log"),
                timeout_s=self.options.timeout_s,
            )
            run = guarded_to_end(work, folder / "status.json")
            if run.exit_code != 0:
                raise _failed(run, self.options.timeout_s)
            printed = log_text(folder / "propose.log", limit_bytes=REPLY_LIMIT_BYTES)
            return run, asking.answered(folder / "reply.json", printed)


TRIED = "that configuration was tried"


def _candidate(template: Template, known: Sequence[Past], reply: Reply) -> Candidate | None:
    if reply.stop:
        return None
    try:
        idea = Idea(
            name=reply.name, patch=reply.patch, hypothesis=reply.hypothesis.strip(), rationale=reply.rationale
        )
    except ValidationError as error:
        raise _Unusable(asking.first_problem(error, "reply")) from error
    if not reply.patch:
        raise _Unusable("`patch` changes nothing")
    made = candidate(template, known, idea)
    for past in known:
        if past.candidate.build == made.build and not past.void:
            raise _Unusable(f"{TRIED} as {past.candidate.name}: {past.decision.sentence}")
    return made


def _parsed(found: dict[str, Any] | None) -> Reply:
    if found is None:
        raise _Unusable("there is no JSON object in its answer")
    try:
        return Reply.model_validate(found)
    except ValidationError as error:
        raise _Unusable(asking.first_problem(error, "reply")) from error


def _failed(run: Run, timeout_s: float) -> ComponentFailed:
    how = f"took longer than {timeout_s:g} s" if run.timed_out else f"ended with exit code {run.exit_code}"
    return ComponentFailed(
        f"the proposing command {how}",
        failure_class=FailureClass.INFRA_TRANSIENT,
        where="propose",
        next="mend it, then `assay resume`",
        log_tail=run.log_tail,
    )


def _request(template: Template, known: Sequence[Past], context: Mapping[str, Any]) -> dict[str, Any]:
    """What the program is told: `schema: propose-request/1`."""
    parent = best(known)
    metric = template.metric
    return {
        "schema": "propose-request/1",
        "metric": metric.to_json(),
        "baseline_config": template.build.options.get("config") or {},
        "parent": None if parent is None else {**_line(parent, metric.name), **_story(parent)},
        "last": {**_line(known[-1], metric.name), **_story(known[-1])} if known else None,
        "history": [_line(past, metric.name) for past in known],
        "context": dict(context),
    }


def _line(past: Past, metric: str) -> dict[str, Any]:
    intent = past.candidate.intent
    measured = past.measured.get(metric)
    sd = past.measured.get("seed_sd")
    return {
        "trial": past.decision.trial,
        "name": past.candidate.name,
        "parent": intent.get("parent_trial"),
        "hypothesis": intent.get("hypothesis"),
        "patch": intent.get("patch"),
        "config": past.config,
        "outcome": past.decision.outcome.value,
        "sentence": past.decision.sentence,
        "value": measured.value if measured is not None else None,
        "seeds": measured.n if measured is not None else None,
        "seed_sd": sd.value if sd is not None else None,
    }


def _story(past: Past) -> dict[str, Any]:
    """What the files of its first experiment tell."""
    folder = next((m["folder"] for m in past.made if isinstance(m.get("folder"), str)), None)
    if folder is None:
        return {}
    try:
        found = read_experiment(Path(folder))
    except UnreadableInput as error:
        return {"experiment": folder, "problem": str(error)}
    return {
        "experiment": found.id,
        "folder": folder,
        "result": found.result.to_json() if found.result is not None else None,
        "diagnosis": found.diagnosis,
        "next_ideas": list(found.next_ideas),
        "metrics": {m.name: m.last.value for m in found.rows.metrics},
        "alerts": [{"name": a.name, "state": a.state, "step": a.step, "text": a.text} for a in found.alerts],
    }
