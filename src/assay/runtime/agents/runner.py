"""Runs one task with one text: workspace, delivery, agent, its end, verdict of the task's verifier."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from assay.core.agent import AgentCommand, AgentOutcome, AgentRun
from assay.core.artifact_text import TextArtifact, TextKind
from assay.core.errors import ComponentFailed, ComponentMissing, UsageError
from assay.core.ports import Component
from assay.core.run import Run, Work
from assay.core.suite import Task
from assay.core.vocabulary import FailureClass
from assay.runtime import process
from assay.runtime.agents.command import (
    clean,
    contained,
    fingerprint,
    named_files,
    program_of,
    seen_by,
    template,
)
from assay.runtime.agents.ending import (
    SAID_CHARS,
    Asked,
    Ending,
    by_told,
    never_there,
    reason_of,
    recorded,
    tail,
)
from assay.runtime.agents.isolation import Places, chosen, for_verifier
from assay.runtime.agents.presets import preset
from assay.runtime.agents.told import Printed, Told, judge_cost
from assay.runtime.asking import filled
from assay.runtime.ended import wait_for_end
from assay.runtime.files import remove
from assay.runtime.staging import StagedSource
from assay.runtime.verifier import home_of, run_verifier
from assay.runtime.workspace import Workspace, workspace, write_fixtures

GRACE = process.Grace(normal_s=1.0)
WATCH_S = 0.5
"""How often a running agent's output is looked at."""
FLOOD = 64
"""An agent that prints this many times more than is kept is ended."""
JUDGE_RESULT = "ASSAY_JUDGE_RESULT"
"""Variable that tells a verifier where it may write what it cost."""
BACKOFF_S = 0.5
"""Waited before an infra error is tried again; doubled each time."""
ARGUMENT_BYTES = 30_000
"""Longest prompt on a command line: the guard is told the command twice in one argument of at most 128 KiB."""


class Stopped(Exception):
    """The agents are being ended: this run is not finished and does not count."""


class AgentRunner:
    """Runs tasks with an agent and texts that take the place of an artifact's own.

    Args:
        agent: the agent.
        artifact: where the texts belong: every run gets a copy of its files with one text put in.
        workdir: folder for status files and workspaces; what an earlier runner left in it is removed.
        hidden: files and folders that the agent must not see, where the isolation can hide: the suite, the studies.

    Raises:
        ComponentMissing: if the program is not there, or the isolation does not work here.
        UsageError: if preset or options are wrong, or the artifact is no longer the one that was read.
    """

    def __init__(
        self, agent: AgentCommand, artifact: TextArtifact, workdir: Path, *, hidden: tuple[Path, ...] = ()
    ) -> None:
        self.agent = agent
        self._preset = preset(agent.preset)
        self._isolation = chosen(agent)
        self._around_verifier = for_verifier(agent, self._isolation)
        self._source = StagedSource(artifact)
        self._template = template(agent, self._preset, artifact)
        self.isolation = self._isolation.told
        """The level in force."""
        self.fingerprint = fingerprint(agent, self._template, artifact.kind, self.isolation)
        self.version = self._template.version
        self._workdir = workdir.resolve()
        self._hidden = (self._workdir, studies_of(self._workdir), *(h.resolve() for h in hidden))
        self._spaces = self._workdir / "spaces"
        _cleared(self._spaces)
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._guards: dict[int, process.Guarded] = {}

    def check(self) -> Component:
        """Whether it could run here."""
        return check_agent(self.agent)

    def run(
        self, task: Task, text: str, *, arm: str, rep: int, seed: int, block: int = 1, place: int = 0
    ) -> AgentRun:
        """Run a task once, and again after an infra error as often as the agent's `retries` say.

        Args:
            task: what is to be done.
            text: what is put in place of the artifact's text.
            arm: name of the text.
            rep: number of the draw.
            seed: for the agent.
            block: number of the block.
            place: place in the order of starting.

        Raises:
            Stopped: if `stop` was called.
            UsageError: if files cannot be written. Never for what an agent does.
        """
        asked = Asked(task, text, arm, rep, seed, block, place)
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        endings: list[Ending] = []
        for attempt in itertools.count(1):
            endings.append(self._attempt(asked))
            if not endings[-1].again or attempt > self.agent.retries:
                break
            if self._stop.wait(BACKOFF_S * 2 ** (attempt - 1)):
                raise Stopped
        return recorded(asked, endings, started)

    def file_chars(self, text: str) -> int:
        """Characters of the artifact's file with a text in it.

        Raises:
            UsageError: if the text cannot be written as UTF-8.
        """
        return self._source.chars(text)

    def require_unchanged(self) -> None:
        """Refuse runs of an agent that changed meanwhile: which of them is of which one cannot be told.

        Raises:
            ComponentFailed: NOT_COMPARABLE, naming the file.
        """
        known = {f.path for f in self._template.files}
        changed = [f.path for f in self._template.files if f.changed()]
        changed += [f for f in named_files(self._template.parts) if f not in known]
        if changed:
            raise ComponentFailed(
                f"{changed[0]}, which `agent.command` names and which so is part of the agent, changed while it ran",
                failure_class=FailureClass.NOT_COMPARABLE,
                where="agent.command",
                next="start a new study and leave it alone; what the agent writes goes below {home} or {workdir}",
            )

    def stop(self) -> None:
        """End all running agents and start no more; runs that were under way raise `Stopped`."""
        self._stop.set()
        with self._lock:
            guards = list(self._guards.values())
        for guarded in guards:
            with contextlib.suppress(OSError):
                guarded.guard.terminate()

    # -- one attempt ------------------------------------------------------------------------------------

    def _attempt(self, asked: Asked) -> Ending:
        if self._stop.is_set():
            raise Stopped
        try:
            with workspace(asked.task, self._spaces) as space:
                return self._in(space, asked)
        except ComponentMissing as error:
            return Ending(AgentOutcome.INFRA_ERROR, error.what)
        except ComponentFailed as error:
            if error.failure_class is FailureClass.POINT_INFEASIBLE:  # what the agent left cannot be judged
                return Ending(AgentOutcome.AGENT_ERROR, error.what)
            return Ending(AgentOutcome.INFRA_ERROR, error.what, again=True)

    def _in(self, space: Workspace, asked: Asked) -> Ending:
        places = Places(
            space.root, space.work, space.home, space.root / "told", space.root / "tmp", hidden=self._hidden
        )
        for folder in (places.told, places.tmp, space.root / "artifact"):
            folder.mkdir()
        values = self._values(space, asked)
        self._deliver(space, asked.text)
        if (ran := self._execute(space, places, values, asked)) is None:
            return Ending(AgentOutcome.AGENT_ERROR, "it printed without end and was stopped")
        told = self._preset.read(self._printed(Path(ran.log), Path(values["result_file"]), ran.exit_code))
        if ran.timed_out:
            why = f"it ran into its limit of {self.agent.timeout_s:g} s"
            return Ending(AgentOutcome.AGENT_TIMEOUT, why, told, ran.wall_s)
        if ran.cancelled:
            return Ending(AgentOutcome.INFRA_ERROR, "it was ended from outside", told, ran.wall_s, again=True)
        if (ending := by_told(told, ran)) is not None:
            return replace(ending, wall_s=ran.wall_s)
        self._take_back(space)
        return replace(self._judge(space, places, told), told=told, wall_s=ran.wall_s)

    def _values(self, space: Workspace, asked: Asked) -> dict[str, str]:
        folder = space.root / "artifact"
        copy = self._source.lay(asked.text, folder)
        prompt = asked.task.rendered(str(space.work))
        if self._preset.composed and asked.text.strip():
            prompt = f"{asked.text.strip()}\n\n{prompt}"
        files = {"text_file": space.root / "text.md", "prompt_file": space.root / "prompt.txt"}
        files["text_file"].write_bytes(asked.text.encode("utf-8", "surrogateescape"))
        files["prompt_file"].write_bytes(prompt.encode("utf-8", "surrogateescape"))
        return {
            "prompt": prompt,
            "workdir": str(space.work),
            "artifact": str(copy),
            "artifact_dir": str(folder),
            "result_file": str(space.root / "told" / "result.json"),
            "home": str(space.home),
            "seed": str(asked.seed),
            "rep": str(asked.rep),
            "task_id": asked.task.task_id,
            "python": sys.executable,
            "model": self.agent.model,
            "base_url": self.agent.base_url,
            "name": self._source.name,
            **{k: str(v) for k, v in files.items()},
        }

    def _deliver(self, space: Workspace, text: str) -> None:
        if self._template.deliver:
            place = self._delivered(space)
            remove(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._source.lay_at(text, place)

    def _take_back(self, space: Workspace) -> None:
        """The text is none of the agent's work: it goes, and what lay in its place comes back."""
        if not self._template.deliver:
            return
        place = self._delivered(space)
        name = place.relative_to(space.work).as_posix()
        if not any(p.is_symlink() for p in (place, *place.parents) if p.is_relative_to(space.work)):
            remove(place)
            for parent in place.parents:
                if parent == space.work or not parent.is_dir() or any(parent.iterdir()):
                    break
                parent.rmdir()
        lost = [f for f in space.task.fixtures if f.path == name or f.path.startswith(f"{name}/")]
        write_fixtures(space.work, lost)

    def _delivered(self, space: Workspace) -> Path:
        deliver = self._template.deliver
        return space.work / deliver / self._source.name if deliver.endswith("/") else space.work / deliver

    def _execute(self, space: Workspace, places: Places, values: dict[str, str], asked: Asked) -> Run | None:
        if len(values["prompt"].encode()) > ARGUMENT_BYTES and any(
            "{prompt}" in p for p in self._template.parts
        ):
            raise ComponentMissing(
                f"the prompt is longer than {ARGUMENT_BYTES} bytes: let the agent read {{prompt_file}}"
            )
        number = next(self._numbers)
        name = f"assay-{os.getpid()}-{space.root.name.rpartition('-')[2].lower()}-{number}"
        env = {
            "HOME": str(space.home),
            "PWD": str(space.work),
            "CI": "1",
            "NO_COLOR": "1",
            **self._preset.env,
        }
        if self._isolation.level == "none":
            env["TMPDIR"] = str(places.tmp)
        command = tuple(filled(part, values) for part in self._template.parts)
        passed = sorted({*env, *(n for n in self.agent.env if n in os.environ)})
        inside = self._isolation.sandboxed(command, places)
        if inside is None:
            command = clean(self._isolation.wrapped(command, places, passed, name), self.agent, env)
        work = Work(
            label=f"agent {asked.task.task_id}",
            command=command,
            env=env,
            cwd=str(space.work),
            log=str(space.root / "logs" / "agent.log"),
            timeout_s=self.agent.timeout_s,
        )
        status = self._workdir / ".runs" / f"agent-{os.getpid()}-{number}.json"
        try:
            return self._watched(work, status, number, inside)
        finally:
            self._isolation.ended(name)
            status.unlink(missing_ok=True)

    def _watched(self, work: Work, status: Path, number: int, inside: process.Sandboxed | None) -> Run | None:
        """Run a command to its end; None if it printed too much."""
        if inside is None:
            guarded = process.start(work, status, GRACE)
        else:
            seen = seen_by(self.agent, work.env)
            guarded = process.start(work, status, GRACE, sandbox=inside.spec, inherited=seen)
        with self._lock:
            self._guards[number] = guarded
        flooded = False
        try:
            if self._stop.is_set():
                raise Stopped
            while not wait_for_end(guarded, WATCH_S):
                if _size(Path(work.log)) > FLOOD * self.agent.output_bytes:
                    flooded = True
                    break
        finally:
            with self._lock:
                del self._guards[number]
            if guarded.guard.poll() is None:
                process.stop_guard(guarded.guard, GRACE)
        if self._stop.is_set():
            raise Stopped
        if flooded:
            return None
        record = process.read_status(status)
        if record is None:
            raise ComponentFailed(
                "the guard of the agent left no record",
                failure_class=FailureClass.INFRA_TRANSIENT,
                where=work.label,
            )
        lost = record["ended"] is None
        if lost:
            process.sweep(str(record["run_id"]))
        return process.run_of(record, lost=lost)

    def _printed(self, log: Path, result: Path, exit_code: int | None) -> Printed:
        said = _ends_of(log, self.agent.output_bytes).decode("utf-8", "replace")
        return Printed(said, self._left(result), exit_code)

    def _left(self, result: Path) -> bytes | None:
        """The file that somebody left, no link; None where there is none."""
        with contextlib.suppress(OSError):
            if result.is_file() and not result.is_symlink():
                with result.open("rb") as handle:
                    return handle.read(self.agent.output_bytes)
        return None

    def _judge(self, space: Workspace, places: Places, told: Told) -> Ending:
        verifier = space.task.verifier
        if verifier.by_tools and told.tools is None:
            return Ending(
                AgentOutcome.INFRA_ERROR, "the agent tells no tools, and the verifier asks for them"
            )
        tampered = space.changes().tampered
        allowed = tuple(str(n) for n in self.agent.options.get("verifier_env") or ())

        def wrap(command: tuple[str, ...], folder: Path) -> tuple[str, ...] | process.Sandboxed:
            own = replace(places, work=folder, home=home_of(folder), tmp=space.root / "verifier-tmp")
            own.tmp.mkdir(exist_ok=True)
            around = self._around_verifier
            return around.sandboxed(command, own) or around.wrapped(command, own, (), "")

        bill = places.told / "judge.json"
        remove(bill)  # an agent may have laid one there
        judged = run_verifier(space, env={JUDGE_RESULT: str(bill)}, allowed=allowed, wrap=wrap)
        cost = judge_cost(self._left(bill))
        if judged.undecided:
            why = f"the verifier could not judge: {tail(judged.log_tail, 200)}"
            return Ending(AgentOutcome.INFRA_ERROR, why, tampered=tampered, again=True, judge=cost)
        if never_there(judged, space.task):
            return Ending(
                AgentOutcome.INFRA_ERROR, f"the verifier's program is missing: {verifier.command[0]}"
            )
        by_tools = verifier.tools_pass(told.tools or ())
        if judged.passed and by_tools:
            return Ending(AgentOutcome.PASS, "", tampered=tampered, judge=cost)
        why = "the tools called are not those expected" if judged.passed else reason_of(judged)
        said = tail(judged.log_tail, SAID_CHARS)
        return Ending(AgentOutcome.TASK_FAIL, why, tampered=tampered, feedback=said, judge=cost)


def check_agent(agent: AgentCommand, kind: TextKind = TextKind.SKILL) -> Component:
    """Whether an agent could run here: program and isolation are there, and what it usually needs is passed on."""
    try:
        known = preset(agent.preset)
        level = chosen(agent).told
    except ComponentMissing as error:
        return Component(verb="evaluate", kind="agent", state="unsupported", detail=str(error))
    except UsageError as error:
        return Component(verb="evaluate", kind="agent", state="broken", detail=str(error))
    program = (agent.command or known.command(agent, kind))[0]
    found = program_of(program)
    if not found and not contained(agent):
        detail = f"program {program!r} is not on PATH"
        return Component(verb="evaluate", kind="agent", state="missing", detail=detail)
    detail = f"isolation {level}"
    if unset := [n for n in agent.env if n not in os.environ]:
        detail += f"; not set: {', '.join(unset)}"
    if known.keys and not set(known.keys) & set(agent.env):
        detail += f"; `agent.env` names none of {', '.join(known.keys)}"
    return Component(
        verb="evaluate", kind="agent", state="ready", vendor={"program": found or program}, detail=detail
    )


def studies_of(workdir: Path) -> Path:
    """The folder of all studies and their evidence that a step's folder lies in; else that folder itself."""
    named = os.environ.get("ASSAY_HOME", "")
    home = Path(named).resolve() if named else None
    return next((p for p in workdir.parents if p.name == ".assay" or p == home), workdir)


def _cleared(folder: Path) -> None:
    """Remove what a killed runner left, also where an agent took the rights away."""
    for base, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(base).chmod(0o700)
    remove(folder)


def _ends_of(log: Path, limit: int) -> bytes:
    """A file, without its middle where it is longer than that."""
    try:
        with log.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size <= limit:
                return handle.read(limit)
            start = handle.read(limit // 2)
            handle.seek(-(limit - limit // 2), os.SEEK_END)
            return start + b"\n[...]\n" + handle.read()
    except OSError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
