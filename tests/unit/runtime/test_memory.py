"""What a process may use: control groups of both versions, drivers that answer, mumble or are not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from assay.runtime import memory
from assay.runtime.memory import detect_memory

MIB = 2**20


def silent(_: tuple[str, ...]) -> str | None:
    """No program is installed."""
    return None


def lay(root: Path, files: Mapping[str, str]) -> Path:
    """Files below a folder that stands for `/`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_machine_is_what_the_system_says(tmp_path: Path) -> None:
    """Without limits and accelerators there is the physical memory, and what of it is available."""
    found = detect_memory(tmp_path, silent)
    assert found.total_bytes == psutil.virtual_memory().total
    assert found.available_bytes is not None
    assert 0 < found.available_bytes <= found.total_bytes
    assert (found.limit_bytes, found.devices) == (None, ())


def test_every_group_up_to_the_root_binds(tmp_path: Path) -> None:
    """Version 2: the parent's smaller limit counts; pages of files that can be taken back do not count as used."""
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/pod/memory.max": f"{512 * MIB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{300 * MIB}\n",
            "sys/fs/cgroup/pod/memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
            "sys/fs/cgroup/memory.max": f"{900 * MIB}\n",
            "sys/fs/cgroup/memory.current": "0\n",
        },
    )
    found = detect_memory(tmp_path, silent)
    assert (found.limit_bytes, found.limit_used_bytes) == (512 * MIB, 200 * MIB)
    assert found.limit_source.endswith("cgroup/pod")


def test_the_older_version_of_groups(tmp_path: Path) -> None:
    """Version 1: the memory controller's folder; its absurd number is no limit; the container's root stands in."""
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu:/x\n4:memory,foo:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{256 * MIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{64 * MIB}\n",
        },
    )
    assert detect_memory(tmp_path, silent).limit_bytes == 256 * MIB
    lay(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert detect_memory(tmp_path, silent).limit_bytes is None


@pytest.mark.parametrize("text", ["", "\x00\xff", "0::/../../..\n", "nonsense", "0::" + "/a" * 3000])
def test_odd_groups_are_no_limit(tmp_path: Path, text: str) -> None:
    """Whatever stands there, the answer is a figure or none."""
    assert detect_memory(lay(tmp_path, {"proc/self/cgroup": text}), silent).limit_bytes is None


def test_a_limit_beyond_the_machine_is_none(tmp_path: Path) -> None:
    """It never binds."""
    lay(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(2**55)})
    assert detect_memory(tmp_path, silent).limit_bytes is None


ROWS = "0, GPU-aa, NVIDIA H200, 143771, 143000\n1, GPU-bb, NVIDIA H200, 143771, 1000\n"


@pytest.mark.parametrize(
    ("visible", "indices"), [(None, [0, 1]), ("1", [1]), ("GPU-a", [0]), ("", []), ("0,1", [0, 1]), ("7", [])]
)
def test_accelerators_of_nvidia(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, indices: list[int]
) -> None:
    """Bytes from MiB; those that CUDA_VISIBLE_DEVICES hides are not there."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = detect_memory(tmp_path, lambda c: ROWS if c[0] == "nvidia-smi" else None).devices
    assert [d.index for d in found] == indices
    assert all(d.total_bytes == 143_771 * MIB and not d.unified for d in found)


def test_unified_and_strange_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[N/A] is unified memory, not zero bytes; a row that is none is noted."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    text = "0, GPU-x, NVIDIA GB10, [N/A], [N/A]\nUnable to determine the device handle\n"
    found = detect_memory(tmp_path, lambda _: text)
    (device,) = found.devices
    assert (device.unified, device.total_bytes, device.free_bytes) == (True, None, None)
    assert "Unable to determine" in found.notes[0]


def test_accelerators_of_amd(tmp_path: Path) -> None:
    """Total and used bytes from sysfs; connectors of a card are no cards."""
    device = "sys/class/drm/card0/device/mem_info_vram"
    lay(
        tmp_path,
        {
            f"{device}_total": "1000\n",
            f"{device}_used": "300\n",
            "sys/class/drm/card0-DP-1/status": "connected",
        },
    )
    (found,) = detect_memory(tmp_path, silent).devices
    assert (found.total_bytes, found.free_bytes, found.source) == (1000, 700, "sysfs")


@pytest.mark.parametrize(("total", "told", "lent"), [(16, 0, 32 / 3), (64, 0, 48), (16, 12, 12)])
def test_what_apple_lends_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, told: int, lent: float
) -> None:
    """Two thirds, three quarters beyond 36 GB, or what the user set."""
    monkeypatch.setattr(memory.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(memory.platform, "machine", lambda: "arm64")
    answers = {"hw.memsize": str(total * 2**30), "iogpu.wired_limit_mb": str(told * 1024)}
    (device,) = detect_memory(tmp_path, lambda c: answers.get(c[-1])).devices
    assert device.unified
    assert device.free_bytes == int(lent * 2**30)
