"""Who listens on which TCP port."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import psutil

from assay.core.errors import UsageError


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on right now. Another process may take it before the server does."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        UsageError: if this machine has no such address, or the port needs rights that we lack.
    """
    try:
        with socket.socket(_family(host)) as probe:
            # As servers do: connections in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise UsageError(
            f"cannot listen there: {error.strerror or error}",
            where=f"{host}:{port}",
            allowed="port 0 = any free one",
        ) from error
    return True


def listener_pids(port: int) -> tuple[int, ...]:
    """Processes that listen on a TCP port, as far as this user may see them."""
    found = set()
    try:
        for item in psutil.net_connections(kind="tcp"):
            if item.status == psutil.CONN_LISTEN and item.laddr and item.laddr.port == port and item.pid:
                found.add(int(item.pid))
    except (psutil.Error, OSError):
        # macOS shows the whole table to root alone.
        return ()
    return tuple(sorted(found))


def tree(root: int) -> tuple[psutil.Process, ...]:
    """A command and everything below it: its children, and what left them but stays in its session."""
    try:
        top = psutil.Process(root)
        members = {p.pid: p for p in (top, *top.children(recursive=True))}
    except psutil.Error:
        members = {}
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if pid not in members and os.getsid(pid) == root:
                members[pid] = psutil.Process(pid)
    return tuple(members.values())


def owns_listener(root: int, port: int) -> bool:
    """Whether a process of that command's tree listens on the port."""
    for process in tree(root):
        with contextlib.suppress(psutil.Error, OSError):
            for item in process.net_connections(kind="tcp"):
                if item.status == psutil.CONN_LISTEN and item.laddr and item.laddr.port == port:
                    return True
    return False


def describe(pid: int) -> str:
    """A process for people: pid and command line."""
    try:
        line = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return f"pid {pid}"
    return f"pid {pid} ({line[:80]})"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
