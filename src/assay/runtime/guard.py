"""Runs one command for Assay and ends everything that it started, whatever becomes of Assay.

Started as ``python -I -S -c STARTER guard.py CONFIG`` where CONFIG is one JSON object::

    {"command": [...], "cwd": dir, "log": file, "status": file, "timeout_s": s or null,
     "grace_s": s, "orphan_grace_s": s, "sandbox": {...} or null, "info": {...}}

With `sandbox` the command runs in the namespaces of `agents/sandbox.py`. They are made by our own child, which
saves an interpreter; what can be seen of it from inside is our environment, so ours must hold no secrets then.

Standard input is the read end of a pipe whose other end Assay holds and never writes to: the kernel closes
it when Assay is gone, however it went. Standard output gets one line, ``{"pid": n}`` or ``{"error": ...,
"errno": n}``. The status file is replaced as a whole at the start and at the end; a resumed Assay reads
there what happened.

The command leads a session of its own. This process is a subreaper (Linux), so what daemonises below the
command stays a descendant of ours and is found. Standard library only, and little of it: each command pays
for it.
"""

# It runs without site-packages and pays for each import, so it speaks to the system directly.
# ruff: noqa: PTH100, PTH105, PTH108, PTH118, PTH120, PTH123, PTH208, S605, S606

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
SCHEMA = "assay.run/1"
STEP_S = 0.02


def prctl(option: int, value: int) -> None:
    """Ask the Linux kernel; elsewhere, and where it is refused, the process group alone must do."""
    if LINUX:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def utc_now() -> str:
    """UTC, ISO 8601 with milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def start_ticks(pid: int) -> int:
    """When a process started, in kernel ticks since boot: with the pid it names one process for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            return int(handle.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def processes() -> list[tuple[int, int, int]]:
    """(process, parent, group) of every process of the machine; zombies are left out."""
    found = []
    if not LINUX:
        with os.popen("ps -axo pid=,ppid=,pgid=,stat=") as listing:
            rows = [line.split() for line in listing]
        return [(int(r[0]), int(r[1]), int(r[2])) for r in rows if len(r) == 4 and "Z" not in r[3]]
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as handle:
                    fields = handle.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    found.append((int(name), int(fields[1]), int(fields[2])))
    return found


def descendants(leader: int) -> dict[int, int]:
    """Process → group of all that lives below this process or in the command's group."""
    table = processes()
    children: dict[int, list[tuple[int, int]]] = {}
    for pid, parent, group in table:
        children.setdefault(parent, []).append((pid, group))
    # Without a subreaper, orphans are found by their group; our own children may then be the `ps` above.
    found = {pid: group for pid, _, group in table if leader and leader in (pid, group)}
    queue = [os.getpid()] if LINUX else list(found)
    while queue:
        below = children.get(queue.pop(), [])
        found.update(below)
        queue += [pid for pid, _ in below]
    return found


def send_all(leader: int, number: int, spared_group: int) -> None:
    """Signal every descendant outside one group; a descriptor pins each, so a reused pid is never hit."""
    pinned = {}
    for pid, group in descendants(leader).items():
        if group != spared_group:
            with contextlib.suppress(OSError):
                pinned[pid] = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    still = descendants(leader)
    for pid, descriptor in pinned.items():
        with contextlib.suppress(OSError):
            if pid in still and descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            elif pid in still:
                os.kill(pid, number)
        if descriptor >= 0:
            os.close(descriptor)


def sandboxed(spec: dict[str, Any], command: list[str]) -> int:
    """Run a command in namespaces of its own; returns its exit code."""
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "agents"))
    import sandbox  # type: ignore[import-not-found]  # noqa: PLC0415 - by its path: no packages here

    return int(sandbox.main(spec, command))


class Guard:
    """The life of one command."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.pid = 0
        self.raw: int | None = None
        """Wait status of the command once it has ended."""
        self.ending = ""
        """Why we ended it: `cancelled`, `timed_out` or `orphaned`; empty if it ended itself."""
        self.started = utc_now()
        self.clock = time.monotonic()
        self.wall_s: float | None = None

    def run(self) -> int:
        """Start the command, watch it, end what is left of it, and write down how it went."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake, wake_in = os.pipe()
        for end in (wake, wake_in):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self.noted)
        try:
            self.spawn()
            self.write()
        except OSError as error:
            # Work without a record would be lost to a resumed study, so it does not start.
            self.ending = "cancelled"
            if self.pid:
                self.sweep()
            self.say({"error": error.strerror or str(error), "errno": error.errno})
            return 1
        self.say({"pid": self.pid})
        self.watch(wake)
        self.sweep()
        # A full disk must not keep us from ending the command; Assay then calls the run lost.
        with contextlib.suppress(OSError):
            self.write()
        return 0

    def noted(self, number: int, _frame: object) -> None:
        """SIGCHLD only wakes us; every other signal asks for the end."""
        if number != signal.SIGCHLD and self.raw is None and not self.ending:
            self.ending = "cancelled"

    def say(self, message: dict[str, Any]) -> None:
        """Tell Assay the one thing that it waits for."""
        with contextlib.suppress(OSError):
            os.write(1, (json.dumps(message) + "\n").encode())
            os.close(1)

    def spawn(self) -> None:
        """Fork and exec; an exec that fails is reported through a pipe that a working exec closes."""
        config = self.config
        log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        config["log_offset"] = os.fstat(log).st_size
        told, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                # Should this guard itself be killed, the kernel still ends the command.
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                for caught in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                    signal.signal(caught, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                nothing = os.open(os.devnull, os.O_RDONLY)
                for target, source in ((0, nothing), (1, log), (2, log)):
                    os.dup2(source, target)
                os.chdir(config["cwd"])
                if config.get("sandbox"):
                    os.close(tell)
                    signal.set_wakeup_fd(-1)
                    os._exit(sandboxed(config["sandbox"], config["command"]))
                os.execvp(config["command"][0], config["command"])
            except OSError as error:
                os.write(tell, str(error.errno or 0).encode())
            finally:
                os._exit(127)
        os.close(tell)
        os.close(log)
        number = os.read(told, 16)
        os.close(told)
        if number:
            os.waitpid(self.pid, 0)
            self.pid = 0
            raise OSError(int(number), os.strerror(int(number)))

    def watch(self, wake: int) -> None:
        """Until the command ends, Assay goes away, a signal asks for the end, or the time is up."""
        limit = self.config["timeout_s"]
        while not self.ending and not self.reap():
            left = None if limit is None else limit - (time.monotonic() - self.clock)
            if left is not None and left <= 0:
                self.ending = "timed_out"
                break
            readable, _, _ = select.select([0, wake], [], [], left)
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 512)
            if 0 in readable and not os.read(0, 512):
                self.ending = self.ending or "orphaned"

    def reap(self) -> bool:
        """Collect what has ended; True once the command itself has."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid:
                self.raw, self.wall_s = raw, time.monotonic() - self.clock
        return self.raw is not None

    def sweep(self) -> None:
        """SIGTERM to all that is left, grace, SIGKILL until nothing is left."""
        orphan_grace = self.config["orphan_grace_s"]
        deadline = time.monotonic() + (orphan_grace if self.ending == "orphaned" else self.config["grace_s"])
        if self.left():
            group = 0
            if self.raw is None:
                # One signal to each process: some servers take a second one for impatience.
                with contextlib.suppress(OSError):
                    os.killpg(self.pid, signal.SIGTERM)
                    group = self.pid
            send_all(self.pid, signal.SIGTERM, group)
        orphaned = self.ending == "orphaned"
        while self.left() and time.monotonic() < deadline:
            if orphaned:
                time.sleep(STEP_S)
            elif select.select([0], [], [], STEP_S)[0] and not os.read(0, 512):
                orphaned = True
                deadline = min(deadline, time.monotonic() + orphan_grace)
        while self.left():
            send_all(self.pid, signal.SIGKILL, 0)
            time.sleep(STEP_S)
        self.reap()

    def left(self) -> bool:
        """Whether anything that we started still lives."""
        # reaped before and not after: a command with threads can look like a zombie before it can be reaped
        return not self.reap() or bool(descendants(self.pid))

    def write(self) -> None:
        """Replace the status file as a whole."""
        status = {
            "schema": SCHEMA,
            **self.config["info"],
            "log_offset": self.config["log_offset"],
            "guard_pid": os.getpid(),
            "guard_ticks": start_ticks(os.getpid()),
            "pid": self.pid,
            "started": self.started,
            "ended": None if self.raw is None else utc_now(),
            "wall_s": None if self.wall_s is None else round(self.wall_s, 3),
            "exit_code": None if self.raw is None else os.waitstatus_to_exitcode(self.raw),
            "ending": self.ending,
        }
        path = self.config["status"]
        aside = f"{path}.{os.getpid()}"
        try:
            with open(aside, "w", encoding="utf-8") as handle:
                json.dump(status, handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(aside, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise


STARTER = """import os, sys
sys.path.append(os.path.dirname(sys.argv[1]))
import guard
sys.exit(guard.Guard(guard.json.loads(sys.argv[2])).run())"""
"""Starts this file as a module, which spares its compilation: `python -I -S -c STARTER guard.py CONFIG`."""
