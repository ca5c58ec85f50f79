"""What stands in the way of a server of ours: a foreign listener, a managed service, another engine.

Everything here only looks. By default a study refuses; a service that a person names may be drained (`runtime.drain`).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from assay.core.errors import UsageError
from assay.runtime import listeners
from assay.runtime.process import MARK

PROC = Path("/proc")
COMMAND_S = 10.0
_SYSTEM_UNITS = re.compile(r"([A-Za-z0-9:_.@\\-]+\.service)(?:/|$)")
_ENGINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("llama.cpp", re.compile(r"(?:^|/)(?:llama-server|llama-box)$")),
    ("vLLM", re.compile(r"^vllm\.entrypoints\.|(?:^|/)vllm$")),
    ("SGLang", re.compile(r"^sglang\.launch_server$|(?:^|/)sglang$")),
    ("TensorRT-LLM", re.compile(r"(?:^|/)trtllm-serve$")),
    ("MLX-LM", re.compile(r"(?:^|/)mlx_lm\.server$|^mlx_lm\.server$")),
    ("Ollama", re.compile(r"(?:^|/)ollama$")),
    ("Text Generation Inference", re.compile(r"(?:^|/)text-generation-launcher$")),
)
_NEEDS_SERVE = frozenset({"vLLM", "SGLang", "Ollama"})
"""Programs that do other things, too: only `serve` makes them a server."""
_UNIT_NAMES = re.compile(
    r"(?:^|[-_.@])(ollama|vllm|sglang|llama(?:-server|cpp)?|tgi|trtllm|mlx(?:-lm)?)(?=[-_.@]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Conflict:
    """Something that must not run beside a study."""

    kind: str
    """`listener`, `service` or `engine`."""
    what: str
    """For people: who it is."""
    pid: int | None = None
    service: str = ""
    """The unit or label that manages it: what `--drain` may name."""


def find(port: int = 0, *, ours: Collection[int] = ()) -> tuple[Conflict, ...]:
    """Everything that stands in the way, the listener first.

    Args:
        port: TCP port that the server is to listen on; 0 = any free one, which nobody can hold.
        ours: processes that Assay started.
    """
    found: dict[tuple[str, int | None, str], Conflict] = {}
    for item in (*_listening(port, ours), *_engines(ours), *_units()):
        found.setdefault(("", item.pid, item.service) if item.pid else (item.kind, None, item.service), item)
    managed = {c.service for c in found.values() if c.pid and c.service}
    return tuple(c for c in found.values() if c.pid or c.service not in managed)


def require_none(port: int = 0, *, ours: Collection[int] = ()) -> None:
    """Refuse while something stands in the way.

    Raises:
        UsageError: naming who it is and what may be done.
    """
    found = find(port, ours=ours)
    if not found:
        return
    services = [c.service for c in found if c.service]
    remedy = f"`--drain {services[0]}` stops it for the study and starts it again, or " if services else ""
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    raise UsageError(
        "; ".join(c.what for c in found[:3]) + more,
        where=f"port {port}" if port else "this machine",
        allowed="a study shares its machine with no other server",
        next=f"{remedy}end it yourself",
    )


def unit_of(cgroup: str) -> tuple[str, str]:
    """Unit and manager of a process by its `/proc/PID/cgroup`; empty if no service holds it.

    A process of a login or a container is in a scope or slice, not in a service.
    """
    for line in cgroup.splitlines():
        path = line.rpartition(":")[2]
        parts = [p for p in path.split("/") if p]
        services = [p for p in parts if _SYSTEM_UNITS.fullmatch(p)]
        if not parts or not services or parts[-1].endswith(".scope"):
            continue
        unit = services[-1]
        if re.fullmatch(r"user@\d+\.service", unit):
            continue
        manager = "systemd-user" if any(re.fullmatch(r"user@\d+\.service", p) for p in parts) else "systemd"
        return unit, manager
    return "", ""


def running_units(listing: str) -> Iterator[str]:
    """Units of serving engines in the output of `systemctl list-units --type=service --state=running --plain`."""
    for line in listing.splitlines():
        words = line.replace("●", " ").split()
        runs = len(words) >= 4 and words[0].endswith(".service") and words[2:4] == ["active", "running"]
        if runs and _UNIT_NAMES.search(words[0].removesuffix(".service")):
            yield words[0]


def launchd_jobs(listing: str) -> Iterator[tuple[int | None, str]]:
    """Process and label of each job in the output of `launchctl list`; None where it does not run."""
    for line in listing.splitlines():
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) == 3 and words[0] != "PID":
            yield (int(words[0]) if words[0].isdigit() else None), words[2]


def engine_of(argv: Sequence[str]) -> str:
    """The serving engine that a command line starts; empty if it is none.

    Whole words decide: a file or a study that is called after an engine is none.
    """
    if not argv:
        return ""
    words = list(argv)
    python = re.fullmatch(r"(?:.*/)?python[0-9.]*", words[0]) is not None
    program = (
        words[words.index("-m") + 1 :][:1]
        if python and "-m" in words[:-1]
        else words[1:2]
        if python
        else words[:1]
    )
    for name, pattern in _ENGINES:
        if program and pattern.search(program[0]):
            serves = "serve" in words or "." in program[0].rpartition("/")[2]
            return name if name not in _NEEDS_SERVE or serves else ""
    if program and program[0].rpartition("/")[2] == "transformers" and "serve" in words:
        return "transformers"
    return ""


def _listening(port: int, ours: Collection[int]) -> Iterator[Conflict]:
    if not port:
        return
    pids = listeners.listener_pids(port)
    for pid in (p for p in pids if p not in ours):
        service, manager = _managed(pid)
        held = f", held by {manager} as {service}" if service else ""
        yield Conflict("listener", f"{listeners.describe(pid)} listens on port {port}{held}", pid, service)
    if not pids and not listeners.port_is_free("127.0.0.1", port):
        yield Conflict("listener", f"a process of another user listens on port {port}")


def _engines(ours: Collection[int]) -> Iterator[Conflict]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in ours or process.pid == os.getpid():
                continue
            name = engine_of(process.cmdline())
            if name and not _of_assay(process):
                service, manager = _managed(process.pid)
                held = f", held by {manager} as {service}" if service else ""
                yield Conflict(
                    "service" if service else "engine",
                    f"{name} runs already: {listeners.describe(process.pid)}{held}",
                    process.pid,
                    service,
                )


def _of_assay(process: psutil.Process) -> bool:
    """A server that some Assay started: it ends with its study, and the writer's lock keeps two apart."""
    try:
        return MARK in process.environ()
    except (psutil.Error, OSError):
        return False


def _units() -> Iterator[Conflict]:
    """Running units by their names: their processes may be in a container, where no command line is seen."""
    if sys.platform != "linux":
        return
    for manager, flags in (("systemd", ()), ("systemd-user", ("--user",))):
        line = (
            "systemctl",
            *flags,
            "list-units",
            "--type=service",
            "--state=running",
            "--plain",
            "--no-legend",
        )
        for unit in running_units(_output(line)):
            yield Conflict("service", f"{manager} runs {unit}", None, unit)


def _managed(pid: int) -> tuple[str, str]:
    if sys.platform == "linux":
        try:
            return unit_of((PROC / str(pid) / "cgroup").read_text("utf-8", "replace"))
        except OSError:
            return "", ""
    if sys.platform == "darwin":
        own = [label for found, label in launchd_jobs(_output(("launchctl", "list"))) if found == pid]
        return (own[0], "launchd") if own else ("", "")
    return "", ""


def _output(command: Sequence[str]) -> str:
    """What a command prints; empty where it is not there or fails."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
