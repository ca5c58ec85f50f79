"""How far an agent is kept from the machine: the strongest level that really works here, found by trying it once.

- `docker`: a container of a named image (`agent.options.image`); `auto` takes it only where an image is named
- `bubblewrap`: the machine read-only, no other process seen, suites and journals hidden
- `namespace`: the same by `sandbox.py`, where user namespaces are allowed
- `none`: a fresh folder and a clean environment, nothing else

A level counts only after a command in it could not write outside and, without network, could not reach a listener.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from assay.core.agent import AgentCommand
from assay.core.errors import ComponentMissing
from assay.runtime.agents.sandbox import TEMPORARY
from assay.runtime.process import Sandboxed

LEVELS = ("docker", "bubblewrap", "namespace", "none")
SANDBOX = Path(__file__).with_name("sandbox.py")
PROBE_LIMIT_S = 30.0
SECRET_PLACES = (
    ".aws",
    ".azure",
    ".claude",
    ".claude.json",
    ".codex",
    ".config/gcloud",
    ".config/gh",
    ".config/opencode",
    ".docker",
    ".gemini",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".local/share/opencode",
    ".netrc",
    ".ssh",
)
"""Below the user's home; hidden where the level can hide."""
SOCKETS = (
    "/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/run/user",
    "/run/dbus",
    "/run/snapd.socket",
)
"""Ways out of any namespace; hidden where the level can hide."""


@dataclass(frozen=True)
class Places:
    """What an agent may see and change of the machine."""

    root: Path
    """Folder of the run."""
    work: Path
    home: Path
    told: Path
    """Where it leaves its result."""
    tmp: Path
    """Stands for the system's temporary folder."""
    hidden: tuple[Path, ...] = ()

    @property
    def writable(self) -> tuple[str, ...]:
        """Folders that it may write to."""
        return str(self.work), str(self.home), str(self.told)


@dataclass(frozen=True)
class Isolation:
    """A level, ready to be put around commands."""

    level: str
    network: bool
    image: str = ""
    docker_options: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """As it is recorded."""
        return self.level + ("" if self.network else ", no network")

    def wrapped(
        self, command: Sequence[str], places: Places, passed: Iterable[str], name: str
    ) -> tuple[str, ...]:
        """The command inside of the level.

        Args:
            command: program and arguments.
            places: what it may see.
            passed: names of variables that go into a container.
            name: of the container.
        """
        if self.level == "none":
            return tuple(command)
        if self.level == "docker":
            return self._docker(command, places, passed, name)
        if self.level == "bubblewrap":
            hidden = _hidden(places, network=self.network)
            return self._bubblewrap(command, places, _visible(command), hidden)
        return (
            sys.executable,
            "-I",
            "-S",
            str(SANDBOX),
            json.dumps(self._namespaces(command, places)),
            *command,
        )

    def sandboxed(self, command: Sequence[str], places: Places) -> Sandboxed | None:
        """The command for a guard that makes the namespaces itself; None where the level is another one."""
        if self.level != "namespace":
            return None
        return Sandboxed(tuple(command), self._namespaces(command, places))

    def _namespaces(self, command: Sequence[str], places: Places) -> dict[str, Any]:
        return {
            "root": str(places.root),
            "writable": list(places.writable),
            "tmp": str(places.tmp),
            "visible": _visible(command),
            "hidden": _hidden(places, network=self.network),
            "cwd": str(places.work),
            "network": self.network,
        }

    def ended(self, name: str) -> None:
        """End what a killed client may have left: a container does not end with `docker run`."""
        if self.level == "docker":
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    ("docker", "rm", "-f", name), capture_output=True, timeout=PROBE_LIMIT_S, check=False
                )

    def _bubblewrap(
        self, command: Sequence[str], places: Places, visible: list[str], hidden: list[str]
    ) -> tuple[str, ...]:
        binds: list[tuple[str, ...]] = [("--bind", str(places.tmp), t) for t in TEMPORARY if Path(t).is_dir()]
        binds += [("--ro-bind", v, v) for v in visible]
        binds += [("--tmpfs", h) if Path(h).is_dir() else ("--ro-bind", "/dev/null", h) for h in hidden]
        binds += [("--ro-bind", str(places.root), str(places.root))]
        binds += [("--bind", w, w) for w in places.writable]
        return (
            "bwrap",
            *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL"),
            *(() if self.network else ("--unshare-net",)),
            *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
            *(part for bind in binds for part in bind),
            *("--chdir", str(places.work), "--"),
            *command,
        )

    def _docker(
        self, command: Sequence[str], places: Places, passed: Iterable[str], name: str
    ) -> tuple[str, ...]:
        return (
            *("docker", "run", "--rm", "--init", "--name", name, "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--pids-limit", "512"),
            *("--user", f"{os.getuid()}:{os.getgid()}", "--tmpfs", "/tmp:rw,exec"),  # noqa: S108 - the container's
            *("--network", "bridge" if self.network else "none"),
            *("--volume", f"{places.root}:{places.root}:ro"),
            *(part for w in places.writable for part in ("--volume", f"{w}:{w}:rw")),
            *(part for variable in passed for part in ("--env", variable)),
            *("--workdir", str(places.work)),
            *self.docker_options,
            self.image,
            *command,
        )


def chosen(agent: AgentCommand) -> Isolation:
    """The level that an agent asks for.

    Raises:
        ComponentMissing: if it does not work here, or none does that forbids the network where it must be forbidden.
    """
    image = str(agent.options.get("image") or "")
    options = tuple(str(o) for o in agent.options.get("docker_options") or ())
    if agent.isolation != "auto":
        wanted: tuple[str, ...] = (agent.isolation,)
    else:
        wanted = tuple(level for level in LEVELS if level != "docker" or image)
    reasons = []
    for level in wanted:
        if not (why := _why_not(level, agent.network, image)):
            return Isolation(level, agent.network, image, options)
        reasons.append(f"{level}: {why}")
    raise ComponentMissing(
        "the agent cannot be kept from the machine as asked; " + "; ".join(reasons),
        where="agent.isolation",
        next="allow user namespaces, install bubblewrap, name `agent.options.image`, or ask for less",
    )


def for_verifier(agent: AgentCommand, around_agent: Isolation) -> Isolation:
    """What a verifier runs in: it executes what the agent wrote, on this machine also where the agent had a container.

    `agent.options.verifier_network` opens the network for a judge that needs one; `verifier_isolation: false` takes the
    isolation away.
    """
    network = agent.network or bool(agent.options.get("verifier_network"))
    if agent.options.get("verifier_isolation") is False or around_agent.level == "none":
        return Isolation("none", network=True)
    wanted = ("bubblewrap", "namespace") if around_agent.level == "docker" else (around_agent.level,)
    level = next((w for w in wanted if not _why_not(w, network, "")), "none")
    return Isolation(level, network or level == "none")


@cache
def _why_not(level: str, network: bool, image: str) -> str:
    """Why a level does not work here; empty if it does. Tried once for each process of ours."""
    if level == "none":
        return "" if network else "it cannot forbid the network"
    if level == "docker":
        if not image:
            return "`agent.options.image` names no image"
        return (
            ""
            if _runs(("docker", "image", "inspect", image))
            else f"docker does not answer or has no {image}"
        )
    if level == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    if level == "namespace" and sys.platform != "linux":
        return "only Linux has it"
    with tempfile.TemporaryDirectory(prefix="assay-probe-") as name:
        return _tried(Isolation(level, network), Path(name).resolve(), network=network)


_PROBE = """import os, socket, sys
try:
    open(sys.argv[1], "w")
    sys.exit(3)
except OSError:
    pass
if os.path.exists(sys.argv[2]):
    sys.exit(4)
open("x", "w").write("x")
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[3])), 2)
except OSError:
    sys.exit(0)
sys.exit(5 if sys.argv[4] == "closed" else 0)
"""
_FOUND = {3: "a write outside went through", 4: "a hidden file was seen", 5: "the network was reached"}


def _tried(isolation: Isolation, base: Path, *, network: bool) -> str:
    """Run a command in the level that tries to get out."""
    run = base / "run"
    places = Places(run, run / "work", run / "home", run / "told", run / "tmp", hidden=(base / "hidden",))
    for folder in (places.work, places.home, places.told, places.tmp, base / "hidden"):
        folder.mkdir(parents=True)
    secret = base / "hidden" / "secret"
    secret.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        asked = (str(places.root / "x"), str(secret), port, "open" if network else "closed")
        command = isolation.wrapped((sys.executable, "-I", "-S", "-c", _PROBE, *asked), places, (), "")
        try:
            ran = subprocess.run(
                command, capture_output=True, timeout=PROBE_LIMIT_S, check=False, cwd=places.work
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if ran.returncode == 0:
        return ""
    said = ran.stderr.decode("utf-8", "replace").strip().splitlines()
    return _FOUND.get(ran.returncode) or (said[-1][:200] if said else f"exit code {ran.returncode}")


def _runs(command: tuple[str, ...]) -> bool:
    try:
        ran = subprocess.run(command, capture_output=True, timeout=PROBE_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0


def _visible(command: Sequence[str]) -> list[str]:
    """What a command names in a temporary folder: its files must be seen although the folder is another one.

    Of a program in `bin/` the whole installation, of a script its folder.
    """
    found: list[Path] = []
    for part in (*command, sys.prefix, sys.base_prefix):
        path = Path(part)
        if path.is_absolute() and len(part) < 4096 and _is_temporary(path) and _exists(path):
            folder = path if path.is_dir() else path.parent
            found.append(folder.parent if folder.name == "bin" else folder)
    return list(dict.fromkeys(str(p) for p in found if _is_temporary(p) and str(p) not in TEMPORARY))


def _is_temporary(path: Path) -> bool:
    return str(path).startswith(tuple(f"{t}/" for t in TEMPORARY))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _hidden(places: Places, *, network: bool) -> list[str]:
    home = Path.home()
    wanted = [*places.hidden, *(home / p for p in SECRET_PLACES)]
    wanted += [Path(s) for s in SOCKETS] if network else [Path("/run")]
    return list(dict.fromkeys(str(p.resolve()) for p in wanted if _exists(p)))
