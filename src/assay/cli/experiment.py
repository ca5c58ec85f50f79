"""`assay experiment`: training experiments listed, shown, compared, noted, ended, taken out and taken over."""

from __future__ import annotations

import getpass
import json
import os
import signal
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.train import Seconds

if TYPE_CHECKING:
    from assay.core.experiment import Experiment
    from assay.core.verdict import Verdict

POLL_S = 0.2
GRACE_S = 10.0
"""Between SIGTERM and SIGKILL."""

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the experiments; by default `.assay/experiments`, found upward.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def experiment() -> None:
    """List, show, compare and end training experiments; take them out and over."""


@experiment.command("list")
@click.option("--phase", help="Only those of this phase.")
@click.option(
    "--recover", is_flag=True, help="Write registry.json and CHECKLIST.md again, from the records alone."
)
@_root
@_json
def list_(phase: str | None, recover: bool, root: Path | None, as_json: bool) -> int:
    """List the experiments, oldest first."""
    from assay.readers.training import active_of, read_experiments
    from assay.report.lineup import line
    from assay.report.lineup_text import print_list

    place = root_of(root)
    if recover:
        _recover(place)
    found = read_experiments(place)
    for why in _unread(place, {e.id for e in found}):
        click.echo(f"assay: {why}; it is left out", err=True)
    others = {e.id: e for e in found}
    lines = [line(e, others) for e in found if phase is None or e.phase == phase]
    active = active_of(found)
    if as_json:
        document = {"schema": "experiments/1", "root": str(place), "active": active, "experiments": lines}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    elif not lines:
        of_phase = f" of phase {phase}" if phase else ""
        click.echo(f"no experiments{of_phase} in {place}; start one with `assay train -- COMMAND`", err=True)
    else:
        print_list(lines, active)
    return 0


@experiment.command()
@click.argument("name", metavar="EXP")
@_root
@_json
def show(name: str, root: Path | None, as_json: bool) -> int:
    """Show one experiment: state, attempts, metrics with best, alerts, checkpoints, lineage, texts."""
    from assay.readers.training import read_any
    from assay.report.lineup import whole
    from assay.report.lineup_text import print_experiment

    folder = place_of(name, root)
    found = read_any(folder)
    others = {**_others(folder), found.id: found}
    document = whole(found, others)
    if as_json:
        click.echo(json.dumps({"schema": "experiment-view/1", **document}, indent=2, allow_nan=False))
    else:
        print_experiment(document)
    return 0


@experiment.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_root
@_json
def diff(a: str, b: str, root: Path | None, as_json: bool) -> int:
    """What B changed against A: metrics by their declared direction, tiers, configuration, shortfalls."""
    from assay.readers.training import read_any
    from assay.report.lineup import difference
    from assay.report.lineup_text import print_difference

    document = difference(read_any(place_of(a, root)), read_any(place_of(b, root)))
    if as_json:
        click.echo(json.dumps({"schema": "experiment-diff/1", **document}, indent=2, allow_nan=False))
    else:
        print_difference(document)
    return 0


@experiment.command()
@click.argument("name", metavar="EXP")
@click.argument("text")
@_root
def note(name: str, text: str, root: Path | None) -> int:
    """Add a note to the record of an experiment."""
    from assay.core.errors import UsageError

    if not text.strip():
        raise UsageError("the note is empty", where="note")
    folder = writable(name, root)
    _append(folder, "note", {"text": text, "by": _person()})
    click.echo(f"{folder.name}: noted")
    return 0


@experiment.command()
@click.argument("name", metavar="EXP")
@click.option("--reason", required=True, help="Why; it is recorded.")
@click.option(
    "--wait-s",
    type=Seconds(min=0),
    default=60.0,
    show_default=True,
    help="For the training to stop.",
)
@click.option("--kill", is_flag=True, help="End the process if it does not stop: SIGTERM, then SIGKILL.")
@_root
def abort(name: str, reason: str, wait_s: float, kill: bool, root: Path | None) -> int:
    """End an experiment for good. A training that runs is asked to save and stop first."""
    from assay.cli.experiment_ending import aborted
    from assay.core.errors import UsageError
    from assay.core.experiment import FINAL, LIVE
    from assay.readers.training import read_state
    from assay.track.experiments import request_stop

    if not reason.strip():
        raise UsageError("the reason is empty", where="--reason")
    folder = writable(name, root)
    state = read_state(folder).state
    if state in FINAL:
        raise UsageError(f"{folder.name} is {state}: what has ended is not changed", where=str(folder))
    if state in LIVE:
        _writing(folder, lambda: request_stop(folder, _person(), reason))
        click.echo(f"{folder.name}: asked to save and stop", err=True)
        if not _stopped(folder, wait_s) and not (kill and _end_process(folder)):
            click.echo(
                f"assay: {folder.name} still trains after {wait_s:g} s; the request stays. "
                f"Next: `assay experiment abort {folder.name} --reason ... --kill`",
                err=True,
            )
            return 4
    aborted(folder, reason, _person())
    _recover(folder.parent, whole=False)
    click.echo(f"{folder.name}: aborted")
    return 0


@experiment.command()
@click.argument("name", metavar="EXP")
@click.option(
    "--override", help="Complete it although evidence is missing; the reason and what is unmet are recorded."
)
@click.option(
    "--advance-tier", type=click.Choice(["floor", "goal", "stretch"]), help="Lowest tier that may advance."
)
@click.option(
    "--checkpoint", type=click.Choice(["restore", "digest", "none"]), help="How checkpoints must be verified."
)
@click.option("--accept-stopped", is_flag=True, help="A training that was asked to stop counts as ended.")
@click.option("--no-hypothesis", is_flag=True, help="No hypothesis is asked for.")
@_root
@_json
def finish(name: str, override: str | None, root: Path | None, as_json: bool, **options: Any) -> int:
    """Record the result, ask gate `training`, and complete the experiment if its evidence is whole."""
    from assay.cli.experiment_ending import finished
    from assay.cli.gate import EXIT
    from assay.cli.gate import as_json as verdict_json
    from assay.core.errors import UsageError
    from assay.gates.training import TrainingPolicy

    if override is not None and not override.strip():
        raise UsageError("an override needs its reason", where="--override")
    given = {k: options[k] for k in ("advance_tier", "checkpoint") if options[k] is not None}
    flags = {"accept_stopped": options["accept_stopped"], "require_hypothesis": not options["no_hypothesis"]}
    folder = writable(name, root)
    verdict, did = finished(folder, TrainingPolicy.model_validate({**given, **flags}), override, _person())
    _recover(folder.parent, whole=False)
    if as_json:
        click.echo(json.dumps(verdict_json(verdict, recorded=did), indent=2))
    else:
        _print_verdict(verdict, folder.name, did)
    return 0 if did == "overridden" else EXIT[verdict.status]


@experiment.command()
@click.argument("name", metavar="EXP", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "zo", "bundle"]),
    default="json",
    show_default=True,
    help="json: all that is known; csv: the rows; zo: the older layout, of all or one; bundle: a zip with digests.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File or folder; json and csv go to stdout without it."
)
@click.option("--checkpoints", is_flag=True, help="Put the checkpoints into the bundle too.")
@_root
def export(name: str | None, form: str, out: Path | None, checkpoints: bool, root: Path | None) -> int:
    """Take an experiment out: JSON, CSV, the older layout, or a bundle."""
    from assay.cli import experiment_transfer as transfer
    from assay.core.errors import UsageError

    if name is None and form != "zo":
        raise UsageError(
            "name the experiment", where="EXP", allowed=", ".join(_ids(root_of(root))) or "none yet"
        )
    if out is None and form in {"zo", "bundle"}:
        raise UsageError(f"format {form} needs --out", where="--out")
    if form == "zo":
        assert out is not None
        made = transfer.write_zo(root_of(root), out, [place_of(name, root).name] if name else None)
        click.echo(f"{out}: {len(made)} experiments in the older layout")
        return 0
    assert name is not None
    folder = place_of(name, root)
    if form == "bundle":
        assert out is not None
        transfer.write_bundle(folder, out, checkpoints=checkpoints)
        click.echo(str(out))
        return 0
    lines = transfer.json_lines(folder) if form == "json" else transfer.csv_lines(folder)
    transfer.put(lines, out)
    return 0


@experiment.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "tool",
    type=click.Choice(["zo", "mlflow", "tensorboard", "trackio", "wandb"]),
    default="zo",
    show_default=True,
    help="zo: an older `.zo/experiments`, ids and bytes kept; else runs of that tracker, each a new experiment.",
)
@_root
@_json
def import_(source: Path, tool: str, root: Path | None, as_json: bool) -> int:
    """Take over what another tool recorded. All of it is marked as self-reported: no gate believes it."""
    from assay.cli.experiment_transfer import take_over, take_runs
    from assay.track.experiments import experiments_root

    place = experiments_root(root)
    made = take_over(source, place) if tool == "zo" else take_runs(tool, source, place)
    _recover(place, whole=True)
    if as_json:
        click.echo(json.dumps({"schema": "experiment-import/1", "root": str(place), **made}, indent=2))
        return 0
    for name in made["imported"]:
        click.echo(f"{name}: taken over")
    for name in made["there"]:
        click.echo(f"{name}: already taken over")
    for name, why in made["left_out"].items():
        click.echo(f"assay: {name}: left out: {why}", err=True)
    return 0


def root_of(root: Path | None) -> Path:
    """The folder of the experiments: as named, else ours found upward, else an older one beside us."""
    from assay.track.experiments import experiments_root

    place = experiments_root(root)
    older = Path.cwd() / ".zo" / "experiments"
    return older if root is None and not place.is_dir() and older.is_dir() else place


def place_of(name: str, root: Path | None = None) -> Path:
    """The folder of an experiment by id, number or path.

    Raises:
        UsageError: if there is none, with the known ids.
    """
    from assay.readers.training import folder_of

    return folder_of(root_of(root), name)


def writable(name: str, root: Path | None) -> Path:
    """The same, where its record may be added to.

    Raises:
        UsageError: also if it is of the older layout.
    """
    from assay.core.errors import UsageError
    from assay.readers.training import is_experiment

    folder = place_of(name, root)
    if not is_experiment(folder):
        raise UsageError(
            "an experiment of the older layout has no record to add to",
            where=str(folder),
            next=f"`assay experiment import {folder.parent}`",
        )
    return folder


def _unread(root: Path, read: Container[str]) -> Iterator[str]:
    """Why experiments of a root cannot be read; an empty folder is an id that was reserved and never used.

    Raises:
        UnreadableInput: if the root itself cannot be.
    """
    from assay.core.errors import UnreadableInput
    from assay.readers.training import read_any
    from assay.track.experiments import ids

    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise UnreadableInput("cannot read: Permission denied", where=str(root))
    for name in ids(root):
        if name in read:
            continue
        try:
            if any((root / name).iterdir()):
                read_any(root / name)
        except UnreadableInput as error:
            yield f"{error.where}: {error.what}"
        except OSError as error:
            yield f"{root / name}: cannot read: {error.strerror}"


def _ids(root: Path) -> list[str]:
    from assay.readers.training import read_experiments

    return [e.id for e in read_experiments(root)]


def _others(folder: Path) -> Mapping[str, Experiment]:
    from assay.readers.training import read_experiments

    return {e.id: e for e in read_experiments(folder.parent)}


def _append(folder: Path, event: str, fields: Mapping[str, Any]) -> None:
    from assay.track.files import append_event

    _writing(folder, lambda: append_event(folder, event, None, fields))
    _recover(folder.parent, whole=False)


def _writing(folder: Path, action: Callable[[], Any]) -> Any:
    from assay.runtime.files import explaining

    with explaining(folder):
        return action()


def _recover(root: Path, *, whole: bool = True) -> None:
    """Write registry.json and CHECKLIST.md from the experiments' own records."""
    from assay.track import registry

    if root.is_dir():
        _writing(root, lambda: registry.refresh(root, whole=whole))


def _person() -> str:
    try:
        return f"person {getpass.getuser()}"
    except (OSError, KeyError, ImportError):
        return "person"


def _stopped(folder: Path, wait_s: float) -> bool:
    """Wait until nobody trains there any more."""
    from assay.core.experiment import LIVE
    from assay.readers.training import read_state

    until = time.monotonic() + wait_s
    while (found := read_state(folder)).state in LIVE or _lives(found):
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S)
    return True


def _lives(found: Experiment) -> bool:
    """Whether the process of the last attempt is still there: it may be saving after its loop ended."""
    from assay.readers.training import Machine

    last = found.last_attempt
    if last is None or last.outcome or last.pid in {None, os.getpid()}:
        return False
    here = Machine.here()
    return last.host == here.host and last.number not in here.gone([last])


def _end_process(folder: Path) -> bool:
    """End the process of the last attempt, if it runs on this machine and is the one that the record names."""
    from assay.core.errors import UsageError
    from assay.readers.training import Machine, read_state

    found = read_state(folder)
    last = found.last_attempt
    here = Machine.here()
    if (
        last is None
        or last.pid is None
        or not _lives(found)
        or last.process_started is None
        or last.boot_id != here.boot_id
    ):
        if found.last_attempt is not None and last is not None and last.host != here.host:
            raise UsageError(f"it trains on {last.host}, not here", where=str(folder))
        return False
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        click.echo(f"{folder.name}: {number.name} to process {last.pid}", err=True)
        try:
            os.kill(last.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise UsageError(f"process {last.pid} is not ours", where=str(folder)) from error
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if last.number in here.gone([last]):
                return True
            time.sleep(POLL_S)
    return False


def _print_verdict(verdict: Verdict, name: str, did: str) -> None:
    click.echo(f"{verdict.status}  {verdict.detail}")
    for reason in verdict.reasons:
        mark = "·" if reason.text.startswith("note:") else "✓" if reason.ok else "✗"
        where = f"  [{reason.where}]" if reason.where else ""
        click.echo(f"  {mark} {reason.text}{where}")
    told = {"nothing": "left as it was", "completed": "completed", "overridden": "completed by override"}
    click.echo(f"{name}: {told[did]}")
