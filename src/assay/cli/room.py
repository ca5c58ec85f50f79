"""Room for a study that needs the machine: nothing stands in the way, and what was named makes way and comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import click

FOLDER = "drained"


@contextlib.contextmanager
def room(
    folder: Path,
    *,
    port: int = 0,
    drains: Sequence[str] = (),
    conflicts: Literal["refuse", "warn", "ignore"] = "refuse",
) -> Iterator[None]:
    """Refuse where something stands in the way, drain the named services, lend the machine, bring them back.

    Args:
        folder: the `.assay` folder; the states of drains lie there.
        port: TCP port that the study's servers listen on; 0 = any free one.
        drains: services that a person named.
        conflicts: what to do about everything else that stands in the way: not to begin, to tell, or not to look.

    Raises:
        UsageError: if something else stands in the way, or a name is none of a service.
        ComponentFailed: if a service does not stop, or does not come back.
    """
    from assay.runtime import conflicts as ways
    from assay.runtime import drain

    def note(text: str) -> None:
        click.echo(f"assay: {text}", err=True)

    for path in drain.left_over(folder / FOLDER):
        note(f"{drain.restore_left_over(path)} was left stopped by a study that was killed: it runs again")
    services = [drain.find_service(name) for name in dict.fromkeys(drains)]
    with contextlib.ExitStack() as held:
        for service in services:
            state = folder / FOLDER / f"{service.name}.drain.json"
            held.enter_context(drain.drained(service, state, note=note))
        # after the drains: only now it shows whether they were all that stood in the way
        if conflicts == "refuse":
            ways.require_none(port)
        elif conflicts == "warn":
            for found in ways.find(port):
                note(f"in the way, measured beside it all the same: {found.what}")
        yield
