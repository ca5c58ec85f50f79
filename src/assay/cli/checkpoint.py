"""`assay checkpoint`: what an experiment could go on from, and whether it holds. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.core.sizes import size

if TYPE_CHECKING:
    from assay.track.checkpoint import Folder, Stored

LIST_SCHEMA = "checkpoints/1"
VERIFY_SCHEMA = "checkpoint-verification/1"
RESTORE_SCHEMA = "checkpoint-restored/1"
_WHICH = "A name, `last`, or `best`."


@click.group()
def checkpoint() -> None:
    """List, verify and restore the checkpoints of an experiment.

    EXP is the id of an experiment (exp-001); DIR its folder, a folder of checkpoints, or one checkpoint.
    """


@checkpoint.command("list")
@click.argument("where", metavar="EXP|DIR")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(where: str, as_json: bool) -> int:
    """List the checkpoints in the order of their saves, with what was verified about them.

    Reads manifests only; `assay checkpoint verify` reads every byte.
    """
    folder, only = _find(where)
    rows = [_row(folder, item) for item in _chosen(folder, only)]
    if as_json:
        click.echo(
            json.dumps({"schema": LIST_SCHEMA, "folder": str(folder.path), "checkpoints": rows}, indent=2)
        )
        return 0
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo(f"no checkpoints in {folder.path}", err=True)
    return 0


@checkpoint.command()
@click.argument("where", metavar="EXP|DIR")
@click.option("--name", help=f"{_WHICH} All if left out.")
@click.option(
    "--restore", "deep", is_flag=True, help="Also restore each in a process of its own: is the state equal?"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(where: str, name: str | None, deep: bool, as_json: bool) -> int:
    """Read every byte of the checkpoints and compare it with what was written; changes nothing.

    Exit 0 all hold, 1 one does not, 2 there is none.
    """
    folder, only = _find(where)
    rows = [_verified(item, deep=deep) for item in _chosen(folder, name or only, required=True)]
    bad = [row for row in rows if not row["ok"]]
    if as_json:
        value = {"schema": VERIFY_SCHEMA, "folder": str(folder.path), "ok": not bad, "checkpoints": rows}
        click.echo(json.dumps(value, indent=2))
        return 1 if bad else 0
    for row in rows:
        click.echo(f"{'ok  ' if row['ok'] else 'BAD '} {row['name']}  {row['level']}: {row['detail']}")
    return 1 if bad else 0


@checkpoint.command()
@click.argument("where", metavar="EXP|DIR")
@click.option("--name", default="last", show_default=True, help=_WHICH)
@click.option("--out", type=click.Path(path_type=Path), help="Copy the verified files to this new folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(where: str, name: str, out: Path | None, as_json: bool) -> int:
    """Verify a checkpoint and let the next attempt resume from it; with --out copy it instead.

    The weights of a copy are plain safetensors. Exit 1 if the checkpoint does not hold: then nothing is changed.
    """
    from assay.runtime.files import copy_tree, explaining

    folder, only = _find(where)
    item = _chosen(folder, only or name, required=True)[0]
    row = _verified(item, deep=True)
    done = ""
    if row["ok"] and out is not None:
        copy_tree(item.folder, out)
        done = str(out)
    elif row["ok"]:
        with explaining(folder.path):
            folder.point("resume", item.name)
        done = "the next attempt resumes from it"
    if as_json:
        click.echo(json.dumps({"schema": RESTORE_SCHEMA, **row, "restored": done or None}, indent=2))
    else:
        click.echo(
            f"{'ok  ' if row['ok'] else 'BAD '} {item.name}: {row['detail']}{f'; {done}' if done else ''}"
        )
    return 0 if row["ok"] else 1


def _find(where: str) -> tuple[Folder, str | None]:
    """The folder of checkpoints, and the one in it that was meant, if one was."""
    from assay.cli.experiment import root_of
    from assay.core.errors import UsageError
    from assay.readers.training import folder_of
    from assay.track._checkpoint.manifest import MANIFEST, NAME
    from assay.track.checkpoint import Folder

    place = Path(where)
    if (place / MANIFEST).is_file() or (place.is_dir() and NAME.match(place.name)):
        return Folder(place.absolute().parent), place.absolute().name
    try:
        # An id first: frameworks leave folders that are called like the experiment beside the script.
        base = folder_of(root_of(None), where)
    except UsageError:
        if not place.is_dir():
            raise
        base = place
    return Folder(base / "checkpoints" if (base / "checkpoints").is_dir() else base), None


def _chosen(folder: Folder, name: str | None, *, required: bool = False) -> Sequence[Stored]:
    from assay.core.errors import UnreadableInput, UsageError
    from assay.track._checkpoint.manifest import MANIFEST

    if not os.access(folder.path, os.R_OK | os.X_OK):
        raise UnreadableInput("cannot read: Permission denied", where=str(folder.path))
    everything = folder.all()
    if required and not everything and name is None:
        raise UnreadableInput("no checkpoints here", where=str(folder.path))
    if name is None:
        return everything
    # A pointer is followed first: what is marked, judged and resumed from has a name of its own.
    meant = (folder.pointed(name) or name) if name in ("last", "best") else name
    if (folder.path / meant / MANIFEST).is_file():
        return [folder.stored(meant)]
    found = [item for item in everything if item.name == meant]
    if not found:
        names = ", ".join(item.name for item in everything[-5:])
        raise UsageError(f"no checkpoint {name!r}", where=str(folder.path), allowed=f"last, best, {names}")
    return found


def _verified(item: Stored, *, deep: bool) -> dict[str, Any]:
    """What a verification of one checkpoint found."""
    from assay.track._checkpoint.proof import Restore
    from assay.track.checkpoint import CheckpointDamaged, verify_folder

    row: dict[str, Any] = {"name": item.name, "level": "digest", "ok": False, "detail": ""}
    try:
        manifest = verify_folder(item.folder)
    except CheckpointDamaged as error:
        return {**row, "detail": error.what}
    unstated = [name for name, state in manifest.components.items() if state == "unstated"]
    row |= {"step": manifest.step, "epoch": manifest.epoch, "attempt": manifest.attempt, "unstated": unstated}
    if item.odd:
        return {**row, "level": "finite", "detail": item.failed}
    if not deep:
        text = f"{len(manifest.files)} files, {manifest.size_bytes} bytes as written, step {manifest.step}"
        return {**row, "ok": True, "detail": text}
    answer = Restore(item.folder).wait()
    return {**row, "level": "restore", "ok": answer.ok is True, "detail": answer.detail}


def _row(folder: Folder, item: Stored) -> dict[str, Any]:
    pointers = [name for name in ("last", "best", "resume") if folder.pointed(name) == item.name]
    row: dict[str, Any] = {
        "name": item.name,
        "verified": item.verified,
        "verified_at": item.verified_at,
        "failed": item.failed or None,
        "problem": item.problem or None,
        "pinned": item.pinned,
        "pointers": pointers,
    }
    found = item.manifest
    if found is None:
        return row
    return {
        **row,
        "step": found.step,
        "epoch": found.epoch,
        "attempt": found.attempt,
        "sequence": found.sequence,
        "time": found.time,
        "reason": found.reason,
        "bytes": found.size_bytes,
        "metrics": dict(found.metrics),
        "components": dict(found.components),
    }


def _line(row: dict[str, Any]) -> str:
    if row["problem"]:
        return f"{row['name']:<20} unreadable: {row['problem']}"
    mark = "FAILED" if row["failed"] else row["verified"] or "not verified"
    metrics = " ".join(f"{name}={value:g}" for name, value in row["metrics"].items() if value is not None)
    more = " ".join([*row["pointers"], *(["pinned"] if row["pinned"] else [])])
    place = f"step {row['step']:<8} attempt {row['attempt']:<3} {row['reason']:<8} {size(row['bytes']):>9}"
    why = f": {row['failed']}" if row["failed"] else ""
    return f"{row['name']:<20} {mark:<12} {place}  {metrics}  {more}".rstrip() + why
