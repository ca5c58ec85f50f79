"""How much memory this process may have: the machine's, a control group's limit, accelerators.

The smallest wins. What cannot be read is None and named in `notes`, never a number that looks real.
"""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import psutil

from assay.core.fit import Device, MachineMemory

Run = Callable[[tuple[str, ...]], str | None]
"""Runs a command; its stdout, or None if it is not there or fails."""
_TIMEOUT_S = 10.0
_UNLIMITED = 2**60
"""Control groups of version 1 write an absurd number for "no limit"."""
_SMI = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
_MIB = 2**20


def detect_memory(root: Path = Path("/"), run: Run | None = None) -> MachineMemory:
    """Read what the operating system and the drivers say.

    Args:
        root: where `/proc` and `/sys` lie; another folder in tests.
        run: how a driver's program is called.
    """
    run = run or _run
    notes: list[str] = []
    total, available, swap = _machine(notes)
    limit, used, source = _tightest(root)
    if limit is not None and total is not None and limit >= total:
        limit, used, source = None, None, ""
    return MachineMemory(
        total_bytes=total,
        available_bytes=available,
        limit_bytes=limit,
        limit_source=source,
        limit_used_bytes=used,
        swap_bytes=swap,
        devices=tuple(_devices(root, run, os.environ, notes)),
        notes=tuple(notes),
    )


def _machine(notes: list[str]) -> tuple[int | None, int | None, int]:
    try:
        memory = psutil.virtual_memory()
    except (OSError, RuntimeError, ValueError) as error:
        notes.append(f"the machine's memory cannot be read: {error}")
        return None, None, 0
    swap = 0
    # Some containers hide the swap figures, and psutil warns about counters that we do not use.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        swap = int(psutil.swap_memory().total)
    return int(memory.total), int(memory.available), swap


def _tightest(root: Path) -> tuple[int | None, int | None, str]:
    """The limit that leaves least: its bytes, what is used of it, and where it stands."""
    found = [*_control_groups(root), *_address_space()]
    if not found:
        return None, None, ""
    return min(found, key=lambda f: f[0] - (f[1] or 0))


def _address_space() -> Iterator[tuple[int, int | None, str]]:
    """`ulimit -v`: it is inherited by the servers that we start; used is what they start with, none."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield int(soft), None, "ulimit -v"


def _control_groups(root: Path) -> Iterator[tuple[int, int | None, str]]:
    """Every limit from our group up to the root: each of them binds."""
    text = _read(root / "proc/self/cgroup") or ""
    mounted = root / "sys/fs/cgroup"
    for line in text.splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            yield from _groups(mounted, group, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _groups(
                mounted / "memory",
                group,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _groups(
    mounted: Path, group: str, limit_name: str, used_name: str, reclaimable: str
) -> Iterator[tuple[int, int | None, str]]:
    # Inside a container the path may be the host's, which is not mounted here: the mount point is then our own group.
    path = PurePosixPath(group.lstrip("/"))
    if ".." in path.parts:
        path = PurePosixPath()
    for at in (path, *path.parents):
        folder = mounted / at
        limit = _number(_read(folder / limit_name))
        if limit is None or limit >= _UNLIMITED:
            continue
        used = _number(_read(folder / used_name))
        if used is not None:
            used = max(0, used - _cached(folder, reclaimable))
        shown = "/" + str(folder.relative_to(mounted.parents[len(mounted.parts) - 2]))
        yield limit, used, f"control group {shown}"


def _cached(folder: Path, name: str) -> int:
    """Pages of files that the kernel takes back before it kills anybody."""
    for line in (_read(folder / "memory.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0


def _devices(root: Path, run: Run, env: Mapping[str, str], notes: list[str]) -> Iterator[Device]:
    if platform.system() == "Darwin":
        yield from _apple(run)
        return
    yield from _nvidia(run, env, notes)
    yield from _amd(root)


def _nvidia(run: Run, env: Mapping[str, str], notes: list[str]) -> Iterator[Device]:
    text = run(_SMI)
    if text is None:
        return
    chosen = env.get("CUDA_VISIBLE_DEVICES")
    wanted = None if chosen is None else [w.strip() for w in chosen.split(",") if w.strip()]
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != 5 or not row[0].isdigit():
            notes.append(f"nvidia-smi said what is not understood: {' '.join(row)[:80]}")
            continue
        index, uuid, name, total, free = row
        if wanted is not None and index not in wanted and not any(uuid.startswith(w) for w in wanted):
            continue
        size, left = _number(total), _number(free)
        yield Device(
            name=name.strip(),
            index=int(index),
            total_bytes=None if size is None else size * _MIB,
            free_bytes=None if left is None else left * _MIB,
            unified=size is None,  # integrated ones, such as Jetson and GB10, answer [N/A]
            source="nvidia-smi",
        )


def _amd(root: Path) -> Iterator[Device]:
    for card in sorted((root / "sys/class/drm").glob("card[0-9]*")):
        total = _number(_read(card / "device/mem_info_vram_total"))
        used = _number(_read(card / "device/mem_info_vram_used"))
        if total is None or not card.name.removeprefix("card").isdigit():
            continue
        yield Device(
            name=f"AMD {card.name}",
            index=int(card.name.removeprefix("card")),
            total_bytes=total,
            free_bytes=None if used is None else max(0, total - used),
            source="sysfs",
        )


def _apple(run: Run) -> Iterator[Device]:
    """Unified memory; of it the system lends the GPU about two thirds, three quarters beyond 36 GB, unless told."""
    total = _number(run(("sysctl", "-n", "hw.memsize")))
    if total is None or platform.machine() != "arm64":
        return
    told = _number(run(("sysctl", "-n", "iogpu.wired_limit_mb"))) or 0
    lent = told * _MIB if told else total * 3 // 4 if total > 36 * 2**30 else total * 2 // 3
    yield Device(name="Apple GPU", index=0, total_bytes=total, free_bytes=lent, unified=True, source="sysctl")


def _run(command: tuple[str, ...]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[: 2**20]
    except (OSError, ValueError):
        return None


def _number(text: str | None) -> int | None:
    word = (text or "").strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) < 20 else None
