"""What this machine is: memory, chip, system, driver, as far as it tells."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from assay.core.recommendation import Machine, whole_gib
from assay.runtime.memory import detect_memory

_TIMEOUT_S = 10.0


def describe_machine(binary_version: str) -> Machine:
    """What this machine is, as far as it tells."""
    memory = detect_memory()
    own = [d for d in memory.devices if not d.unified and d.total_bytes]
    total = own[0].total_bytes if own else memory.total_bytes
    return Machine(
        ram_gb=whole_gib(total or 0),
        chip=own[0].name if own else chip(),
        os_version=platform.platform(),
        binary_version=binary_version,
        cpus=cpus(),
        driver=driver() if own else "",
    )


def place(machine: Machine) -> str:
    """Chip and memory in words, as a recommendation's basis holds them."""
    return f"{machine.chip}, {machine.ram_gb} GiB"


def cpus() -> int | None:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def driver() -> str:
    """Version of the accelerator's driver; empty where nothing tells it."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = done.stdout.decode("utf-8", "replace").split()
    return f"nvidia {lines[0]}" if done.returncode == 0 and lines else ""


def chip() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()
