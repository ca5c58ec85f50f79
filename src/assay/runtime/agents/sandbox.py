"""Runs a command in Linux namespaces of its own, where the machine is read-only and other processes cannot be seen.

Started as ``python -I -S sandbox.py SPEC COMMAND...`` where SPEC is one JSON object::

    {"root": dir, "writable": [dir...], "tmp": dir, "visible": [path...], "hidden": [path...],
     "cwd": dir, "network": bool}

- `root` is seen read-only, `writable` lies in it and may be written; `tmp` is laid over the system's temporary folders.
- `visible` is seen although it lies in a temporary folder; `hidden` is seen empty. All else can be read and not written.
- Without `network` there is a loopback of its own and nothing beside it.

When the command ends, the kernel ends all that it left; when this process is killed, too. Capabilities are gone before
the command starts. Needs user namespaces and `mount_setattr` (Linux 5.12). Standard library only.
"""

# Each run of an agent pays for every import, so it speaks to the system directly.
# ruff: noqa: PTH103, PTH110, PTH112, PTH114, PTH120, PTH123, S606, S108

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 1, 442
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
BROKEN = 125
"""Exit code where the namespaces could not be made."""
TEMPORARY = ("/tmp", "/var/tmp")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Raise what the kernel said.

    Raises:
        OSError: with its reason.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """The system call."""
    result = libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None)
    checked(result, f"mount {target}")


def read_only(path: str, *, on: bool, below: bool) -> None:
    """Make a mount, or all mounts below it, read-only or writable again."""
    attributes = (ctypes.c_uint64 * 4)(ATTR_RDONLY if on else 0, 0 if on else ATTR_RDONLY, 0, 0)
    flags = AT_RECURSIVE if below else 0
    result = libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, ctypes.sizeof(attributes)
    )
    checked(result, f"mount_setattr {path}")


def put(path: str, descriptor: int) -> None:
    """Bind what a descriptor stands for to a path, which is made if it is no longer there."""
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(source, path, flags=MS_BIND | MS_REC)


def enter(network: bool) -> None:
    """New namespaces, in which this user is itself and nobody else."""
    uid, gid = os.geteuid(), os.getegid()
    checked(
        libc.unshare(NEWUSER | NEWNS | NEWPID | NEWIPC | (0 if network else NEWNET)), "unshare namespaces"
    )
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as handle:
            handle.write(line)


def arrange(spec: dict[str, object]) -> None:
    """The view of the file system."""
    root, tmp = str(spec["root"]), str(spec["tmp"])
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    names = [*strings(spec["visible"]), root]
    kept = {p: os.open(p, os.O_PATH) for p in names if os.path.exists(p)}
    private = os.open(tmp, os.O_PATH)
    temporary = [t for t in TEMPORARY if os.path.isdir(t) and not os.path.islink(t)]
    for place in temporary:
        put(place, private)
    for path in strings(spec["visible"]):
        if path in kept and path.startswith(tuple(f"{t}/" for t in TEMPORARY)):
            put(path, kept[path])
    for path in strings(spec["hidden"]):
        if os.path.isdir(path):
            mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
        elif os.path.exists(path):
            mount("/dev/null", path, flags=MS_BIND)
    put(root, kept[root])
    writable = [*strings(spec["writable"]), *temporary]
    for path in strings(spec["writable"]):
        mount(path, path, flags=MS_BIND)
    if os.path.isdir("/dev/shm"):
        mount("none", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "size=256m,mode=1777")
        writable.append("/dev/shm")
    read_only("/", on=True, below=True)
    for path in writable:
        read_only(path, on=False, below=False)


def strings(value: object) -> list[str]:
    """A list of texts of the spec."""
    assert isinstance(value, list)
    return [str(item) for item in value]


def loopback_up() -> None:
    """A loopback interface of our own, so that an agent can talk to what it started itself."""
    import fcntl  # noqa: PLC0415 - only without network
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def drop_rights() -> None:
    """No capability may come back, not even to root."""
    for number in range(64):
        if libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def status(raw: int) -> int:
    """An exit code as a shell tells it."""
    code = os.waitstatus_to_exitcode(raw)
    return code if code >= 0 else 128 - code


def first(spec: dict[str, object], command: list[str], outer: int) -> int:
    """The first process of the namespace: with its end, everything in it ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.read(outer, 1) != b"g":
        return BROKEN
    mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    drop_rights()
    agent = os.fork()
    if agent == 0:
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(str(spec["cwd"]))
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"cannot execute {command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)
    while True:
        pid, raw = os.waitpid(-1, 0)
        if pid == agent:
            return status(raw)


def main(spec: dict[str, object], command: list[str]) -> int:
    """Make the namespaces, run the command, and end as it ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    inner = 0
    try:
        enter(network=bool(spec["network"]))
        arrange(spec)
        if not spec["network"]:
            loopback_up()
        ready, go = os.pipe()
        inner = os.fork()
        if inner == 0:
            os.close(go)
            os._exit(first(spec, command, ready))
        os.write(go, b"g")
        return status(os.waitpid(inner, 0)[1])
    except OSError as error:
        os.write(2, f"assay sandbox: {error}\n".encode())
        if inner == 0:
            os._exit(BROKEN)
        return BROKEN


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
