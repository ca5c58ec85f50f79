"""Draining: a service that a person named makes room for a study and comes back, whatever becomes of Assay.

Nothing is drained that was not named, nothing is killed: the service's own manager stops and starts it. A guard
process holds the way back (`runtime.drain_guard`); if even that is killed, the next Assay finds its state file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.vocabulary import FailureClass
from assay.runtime import drain_guard, files, listeners

GUARD = Path(drain_guard.__file__)
GRACE_S = 30.0
COMMAND_S = 60.0
"""Longest time that one command of a service manager may take."""
STEP_S = 0.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]*")


@dataclass(frozen=True)
class Service:
    """A service and the commands of its manager."""

    name: str
    active: tuple[str, ...]
    """Ends with 0 while it runs."""
    stop: tuple[str, ...]
    start: tuple[str, ...]


def systemd(name: str, *, user: bool = False) -> Service:
    """A unit of systemd; `user` = of the user's own manager.

    Raises:
        UsageError: if that is no name of a unit.
    """
    unit = _named(name)
    if not unit.endswith(".service"):
        unit += ".service"
    line = ("systemctl", *(("--user",) if user else ()))
    return Service(unit, (*line, "is-active", "--quiet", unit), (*line, "stop", unit), (*line, "start", unit))


def launchd(label: str, plist: Path, *, domain: str = "") -> Service:
    """A job of launchd; it is booted out and bootstrapped from its file.

    Args:
        label: such as `com.example.server`.
        plist: the file that describes it: without it, it could not be started again.
        domain: `gui/UID` if empty.

    Raises:
        UsageError: if that is no label, or the file is not there.
    """
    if not plist.is_file():
        raise UsageError("no such file: the job could not be started again", where=str(plist))
    place = domain or f"gui/{os.getuid()}"
    target = f"{place}/{_named(label)}"
    return Service(
        label,
        ("launchctl", "print", target),
        ("launchctl", "bootout", target),
        ("launchctl", "bootstrap", place, str(plist)),
    )


@contextlib.contextmanager
def drained(
    service: Service,
    state: Path,
    *,
    port: int = 0,
    grace_s: float = GRACE_S,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[bool]:
    """Stop a service, lend its place, start it again; lends whether it had been running.

    Args:
        service: the one that a person named.
        state: file that says how it stands; it outlives a crash.
        port: TCP port that must be free afterwards; 0 = none.
        grace_s: how long the service may take to end, to free the port, and to come back.
        note: told what goes on.

    Raises:
        ComponentFailed: SYSTEMIC, if it could not be stopped, did not free its port, or did not come back.
    """
    child = _guard(service, state, grace_s)
    try:
        message = _heard(child, grace_s)
        if message.get("drained") is False:
            note(f"{service.name} does not run: nothing to drain")
            yield False
            return
        if message.get("drained") is not True:
            raise _failed(service, str(message.get("error") or "the guard ended without a word"))
        note(f"{service.name} is stopped; it comes back when this study ends")
        if port and not _freed(port, grace_s):
            raise _failed(service, f"port {port} is still taken {grace_s:.0f} s after it was stopped")
        yield True
    finally:
        _give_back(child, service, state, grace_s, note)


def left_over(folder: Path) -> Iterator[Path]:
    """State files of drains whose guard is gone before the service came back."""
    for path in sorted(folder.glob("*.drain.json")):
        state = _state(path)
        if state is not None and state["state"] in {"stopping", "drained", "lost"} and not _guarded(state):
            yield path


def restore_left_over(path: Path) -> str:
    """Start a service again that a killed guard left down; returns its name.

    Raises:
        UnreadableInput: if the file is no state of a drain.
        ComponentFailed: SYSTEMIC, if the service does not come back.
    """
    state = _state(path)
    if state is None:
        raise UnreadableInput("no state of a drained service", where=str(path))
    config = {**state, "state": str(path)}
    error = drain_guard.restore(config)
    with files.explaining(path):
        drain_guard.write_state(config, "lost" if error else "restored", error)
    if error:
        raise _failed(Service(str(state["name"]), (), (), tuple(state["start"])), error)
    return str(state["name"])


def _guard(service: Service, state: Path, grace_s: float) -> subprocess.Popen[bytes]:
    with files.explaining(state):
        state.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "name": service.name,
        "active": service.active,
        "stop": service.stop,
        "start": service.start,
        "state": str(state),
        "grace_s": grace_s,
        "command_s": COMMAND_S,
    }
    # without the mark of our runs: what is swept with a run must not take the guard along
    env = {k: v for k, v in os.environ.items() if not k.startswith("ASSAY_")}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )


def _heard(child: subprocess.Popen[bytes], grace_s: float) -> dict[str, Any]:
    """The guard's one line; it may take as long as the service takes to stop, and to be given back."""
    assert child.stdout is not None
    limit = 3 * COMMAND_S + 2 * grace_s + 10.0
    readable, _, _ = select.select([child.stdout], [], [], limit)
    try:
        message = json.loads(child.stdout.readline()) if readable else {}
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _give_back(
    child: subprocess.Popen[bytes],
    service: Service,
    state: Path,
    grace_s: float,
    note: Callable[[str], None],
) -> None:
    """Close the pipe, which is the word to restore, and wait for it."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    limit = drain_guard.TRIES * (grace_s + 2 * COMMAND_S)
    try:
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        # left alone: it goes on trying, and its state file tells
        raise _failed(service, f"it is not back after {limit:.0f} s") from None
    finally:
        child.stdout.close()
    found = _state(state)
    if found is not None and found["state"] == "restored":
        note(f"{service.name} runs again")
    elif code != 0 or (found is not None and found["state"] != "restored"):
        raise _failed(service, str((found or {}).get("error") or "its guard was killed"))


def _freed(port: int, grace_s: float) -> bool:
    deadline = time.monotonic() + grace_s
    while not listeners.port_is_free("127.0.0.1", port):
        if time.monotonic() > deadline:
            return False
        time.sleep(STEP_S)
    return True


def _state(path: Path) -> dict[str, Any] | None:
    try:
        value = files.read_json(path)
    except UnreadableInput:
        return None
    lists = ("active", "stop", "start")
    if not isinstance(value, dict) or value.get("schema") != drain_guard.SCHEMA:
        return None
    whole = all(isinstance(value.get(k), list) and value[k] for k in lists)
    numbers = all(isinstance(value.get(k), int | float) for k in ("grace_s", "command_s"))
    return value if whole and numbers and isinstance(value.get("name"), str) else None


def _guarded(state: dict[str, Any]) -> bool:
    """Whether the guard that wrote the state still lives."""
    try:
        line = psutil.Process(int(state.get("guard_pid") or 0)).cmdline()
    except (psutil.Error, ValueError, TypeError):
        return False
    return any(Path(word).name == GUARD.name for word in line)


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a service", where="--drain")
    return name


def _failed(service: Service, what: str) -> ComponentFailed:
    return ComponentFailed(
        what,
        failure_class=FailureClass.SYSTEMIC,
        where=service.name,
        next=f"look at it with its own manager; it is started with `{' '.join(_words(service.start))}`",
    )


def _words(command: Sequence[str]) -> Sequence[str]:
    return command or ("its manager",)


def find_service(name: str) -> Service:
    """The service of that name with the commands of whichever manager knows it.

    Raises:
        UsageError: if no manager of this machine knows it.
    """
    _named(name)
    if sys.platform == "darwin":
        folders = (
            Path.home() / "Library/LaunchAgents",
            Path("/Library/LaunchAgents"),
            Path("/Library/LaunchDaemons"),
        )
        for folder in folders:
            if (plist := folder / f"{name}.plist").is_file():
                return launchd(name, plist, domain="system" if folder.name == "LaunchDaemons" else "")
    for user in (False, True):
        service = systemd(name, user=user)
        line = [*service.active[: 2 if user else 1], "cat", service.name]
        if drain_guard.run(line, COMMAND_S)[0] == 0:
            return service
    raise UsageError(
        f"no service manager of this machine knows {name!r}",
        where="--drain",
        allowed="a unit of systemd, of the system or of the user, or a job of launchd with its file",
    )
