"""The ports: what the engine asks of the world. Each has at most three methods; `tests/contracts` checks every adapter.

An adapter module is named after its kind and holds two names: `Options`, a frozen pydantic model, and `Adapter`,
made with those options. `check` answers quickly and imports no vendor; it is what `assay doctor` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.events import Event, EventType
from assay.core.evidence import Evidence
from assay.core.run import Run, Work

T = TypeVar("T")


class Component(Noun):
    """What `assay doctor` says about one kind."""

    verb: str
    kind: str
    state: str
    """`ready`, `missing` (not installed), `unsupported` (cannot run on this machine) or `broken`."""
    vendor: Mapping[str, str] = Field(default_factory=dict)
    """Package or program → version."""
    detail: str = ""
    """What is missing and the command that installs it."""


class Endpoint(Noun):
    """A running OpenAI-compatible server."""

    base_url: str
    """Up to and including `/v1`."""
    model: str
    """The model id it answers to."""
    engine: str
    engine_version: str = ""
    facts: Mapping[str, Any] = Field(default_factory=dict)
    """What matters for comparability: dtype, KV dtype, context, batching."""


class Target(Noun):
    """What is evaluated: files, and a running server where the step is served."""

    name: str
    """`source` or the candidate's name."""
    path: str
    """Checkpoint folder or file, read back from disk."""
    digest: str = ""
    """Digest of what lies there, as it was built."""
    engine: str = ""
    """Serve kind that it is meant for; empty where nothing is served."""
    endpoint: Endpoint | None = None
    source: str = ""
    """The baseline's checkpoint, where the target is a candidate."""
    intent: Mapping[str, Any] = Field(default_factory=dict)
    """What the change promises."""
    samples: Mapping[str, tuple[int, ...]] | None = None
    """Task → indices of the items to ask, rising; None = all items of all tasks."""


class Session(Protocol):
    """What the engine lends an adapter for one step."""

    workdir: Path
    """Empty folder of this step; what it leaves there is kept."""
    seed: int
    execute: Execute

    def note(self, message: str, done: float | None = None) -> None:
        """Tell the person watching what goes on; `done` is the share finished, 0..1."""
        ...

    def remaining_s(self) -> float | None:
        """Seconds of wall-time budget left; None without a limit."""
        ...

    def keep(self, key: str, start: Callable[[Session], AbstractContextManager[T]]) -> T:
        """Something that later steps of the trial may use again; started if it is not there, ended with the trial.

        Args:
            key: what makes it the same thing.
            start: makes it, with a session of its own; entered once.
        """
        ...


class Execute(Protocol):
    """Work → run. Idempotent: submitting a label again re-attaches to work that still runs."""

    def submit(self, work: Work) -> str:
        """Start the work; returns a handle.

        Raises:
            ComponentMissing: if the program does not exist.
        """
        ...

    def poll(self, handle: str, timeout_s: float = 0.0) -> Run:
        """How the run stands, after waiting at most `timeout_s` for its end (`exit_code` set)."""
        ...

    def cancel(self, handle: str) -> Run:
        """SIGTERM to the whole group, grace, SIGKILL. Returns when nothing of it is left."""
        ...


class Build(Protocol):
    """Candidate → artifact on disk."""

    def check(self) -> Component:
        """Whether it could run here."""
        ...

    def intent(self) -> Mapping[str, Any]:
        """What the options promise about the artifact, for the gates: scheme, modules left alone."""
        ...

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Make the artifact at `out`, a path that does not exist yet; returns facts such as vendor versions.

        Raises:
            ComponentMissing: if the vendor is not installed.
            ComponentFailed: with a failure class.
        """
        ...


class Serve(Protocol):
    """Artifact → endpoint."""

    def check(self) -> Component:
        """Whether it could run here."""
        ...

    def protocol(self) -> Mapping[str, Any]:
        """What of the serving must be equal on both sides. Known without starting anything."""
        ...

    def serve(self, target: Target, session: Session) -> AbstractContextManager[Endpoint]:
        """Start a server, wait until it is ready, end it on exit, whatever happens.

        Raises:
            ComponentMissing, ComponentFailed: with DEPLOYMENT_HEALTH_FAILED where the server is at fault.
        """
        ...


class Evaluate(Protocol):
    """Target → evidence."""

    def check(self) -> Component:
        """Whether it could run here."""
        ...

    def protocol(self) -> Mapping[str, Any]:
        """What of the evaluation must be equal on both sides. Known without starting anything."""
        ...

    def evaluate(self, target: Target, session: Session) -> Evidence:
        """Measure the target; the evidence's artifacts are files under the session's folder or the target's.

        Raises:
            ComponentMissing, ComponentFailed: see `Build.build`.
        """
        ...


class Propose(Protocol):
    """History → next candidate."""

    def check(self) -> Component:
        """Whether it could run here."""
        ...

    def propose(self, history: Sequence[Decision]) -> Candidate | None:
        """The next candidate given all decisions so far; None when there is none left."""
        ...


class Apply(Protocol):
    """Bring an accepted artifact to its target. Write-ahead: `plan` is recorded before `apply` touches anything."""

    def plan(self, artifact: Path, decision: Decision) -> Mapping[str, Any]:
        """The undo token: what will be changed and what stands there now. Changes nothing."""
        ...

    def apply(self, artifact: Path, decision: Decision, token: Mapping[str, Any]) -> None:
        """Make the change that the token describes; doing it twice is doing it once."""
        ...

    def undo(self, token: Mapping[str, Any]) -> None:
        """Bring back the state before `apply`; undoing twice is undoing once."""
        ...


class Ledger(Protocol):
    """Append-only events. State is a replay of them."""

    def append(self, type: EventType, study: str, data: Mapping[str, Any]) -> Event:
        """Add one event, durably.

        Raises:
            LedgerError: if it cannot be written.
        """
        ...

    def read(self, after: int = 0) -> Iterator[Event]:
        """All events with a larger sequence number, in order."""
        ...


class Store(Protocol):
    """Content-addressed JSON documents: evidence and verdicts."""

    def put(self, document: Mapping[str, Any]) -> str:
        """Keep a document durably; returns its digest."""
        ...

    def get(self, digest: str) -> Mapping[str, Any]:
        """The document with that digest.

        Raises:
            LedgerBroken: if it is absent or its bytes no longer have that digest.
        """
        ...
