"""Workspaces of agents: a fresh folder a run, and another one to judge in, which the agent never saw.

Judging never happens in the folder that the agent worked in. What counts of it is copied to a new one, links left
out, and then protected files and deciding tests are put over the copy: a test that the agent deleted, changed or
replaced by a link is the suite's again.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assay.core.errors import ComponentFailed, UsageError
from assay.core.sizes import size
from assay.core.suite import Fixture, Task, why_unsafe
from assay.core.vocabulary import FailureClass
from assay.runtime.files import digest_file, explaining

MARK = "assay-workspace-"
COLLECT_LIMIT_BYTES = 1 << 30
"""Most that is copied from an agent's folder to judge it."""
COLLECT_LIMIT_FILES = 50_000


@dataclass(frozen=True)
class Changes:
    """What an agent did to its folder; names are relative, sorted."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    """Links, pipes, devices, and names that no suite may have: never judged."""
    tampered: tuple[str, ...] = ()
    """Protected or deciding files that the agent made, changed or removed: put back before judging."""

    @property
    def any(self) -> bool:
        """Whether the agent did anything at all."""
        return bool(self.added or self.modified or self.removed or self.special)


@dataclass
class Workspace:
    """The folders of one run of one task."""

    task: Task
    root: Path
    """Holds everything below; removed at the end."""
    work: Path
    """What the agent works in."""
    home: Path
    """An empty home folder for the agent."""
    _judged: int = field(default=0, repr=False)

    def lay(self, files: Iterable[Fixture]) -> None:
        """Put files over the agent's folder, as a reference solution is.

        Raises:
            ComponentFailed, UsageError: if it cannot be written.
        """
        write_fixtures(self.work, files)

    def changes(self) -> Changes:
        """What differs from the fixtures now."""
        given = {f.path: f.digest for f in self.task.fixtures}
        found, special = _regular_files(self.work)
        digests = {name: digest_file(path) for name, path in found.items()}
        guarded = {f.path for f in self.task.verifier.files}
        modified = tuple(n for n in sorted(digests) if n in given and digests[n] != given[n])
        added = tuple(n for n in sorted(digests) if n not in given)
        removed = tuple(n for n in sorted(given) if n not in digests)
        touched = {*modified, *added, *removed}
        return Changes(
            added=added,
            modified=modified,
            removed=removed,
            special=tuple(sorted(special)),
            tampered=tuple(sorted(n for n in touched if n in guarded or (n in given and self._protected(n)))),
        )

    @contextlib.contextmanager
    def judging(self) -> Iterator[Path]:
        """A new folder with what counts of the agent's work, protected files put back and deciding tests in place.

        Yields:
            The folder that the verifier runs in; removed afterwards.

        Raises:
            ComponentFailed: if there is more to copy than `COLLECT_LIMIT_BYTES`, or the disk is full.
        """
        self._judged += 1
        folder = self.root / f"judge-{self._judged}"
        with explaining(folder):
            folder.mkdir()
        try:
            self._collect(folder)
            write_fixtures(folder, (f for f in self.task.fixtures if self._protected(f.path)))
            write_fixtures(folder, self.task.verifier.files)
            yield folder
        finally:
            _remove(folder)

    def _collect(self, folder: Path) -> None:
        found, _ = _regular_files(self.work)
        wanted = {n: p for n, p in found.items() if self._counts(n)}
        total = sum(p.stat().st_size for p in wanted.values())
        if total > COLLECT_LIMIT_BYTES:
            raise ComponentFailed(
                f"the agent left {size(total)} to be judged",
                failure_class=FailureClass.POINT_INFEASIBLE,
                where=str(self.work),
                next="name what counts in `collect`",
            )
        with explaining(folder):
            for name, path in wanted.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target, follow_symlinks=False)
                target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)

    def _counts(self, name: str) -> bool:
        patterns = self.task.verifier.collect
        return not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)

    def _protected(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, p) for p in self.task.protected)


@contextlib.contextmanager
def workspace(task: Task, base: Path | None = None) -> Iterator[Workspace]:
    """A fresh workspace with the task's fixtures, gone at the end whatever happened in it.

    Args:
        task: what is to be done.
        base: folder that it is made in; by default the system's for temporary files.

    Raises:
        ComponentFailed, UsageError: if it cannot be written.
    """
    with explaining(base or Path(tempfile.gettempdir())):
        if base is not None:
            base.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=MARK, dir=base)).resolve()
    try:
        made = Workspace(task=task, root=root, work=root / "work", home=root / "home")
        with explaining(root):
            made.work.mkdir()
            made.home.mkdir()
        write_fixtures(made.work, task.fixtures)
        yield made
    finally:
        _remove(root)


def write_fixtures(folder: Path, files: Iterable[Fixture]) -> None:
    """Write files below a folder; what lies in the way, links above all, is removed and never followed.

    Raises:
        UsageError: if a path could lead out of the folder.
        ComponentFailed: INFRA_TRANSIENT, if the disk is full or broken.
    """
    for file in files:
        if reason := why_unsafe(file.path):
            raise UsageError(f"the path {file.path[:80]!r} is not allowed: {reason}")
        target = folder / file.path
        with explaining(target):
            _clear_way(folder, file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            mode = 0o755 if file.executable else 0o644
            with open(os.open(target, flags, mode), "wb") as handle:  # noqa: PTH123 - a descriptor
                handle.write(file.data)


def _clear_way(folder: Path, name: str) -> None:
    """Remove whatever is not a folder on the way to a file, and whatever stands in its place."""
    place = folder
    parts = name.split("/")
    for part in parts[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        elif place.is_dir():
            place.chmod(place.stat().st_mode | 0o700)
    place /= parts[-1]
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        _remove(place)
    else:
        place.unlink(missing_ok=True)


def _regular_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Regular files by name, and the names of all else that is no folder. Links are never followed."""
    found: dict[str, Path] = {}
    special: list[str] = []
    for base, folders, names in os.walk(folder, followlinks=False):
        for name in (*folders, *names):
            path = Path(base, name)
            short = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                _allow(path, mode, 0o700)
            elif not stat.S_ISREG(mode) or why_unsafe(short):
                special.append(short)
            else:
                _allow(path, mode, 0o400)
                found[short] = path
        if len(found) > COLLECT_LIMIT_FILES:
            raise ComponentFailed(
                f"the agent left more than {COLLECT_LIMIT_FILES} files",
                failure_class=FailureClass.POINT_INFEASIBLE,
                where=str(folder),
                next="name what counts in `collect`, or let the agent clean up",
            )
    return found, special


def _allow(path: Path, mode: int, bits: int) -> None:
    """Give back to ourselves what the agent took away, so that its work can be read."""
    if mode & bits != bits:
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(mode) | bits)


def _remove(folder: Path) -> None:
    """Remove a tree, also where the agent took the rights away; what cannot be removed is left to the system."""
    for base, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(base).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
