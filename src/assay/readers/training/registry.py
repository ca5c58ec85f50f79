"""All experiments of a root folder: found from their own records, whatever registry.json says."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import UnreadableInput, UsageError
from assay.core.experiment import DONE, LIVE, WAITING, Experiment
from assay.readers.training.folder import is_experiment, read_experiment, read_state
from assay.readers.training.lines import mode_of, require_folder
from assay.readers.training.outside import Machine
from assay.readers.training.zo import is_zo, numbered, read_registry, read_zo


def read_experiments(
    root: Path, machine: Machine | None = None, *, texts: bool = True
) -> tuple[Experiment, ...]:
    """The state of every experiment below a root, in the order of their numbers; both layouts.

    A folder that cannot be read is left out here, as is a root that cannot be listed; `read_any` of it tells why.
    registry.json is not needed.

    Args:
        root: folder of the experiments.
        machine: who asks whether processes live; this machine by default.
        texts: read the Markdown files too.
    """
    try:
        return tuple(e for e in _readings(root, machine, texts=texts) if isinstance(e, Experiment))
    except UnreadableInput:
        return ()


def _readings(root: Path, machine: Machine | None, *, texts: bool) -> Iterator[Experiment | UnreadableInput]:
    """Each experiment, or why it cannot be read.

    Raises:
        UnreadableInput: if the root itself cannot be.
    """
    machine = machine or Machine.here()
    entries: Mapping[str, Mapping[str, Any]] | None = None
    for folder in numbered(root):
        try:
            if is_experiment(folder):
                yield read_state(folder, machine, texts=texts)
                continue
            entries = read_registry(root)[0] if entries is None else entries
            if folder.name in entries or is_zo(folder):
                yield read_zo(folder, entries.get(folder.name), rows=False)
        except UnreadableInput as error:
            yield error


def read_any(folder: Path, *, digests: bool = False, machine: Machine | None = None) -> Experiment:
    """One experiment of either layout.

    Raises:
        UnreadableInput: if the folder holds none, or the operating system refuses.
    """
    require_folder(folder)
    if is_experiment(folder):
        return read_experiment(folder, digests=digests, machine=machine)
    entry = read_registry(folder.parent)[0].get(folder.name)
    if entry is None and not is_zo(folder):
        raise UnreadableInput(
            "no experiment: neither events.jsonl nor a file of the older layout",
            where=str(folder),
            allowed="a folder exp-NNN",
            next="`assay experiment list`",
        )
    return read_zo(folder, entry)


def resolve_active(root: Path, machine: Machine | None = None) -> str | None:
    """The experiment that a watcher should show.

    Newest of those that train; else newest of those that are planned or wait for their result; else newest complete
    one; else none. Failed, aborted, crashed and lost ones never surface. Newest is by creation, then by number.

    Raises:
        UnreadableInput: if there is none, and one cannot be read: it might be that one.
    """
    readings = list(_readings(root, machine, texts=False))
    active = active_of([r for r in readings if isinstance(r, Experiment)])
    unread = next((r for r in reversed(readings) if isinstance(r, UnreadableInput)), None)
    if active is None and unread is not None:
        raise unread
    return active


def active_of(experiments: Sequence[Experiment]) -> str | None:
    """The same among experiments in the order of their numbers."""
    for states in (LIVE, WAITING, DONE):
        found = [(e.created, index) for index, e in enumerate(experiments) if e.state in states]
        if found:
            return experiments[max(found)[1]].id
    return None


def folder_of(root: Path, name: str, known: Iterable[str] | None = None) -> Path:
    """The folder of an experiment named by id, by number, or by a path.

    Raises:
        UsageError: if there is none, with the known ids.
        UnreadableInput: if the operating system refuses to tell.
    """
    ids = list(known) if known is not None else [p.name for p in numbered(root)]
    if name in ids:
        return root / name
    if name.isdecimal() and len(name) < 12:
        wanted = int(name)
        for candidate in ids:
            if candidate.removeprefix("exp-").isdecimal() and int(candidate.removeprefix("exp-")) == wanted:
                return root / candidate
    path = Path(name)
    if stat.S_ISDIR(mode_of(path)) and (is_experiment(path) or is_zo(path)):
        return path
    shown = ", ".join(ids[-12:]) or "none yet"
    raise UsageError(
        f"no experiment {name!r}", where=str(root), allowed=shown, next="`assay experiment list`"
    )
