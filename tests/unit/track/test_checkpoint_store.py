"""The protocol on disk: commit, seal, pointers, rotation, and what happens when the disk fails at any point."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_fakes import FailingDisk, FullDisk, LinklessDisk, MemoryRun, ShortDisk

from assay.track.checkpoint import CheckpointDamaged, Checkpointer, Disk, Folder, verify_folder

STATE = {
    "model": {"w": np.arange(50, dtype="f4")},
    "counters": {"samples": 7, "best": 0.5},
    "note": "x" * 300,
}


def saver(folder: Path, run: MemoryRun | None = None, **options: Any) -> Checkpointer:
    """A checkpointer that starts no process."""
    return Checkpointer(run or MemoryRun(), folder / "checkpoints", **{"verify_every": 0, **options})


def names(folder: Path) -> list[str]:
    """Committed checkpoints."""
    return [item.name for item in Folder(folder / "checkpoints").all()]


def test_a_checkpoint_has_all_that_the_protocol_asks(tmp_path: Path) -> None:
    """The manifest names schema, attempt, step, samples, files with size and digest, components, digests, host."""
    run = MemoryRun(attempt=3)
    made = saver(tmp_path, run, digests={"config": "sha256:c", "data": "sha256:d"})
    assert (
        made.save(
            {**STATE, "absent": ["scaler"]}, step=150, epoch=2, metrics={"loss": 0.5, "acc": float("nan")}
        )
        == "ckpt-00000150"
    )
    folder = tmp_path / "checkpoints" / "ckpt-00000150"
    found = json.loads((folder / "manifest.json").read_text())
    assert found["schema"] == "checkpoint/1"
    assert (found["attempt"], found["step"], found["epoch"], found["samples_seen"]) == (3, 150, 2, 7)
    assert {row["name"] for row in found["files"]} == {"state.json", "model.safetensors"}
    assert found["components"]["model"] == "present"
    assert found["components"]["scaler"] == "absent"
    assert found["components"]["optimizer"] == "unstated"
    assert found["metrics"] == {"loss": 0.5, "acc": None}
    assert found["nonfinite"] == {"acc": "nan"}
    assert (found["config_digest"], found["data_digest"]) == ("sha256:c", "sha256:d")
    assert found["host"]["pid"] == os.getpid()
    assert verify_folder(folder).step == 150
    assert [event["event"] for event in run.events] == ["checkpoint_committed", "checkpoint_verified"]
    committed = run.events[0]
    assert committed["path"] == "checkpoints/ckpt-00000150"
    assert committed["reason"] == "cadence"
    assert (tmp_path / committed["path"] / "manifest.json").is_file()


def test_the_seal_is_a_line_for_sha256sum(tmp_path: Path) -> None:
    """Anyone can check the manifest with coreutils, and with it every file."""
    saver(tmp_path).save(STATE, step=1)
    folder = tmp_path / "checkpoints" / "ckpt-00000001"
    done = subprocess.run(
        ["sha256sum", "-c", "manifest.sha256"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_two_hundred_flipped_bits_are_all_caught(tmp_path: Path) -> None:
    """A flip of any bit, in weights, state, manifest or seal, fails the verification; undone, it passes again."""
    saver(tmp_path).save(STATE, step=1)
    folder = tmp_path / "checkpoints" / "ckpt-00000001"
    files = sorted(folder.iterdir())
    dice = random.Random(11)
    for turn in range(200):
        path = files[turn % len(files)]
        original = path.read_bytes()
        changed = bytearray(original)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(CheckpointDamaged):
            verify_folder(folder)
        path.write_bytes(original)
    verify_folder(folder)


@pytest.mark.parametrize(
    "change", ["truncate", "extend", "remove", "add", "empty manifest", "no seal", "list"]
)
def test_other_damage_is_caught_and_named(change: str, tmp_path: Path) -> None:
    """A file that is short, long, gone or foreign is named."""
    saver(tmp_path).save(STATE, step=1)
    folder = tmp_path / "checkpoints" / "ckpt-00000001"
    blob = folder / "model.safetensors"
    if change == "truncate":
        blob.write_bytes(blob.read_bytes()[:-1])
    elif change == "extend":
        blob.write_bytes(blob.read_bytes() + b"\0")
    elif change == "remove":
        blob.unlink()
    elif change == "add":
        (folder / "foreign.bin").write_bytes(b"")
    elif change == "empty manifest":
        (folder / "manifest.json").write_bytes(b"")
    elif change == "no seal":
        (folder / "manifest.sha256").unlink()
    else:
        blob.unlink()
        blob.mkdir()
    with pytest.raises(CheckpointDamaged) as caught:
        verify_folder(folder)
    word = {"add": "foreign.bin", "empty manifest": "manifest", "no seal": "manifest"}.get(
        change, "model.safetensors"
    )
    assert word in caught.value.what


@pytest.mark.slow
def test_a_failure_at_any_operation_keeps_what_was_there(tmp_path: Path) -> None:
    """ENOSPC and EIO at the n-th operation, for every n: no exception, the older one stays, no half one is seen."""
    total = FailingDisk(10**9)
    saver(tmp_path / "count", disk=total).save(STATE, step=1)
    assert total.count > 10
    for code in (errno.ENOSPC, errno.EIO):
        for at in range(1, total.count + 1):
            place = tmp_path / f"{code}-{at}"
            assert saver(place).save(STATE, step=1) is not None
            run = MemoryRun()
            failing = saver(place, run, disk=FailingDisk(at, code))
            saved = failing.save(STATE, step=2)
            if saved is None:
                failed = run.kinds("checkpoint_failed")
                assert failed[0]["level"] == "write", at
                assert "played" in failed[0]["detail"]
            left = {
                p.name
                for p in (place / "checkpoints").iterdir()
                if ".tmp-" in p.name or p.name.startswith(".")
            }
            assert not left, (at, left)
            after = saver(place, MemoryRun(attempt=2))
            state = after.load()
            assert state is not None
            assert state["counters"] == STATE["counters"]
            assert after.save(STATE, step=3) is not None


def test_a_disk_that_stays_full_never_ends_the_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Save after save fails, each is recorded and said, and the first checkpoint still holds."""
    saver(tmp_path).save(STATE, step=1)
    run = MemoryRun()
    failing = saver(tmp_path, run, disk=FailingDisk(1, for_good=True), every_steps=1)
    assert [failing.save(STATE, step=step) for step in (2, 3, 4)] == [None] * 3
    assert len(run.kinds("checkpoint_failed")) == 3
    assert len(failing.failures) == 3
    assert "training goes on" in capsys.readouterr().err
    assert not failing.due(4)  # the next try comes with the cadence, not at once
    assert names(tmp_path) == ["ckpt-00000001"]
    verify_folder(tmp_path / "checkpoints" / "ckpt-00000001")


def test_a_full_disk_is_not_filled_further(tmp_path: Path) -> None:
    """Where the room is missing beforehand, not a byte is written: others write to that disk too."""
    run = MemoryRun()
    assert saver(tmp_path, run, disk=FullDisk()).save(STATE, step=1) is None
    assert "no space left" in run.events[0]["detail"]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_short_writes_are_continued(tmp_path: Path) -> None:
    """A disk that takes a few bytes a call gets them all."""
    assert saver(tmp_path, disk=ShortDisk()).save(STATE, step=1) is not None
    verify_folder(tmp_path / "checkpoints" / "ckpt-00000001")


@pytest.mark.slow
def test_a_real_full_disk(tmp_path: Path) -> None:
    """On a file system of 2 MB that is really full the old checkpoint stays and training goes on."""
    script = """
import os, subprocess, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
place = Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True).returncode:
    sys.exit(77)
from checkpoint_fakes import MemoryRun
from assay.track.checkpoint import Checkpointer, Disk
class Unasked(Disk):
    def free_bytes(self, folder): return 1 << 40
for disk in (Disk(), Unasked()):
    run = MemoryRun()
    c = Checkpointer(run, place / "checkpoints", verify_every=0, disk=disk)
    c.save({"blob": b"x" * 900_000}, step=1)
    assert c.save({"blob": b"y" * 1_900_000}, step=2) is None
    assert "o space left" in run.kinds("checkpoint_failed")[0]["detail"], run.events
    assert c.load()["blob"][:1] == b"x"
    assert not [p for p in (place / "checkpoints").iterdir() if ".tmp-" in p.name]
"""
    here = str(Path(__file__).parent)
    command = ["unshare", "-rm", sys.executable, "-c", script, str(tmp_path), here]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr[:40]:
        pytest.skip("no right to mount a file system here")
    assert done.returncode == 0, done.stderr


def test_pointers_move_in_one_step(tmp_path: Path) -> None:
    """`last` follows each save, `best` only better and finite values in the declared direction."""
    made = saver(tmp_path, best=("acc", "max"))
    seen = []
    for step, value in enumerate([0.5, 0.7, float("nan"), float("inf"), 0.6, 0.7, 0.8], start=1):
        made.save(STATE, step=step, metrics={"acc": value})
        seen.append((made.folder.pointed("last"), made.folder.pointed("best")))
        made.join()
    assert [int(last[-2:]) for last, _ in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [int(best[-2:]) for _, best in seen] == [1, 2, 2, 2, 2, 2, 7]
    assert (tmp_path / "checkpoints" / "last").is_symlink()


def test_pointer_files_where_links_fail(tmp_path: Path) -> None:
    """Without symbolic links `last` is a file with the name, and a resume follows it all the same."""
    made = saver(tmp_path, disk=LinklessDisk())
    made.save(STATE, step=1)
    made.save(STATE, step=2)
    place = tmp_path / "checkpoints" / "last"
    assert not place.is_symlink()
    assert place.read_text() == "ckpt-00000002\n"
    assert made.load("last") is not None
    assert made.resumed is not None
    assert made.resumed.step == 2


def test_rotation_keeps_what_must_never_go(tmp_path: Path) -> None:
    """Best, last, pinned ones, two verified ones and the newest K stay; the rest goes."""
    made = saver(tmp_path, keep=2, best=("loss", "min"))
    made.save(STATE, step=1, metrics={"loss": 0.1})
    made.join()
    made.save(STATE, step=2, metrics={"loss": 0.5})
    made.folder.set_mark("ckpt-00000002", "pinned")
    for step in range(3, 9):
        made.save(STATE, step=step, metrics={"loss": 0.5})
    assert names(tmp_path) == [f"ckpt-{step:08d}" for step in (1, 2, 7, 8)]
    left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert not [name for name in left if "00000003" in name]


def test_two_verified_ones_stay_at_any_time(tmp_path: Path) -> None:
    """Newer ones that were never verified do not push the verified ones out, with keep=1 either."""
    made = saver(tmp_path, keep=1)
    for step in (1, 2, 3, 4):
        made.save(STATE, step=step)
    assert names(tmp_path) == ["ckpt-00000003", "ckpt-00000004"]
    for step in (5, 6):
        made.save(STATE, step=step)
    for name in ("ckpt-00000005", "ckpt-00000006"):
        made.folder.clear_mark(name, "verified")
    assert made.folder.rotate("exp-001", 1, 1) == ()


def test_rotation_follows_saves_and_not_steps(tmp_path: Path) -> None:
    """A later attempt that started further back keeps its fresh ones, and never counts the old higher steps as newer."""
    first = saver(tmp_path, keep=2)
    for step in (100, 200, 300):
        first.save(STATE, step=step)
    second = saver(tmp_path, MemoryRun(attempt=2), keep=2)
    second.save(STATE, step=110)
    second.save(STATE, step=120)
    assert names(tmp_path) == ["ckpt-00000110", "ckpt-00000120"]


def test_checkpoints_of_others_are_left_alone(tmp_path: Path) -> None:
    """Rotation deletes neither another experiment's checkpoints nor what it cannot read."""
    saver(tmp_path, MemoryRun(experiment="exp-009")).save(STATE, step=5)
    (tmp_path / "checkpoints" / "ckpt-00000009").mkdir()
    made = saver(tmp_path, keep=1)
    for step in (10, 20, 30, 40):
        made.save(STATE, step=step)
    assert names(tmp_path) == ["ckpt-00000009", "ckpt-00000005", "ckpt-00000030", "ckpt-00000040"]


def test_leftovers_of_killed_attempts_are_removed(tmp_path: Path) -> None:
    """Half-written and half-deleted folders of earlier attempts go; those of a later attempt stay."""
    folder = tmp_path / "checkpoints"
    for name in ("ckpt-00000001.tmp-1", "ckpt-00000002.old-2", "ckpt-00000003.tmp-7"):
        (folder / name).mkdir(parents=True)
    saver(tmp_path, MemoryRun(attempt=3))
    assert sorted(p.name for p in folder.iterdir()) == ["ckpt-00000003.tmp-7"]


def test_the_same_step_again_gets_its_own_name(tmp_path: Path) -> None:
    """A step that exists is not overwritten, by the same attempt or by a later one."""
    made = saver(tmp_path, keep=9)
    assert [made.save(STATE, step=5) for _ in range(3)] == [
        "ckpt-00000005",
        "ckpt-00000005-a1",
        "ckpt-00000005-a1-2",
    ]
    assert saver(tmp_path, MemoryRun(attempt=2), keep=9).save(STATE, step=5) == "ckpt-00000005-a2"
    assert made.latest() is not None
    assert made.latest().name == "ckpt-00000005-a2"  # type: ignore[union-attr]


def test_marks_of_other_bytes_do_not_count(tmp_path: Path) -> None:
    """A mark is bound to the manifest: laid beside another checkpoint it says nothing."""
    made = saver(tmp_path)
    made.save(STATE, step=1)
    made.save(STATE, step=2)
    folder = tmp_path / "checkpoints"
    (folder / "ckpt-00000002.verified").write_bytes((folder / "ckpt-00000001.verified").read_bytes())
    assert [item.verified for item in made.all()] == ["digest", None]


@pytest.mark.parametrize("text", ["", "../../etc", "ckpt-00000099", "\0", "ckpt-1" * 100])
def test_any_pointer_file_is_survived(text: str, tmp_path: Path) -> None:
    """A pointer with foreign content leads nowhere."""
    made = saver(tmp_path)
    made.save(STATE, step=1)
    place = tmp_path / "checkpoints" / "best"
    place.write_text(text)
    assert made.folder.pointed("best") is None


def test_the_disk_is_asked_in_the_order_of_the_protocol(tmp_path: Path) -> None:
    """Every file is flushed before the rename, the folder before it, and its parent after it."""
    steps: list[str] = []

    class Recording(Disk):
        def sync(self, descriptor: int) -> None:
            steps.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
            super().sync(descriptor)

        def rename(self, source: Path, target: Path) -> None:
            steps.append(f"rename {target.name}")
            super().rename(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    saver(tmp_path, disk=Recording()).save(STATE, step=1)
    assert steps[:9] == [
        "fsync state.json", "fsync model.safetensors", "fsync manifest.json", "fsync manifest.sha256",
        "fsync ckpt-00000001.tmp-1", "rename ckpt-00000001", "fsync checkpoints", "rename last", "fsync checkpoints",
    ]  # fmt: skip
