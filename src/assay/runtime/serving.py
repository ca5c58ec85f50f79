"""The life of a server that Assay starts: port, process group, readiness, log, an end that leaves nothing."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.errors import ComponentFailed, Interrupted, UsageError
from assay.core.ports import Endpoint, Session, Target
from assay.core.run import Run, Work
from assay.core.tuning import Cause
from assay.core.vocabulary import FailureClass
from assay.runtime import files, listeners, process, ready, signatures
from assay.runtime.logs import log_text

LOG = "server.log"
END_LIMIT_S = 30.0
IN_USE = "while it was used"
PORT_TRIES = 3
"""How often another free port is tried when somebody took the one we chose."""


class ServerOptions(Noun):
    """What all servers that Assay starts have in common."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback shows an unprotected server to the network."""
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port; 0 = a free one."""
    ready_timeout_s: float = Field(default=300.0, gt=0)
    """Longest time from the start until the first token."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Environment of the server beside the inherited one. Stored with the study: no secrets here."""
    extra_args: tuple[str, ...] = ()
    """Further flags, at the end of the command line. They count as part of the protocol."""


@dataclass(frozen=True)
class Server:
    """One server to be started."""

    engine: str
    version: str
    model: str
    """Id that requests name and the server answers to."""
    command: Callable[[int], tuple[str, ...]]
    """Port → command line."""
    accepted: frozenset[str] = frozenset()
    """Further ids that mean this model in an answer."""
    env: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    lists_models: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What matters for comparability."""


@contextlib.contextmanager
def serving(server: Server, options: ServerOptions, session: Session) -> Iterator[Endpoint]:
    """Start a server, wait until it is ready, lend its endpoint, and end it whatever happens.

    Raises:
        UsageError: if the port is taken by somebody else.
        ComponentMissing: if the program does not exist.
        ComponentFailed: if it does not become ready, or ends while it is used.
    """
    handle, port = _started(server, options, session)
    try:
        yield _endpoint(server, options, port)
    except (Interrupted, GeneratorExit):
        raise
    except Exception as error:
        # A harness that lost its server fails in a hundred ways; the server's end is the cause to name.
        _require_running(server, handle, session, error)
        raise
    else:
        _require_running(server, handle, session, None)
    finally:
        session.execute.cancel(handle)


class FolderServing:
    """What the adapters have in common whose engine reads a checkpoint folder and nothing else."""

    options: ServerOptions

    def server(self, folder: Path, target: Target, session: Session) -> Server:
        """How the engine is started on that folder."""
        raise NotImplementedError

    @contextlib.contextmanager
    def serve(self, target: Target, session: Session) -> Iterator[Endpoint]:
        """Serve the target's folder.

        Raises:
            UsageError: if the target is no checkpoint folder, or the port is taken.
            ComponentMissing, ComponentFailed: see the port.
        """
        server = self.server(checkpoint_folder(target), target, session)
        with serving(server, self.options, session) as endpoint:
            yield endpoint


def probe_host(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{reached}]" if ":" in reached else reached


def checkpoint_folder(target: Target) -> Path:
    """The target's folder, for engines that read nothing else.

    Raises:
        UsageError: if it is no checkpoint folder.
    """
    folder = Path(target.path).absolute()
    if not (folder / "config.json").is_file():
        raise UsageError("no checkpoint folder: it has no config.json", where=str(folder))
    return folder


def flags(values: Mapping[str, Any]) -> list[str]:
    """Command-line words: None and False leave a flag away, True is the flag alone."""
    words: list[str] = []
    for flag, value in values.items():
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return words


def model_id(name: str) -> str:
    """A candidate's name as a model id: what harnesses use in URLs and file names."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _started(server: Server, options: ServerOptions, session: Session) -> tuple[str, int]:
    """Start until ready; a port of our own choice that got lost is chosen again."""
    for attempt in range(PORT_TRIES):
        port = _port(options)
        handle = _submitted(server, options, session, port)
        try:
            _wait(server, options, session, handle, port)
        except ComponentFailed as error:
            session.execute.cancel(handle)
            lost = isinstance(error, ready.PortLost) or signatures.PORT_TAKEN in error.what
            if options.port or not lost or attempt == PORT_TRIES - 1:
                raise
            session.note(f"{server.engine}: port {port} was taken meanwhile, trying another")
        except BaseException:
            session.execute.cancel(handle)
            raise
        else:
            return handle, port
    raise AssertionError


def _port(options: ServerOptions) -> int:
    host = "127.0.0.1" if options.host == "localhost" else options.host
    if options.port == 0:
        return listeners.free_port(host)
    if not listeners.port_is_free(host, options.port):
        owners = listeners.listener_pids(options.port)
        who = ", ".join(listeners.describe(pid) for pid in owners) or "a process of another user"
        raise UsageError(
            f"port {options.port} is taken by {who}",
            where="serve.port",
            allowed="port 0 = any free one",
            next="set port: 0, or end that process yourself",
        )
    return options.port


def _submitted(server: Server, options: ServerOptions, session: Session, port: int) -> str:
    folder = Path(session.workdir).absolute()
    _rotate(folder / LOG)
    work = Work(
        # Without the port: a resumed study must wait for the end of the copy that it left behind.
        label=f"serve-{server.engine}-{server.model}",
        command=server.command(port),
        env={**server.env, **options.env},
        cwd=str(folder),
        log=str(folder / LOG),
    )
    session.note(f"{server.engine}: starting the server")
    return session.execute.submit(work)


def _rotate(log: Path) -> None:
    """Keep the log of an earlier start under another name: its last words must not explain this one's end."""
    if log.exists():
        taken = len(list(log.parent.glob("server.*.log")))
        with files.explaining(log):
            log.rename(log.with_name(f"server.{taken + 1}.log"))


def _wait(server: Server, options: ServerOptions, session: Session, handle: str, port: int) -> None:
    started = time.monotonic()
    left = session.remaining_s()
    timeout_s = options.ready_timeout_s if left is None else min(options.ready_timeout_s, max(0.0, left))
    kills = signatures.oom_kills()
    pid = session.execute.poll(handle).pid or 0
    probe = ready.Probe(
        root=f"http://{probe_host(options.host)}:{port}",
        model=server.model,
        accepted=server.accepted,
        health=server.health,
        lists_models=server.lists_models,
    )
    proof = ready.wait_until_ready(
        probe,
        timeout_s,
        state=lambda: session.execute.poll(handle),
        owned=lambda: listeners.owns_listener(pid, port),
        explain=lambda run: _explained_start(server.engine, run, kills),
    )
    _require_sound(server, session.execute.poll(handle))
    seconds = time.monotonic() - started
    session.note(f"{server.engine}: ready after {seconds:.1f} s, model {proof.answered_model}, port {port}")


def _explained_start(engine: str, run: Run, kills: int) -> ComponentFailed | None:
    """The error for a start that failed; None while a server that runs may still become ready."""
    if run.exit_code is not None:
        return explained(engine, run, signatures.oom_kills() - kills, "before it was ready")
    found = signatures.find(log_text(Path(run.log)))
    if found is None or found.failure_class is not FailureClass.POINT_INFEASIBLE:
        return None
    return ComponentFailed(
        f"the server runs, but cannot serve a request: {found.what}",
        failure_class=found.failure_class,
        where=f"{engine} (log: {run.log})",
        next=found.next,
        log_tail=run.log_tail,
        cause=found.cause or "",
    )


def explained(engine: str, run: Run, oom_kills: int, when: str) -> ComponentFailed:
    """The error for a server that ended although nobody asked it to."""
    found = signatures.diagnose(run, log_text(Path(run.log)), oom_kills=oom_kills)
    code = run.exit_code
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return ComponentFailed(
        f"the server ended {when} ({how}): {found.what}",
        failure_class=found.failure_class,
        where=f"{engine} (log: {run.log})",
        next=found.next,
        log_tail=run.log_tail,
        cause=_while(found.cause, when),
    )


def _while(cause: Cause | None, when: str) -> str:
    """Out of memory has two names, by when it happened."""
    if cause is Cause.OOM_LOAD and when == IN_USE:
        return Cause.OOM_RUN
    return cause or ""


def _require_sound(server: Server, run: Run) -> None:
    found = signatures.find(log_text(Path(run.log)), signatures.UNSOUND)
    if found is not None:
        raise ComponentFailed(
            found.what,
            failure_class=found.failure_class,
            where=f"{server.engine} (log: {run.log})",
            next=found.next,
            log_tail=run.log_tail,
        )


def _require_running(server: Server, handle: str, session: Session, cause: Exception | None) -> None:
    run = session.execute.poll(handle)
    if run.exit_code is None and not process.runs(run.pid or 0):
        # The server is gone, and what it left behind is being ended: only then the record is whole.
        run = session.execute.poll(handle, END_LIMIT_S)
    if run.exit_code is not None:
        raise explained(server.engine, run, 0, IN_USE) from cause


def _endpoint(server: Server, options: ServerOptions, port: int) -> Endpoint:
    return Endpoint(
        base_url=f"http://{probe_host(options.host)}:{port}/v1",
        model=server.model,
        engine=server.engine,
        engine_version=server.version,
        facts=dict(server.facts),
    )
