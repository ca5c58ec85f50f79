"""Files: atomic writing, digests of folders, and errors that name the place."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.vocabulary import FailureClass
from assay.runtime import files


def make_tree(folder: Path) -> Path:
    """A small folder with a nested file."""
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"alpha")
    (folder / "sub" / "b.bin").write_bytes(b"\0\xff")
    return folder


def test_write_atomic_replaces_whole_and_leaves_nothing_aside(tmp_path: Path) -> None:
    """The new bytes stand there alone, with the mode asked for."""
    target = tmp_path / "deep" / "file"
    files.write_atomic(target, b"old")
    files.write_atomic(target, b"new", mode=0o600)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_write_atomic_keeps_the_old_bytes_when_the_rename_fails(tmp_path: Path) -> None:
    """A target that cannot be replaced stays, and the file aside is removed."""
    target = tmp_path / "folder"
    make_tree(target)
    with pytest.raises(ComponentFailed):
        files.write_atomic(target, b"x")
    assert (target / "a.txt").read_bytes() == b"alpha"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_transient_and_says_how_much_is_free(tmp_path: Path, code: int) -> None:
    """ENOSPC becomes INFRA_TRANSIENT with the place and the remedy."""
    error = files.explained(OSError(code, os.strerror(code)), tmp_path / "x")
    assert isinstance(error, ComponentFailed)
    assert error.failure_class is FailureClass.INFRA_TRANSIENT
    assert str(tmp_path) in str(error)
    assert "B are free" in str(error)
    assert "assay resume" in str(error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_place_without_the_right_to_write_is_a_usage_error(tmp_path: Path, code: int) -> None:
    """EACCES and EROFS name the nearest folder that exists."""
    error = files.explained(OSError(code, os.strerror(code)), tmp_path / "no" / "such" / "x")
    assert isinstance(error, UsageError)
    assert f"make {tmp_path} writable" in str(error)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A real file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(tiny_disk: Path) -> None:
    """On a full tmpfs the old bytes stay, nothing is left aside, and the error says so."""
    target = tiny_disk / "file"
    files.write_atomic(target, b"old")
    with pytest.raises(ComponentFailed, match="no space left") as caught:
        files.write_atomic(target, bytes(200_000))
    assert caught.value.failure_class is FailureClass.INFRA_TRANSIENT
    assert target.read_bytes() == b"old"
    assert [p.name for p in tiny_disk.iterdir()] == ["file"]


def test_copying_to_a_full_disk_leaves_nothing_behind(tiny_disk: Path, tmp_path: Path) -> None:
    """A copy that does not fit is removed whole."""
    source = make_tree(tmp_path / "source")
    (source / "big").write_bytes(bytes(200_000))
    with pytest.raises(ComponentFailed, match="no space left"):
        files.copy_tree(source, tiny_disk / "copy")
    assert not list(tiny_disk.iterdir())


def test_the_digest_of_a_folder_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    """A copy has the same digest; a renamed, changed or added file has not."""
    source = make_tree(tmp_path / "one")
    digest = files.digest_folder(source)
    copy = tmp_path / "two"
    files.copy_tree(source, copy)
    assert files.digest_folder(copy) == digest
    (copy / "sub" / "b.bin").rename(copy / "sub" / "c.bin")
    assert files.digest_folder(copy) != digest
    (copy / "sub" / "c.bin").rename(copy / "sub" / "b.bin")
    (copy / "a.txt").write_bytes(b"alphb")
    assert files.digest_folder(copy) != digest
    assert files.artifact(source).size_bytes == 7


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    """The bytes behind such a link could change without the folder's digest."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    folder = make_tree(tmp_path / "folder")
    (folder / "link").symlink_to(outside)
    for use in (files.digest_folder, files.size_bytes, lambda f: files.copy_tree(f, tmp_path / "copy")):
        with pytest.raises(UnreadableInput, match="a link out of the folder"):
            use(folder)
    assert not (tmp_path / "copy").exists()


def test_links_inside_a_folder_count_as_their_files(tmp_path: Path) -> None:
    """A hub cache is made of such links; a dangling one is refused."""
    folder = make_tree(tmp_path / "folder")
    (folder / "link").symlink_to("a.txt")
    files.copy_tree(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "link").read_bytes() == b"alpha"
    assert not (tmp_path / "copy" / "link").is_symlink()
    assert files.digest_folder(tmp_path / "copy") == files.digest_folder(folder)
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(UnreadableInput, match="leads nowhere"):
        files.digest_folder(folder)


def test_a_snapshot_of_the_hubs_cache_may_link_to_its_own_blobs(tmp_path: Path) -> None:
    """Its files count by their bytes, as in a folder of copies; a link into another repository is refused."""
    snapshot = tmp_path / "models--org--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for repository in ("models--org--small", "models--org--other"):
        (tmp_path / repository / "blobs").mkdir(parents=True)
        (tmp_path / repository / "blobs" / "1").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"weights")
    assert files.digest_folder(snapshot) == files.digest_folder(tmp_path / "copy")
    (snapshot / "other").symlink_to("../../../models--org--other/blobs/1")
    with pytest.raises(UnreadableInput, match="a link out of the folder"):
        files.digest_folder(snapshot)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    folder = make_tree(tmp_path / "folder")
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnreadableInput, match="neither a file nor a folder"):
        files.digest_folder(folder)


def test_copy_tree_refuses_an_existing_target(tmp_path: Path) -> None:
    """Nothing is ever merged into what is there."""
    source = make_tree(tmp_path / "one")
    (tmp_path / "two").mkdir()
    with pytest.raises(UsageError, match="already exists"):
        files.copy_tree(source, tmp_path / "two")


def test_remove_takes_the_link_and_not_its_target(tmp_path: Path) -> None:
    """Undoing a publication by link must not delete the artifact."""
    folder = make_tree(tmp_path / "folder")
    link = tmp_path / "link"
    link.symlink_to(folder)
    files.remove(link)
    files.remove(link)
    assert not link.is_symlink()
    assert (folder / "a.txt").exists()
    files.remove(folder)
    assert not folder.exists()


@given(data=st.binary(max_size=200))
def test_read_json_survives_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any content is JSON or an UnreadableInput."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    with contextlib.suppress(UnreadableInput):
        files.read_json(path)


def test_free_bytes_looks_at_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    """A folder that is still to be made has the room of the disk that it will be on."""
    found = files.free_bytes(tmp_path / "not" / "yet")
    assert found is not None
    assert abs(found - shutil.disk_usage(tmp_path).free) < 1 << 30
