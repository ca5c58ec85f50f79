"""What a tuning study does beside the ledger: it has the machine to itself, and its document says what it rests on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import click

from assay.cli.room import room
from assay.cli.tune_progress import CONFLICT
from assay.core.errors import UsageError
from assay.core.events import EventType
from assay.core.history import StudyHistory
from assay.core.recommendation import Recommendation
from assay.core.study import Study
from assay.core.tuning_record import TuningRecord
from assay.engine.journal import Journal
from assay.flows.tune import TuneSpec
from assay.ledger.home import Home
from assay.ledger.tuning_records import JOB, of_study
from assay.runtime import conflicts
from assay.runtime.machine import cpus

ELSEWHERE = "openai"
"""Serve kind of a server that somebody else runs: it is what is measured, and stands in nobody's way."""

BUSY_FRAC = 0.5
"""Load average, as a share of the processors, from which on a machine is called busy."""


def recommended(home: Home, history: StudyHistory) -> Recommendation | None:
    """What a tuning study recommends; None without one, and for a study of another job."""
    record = _record(home, history)
    return record.recommendation if record is not None else None


def print_recommended(home: Home, history: StudyHistory) -> None:
    """What to serve, after a study that tuned."""
    if (record := _record(home, history)) is not None:
        from assay.report.recommendation import print_recommendation

        print_recommendation(record.recommendation, remarks=record.remarks)


def _record(home: Home, history: StudyHistory) -> TuningRecord | None:
    return of_study(history, home.store) if history.study.job == JOB else None


def _tell_busy() -> None:
    """A machine that works for others is measured together with them."""
    have = cpus() or 1
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > BUSY_FRAC * have:
        click.echo(
            f"note: the machine is busy (load average {load:.1f} on {have} processors): readings scatter more, and "
            "less can be proven",
            err=True,
        )


@contextlib.contextmanager
def room_for(study: Study, home: Home, drains: Sequence[str] = ()) -> Iterator[None]:
    """The machine for a study: a tuning study shares it with no other server; any other study takes it as it is.

    Args:
        study: the one that is run or resumed.
        home: the `.assay` folder, held for writing.
        drains: services that a person named with `--drain`.

    Raises:
        UsageError: if something stands in the way, a name is none of a service, or the study starts no server.
        ComponentFailed: if a service does not stop, or does not come back.
    """
    if study.job != JOB:
        if drains:
            raise UsageError(
                f"a study of job {study.job} measures no speed, so nothing has to make way for it",
                where="--drain",
                allowed="studies of job tune",
            )
        yield
        return
    spec = TuneSpec.from_json(study.spec)
    if spec.engine.kind == ELSEWHERE:
        if drains:
            raise UsageError(
                "the study measures a server that runs elsewhere and starts none",
                where="--drain",
                next="leave --drain away",
            )
        yield
        return
    _tell_busy()
    port = int(spec.engine.options.get("port") or 0)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(room(home.folder, port=port, drains=drains, conflicts=spec.conflicts))
        except UsageError:
            if conflicts.find(port):  # not a slip of the pen: the run is told, as one that could not begin
                _refused(study, home)
            raise
        yield


def _refused(study: Study, home: Home) -> None:
    """Keep a study that found no room, so that it is listed with its reason and can be begun later."""
    if not any(event.study == study.id for event in home.ledger.read()):
        journal = Journal(home.ledger, home.store, study)
        journal.write(EventType.STUDY_INTERRUPTED, {"signal": CONFLICT})
    click.echo(f"note: nothing was started; `assay resume {study.id}` begins once there is room", err=True)
