"""The proposer `command`: any program reads a request from its standard input and answers with a text."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from assay.core.artifact_text import Edit
from assay.core.base import Noun
from assay.core.errors import ComponentMissing
from assay.core.run import Work
from assay.evolving.proposers.spec import CommandOptions
from assay.runtime import asking
from assay.runtime.files import explaining, remove, write_json
from assay.runtime.logs import log_text
from assay.runtime.verifier import INHERITED, without_secrets
from assay.runtime.work import guarded_to_end

REPLY_LIMIT_BYTES = 1 << 20
SEEN = (*INHERITED, "HOME", "USER", "TMPDIR")
"""What it may always see of our environment."""


class Reply(Noun):
    """What the program answers."""

    text: str | None = None
    edits: tuple[Edit, ...] = ()
    reason: str = ""
    cost: float | None = Field(default=None, ge=0)
    stop: str = ""
    failed: str = ""
    """Why the answer cannot be used; never the program's own word."""


def missing(options: CommandOptions) -> str:
    """What of the program is not on this machine; empty if it is there."""
    return asking.missing(asking.filled(options.command[0], {"python": sys.executable}))


def asked(options: CommandOptions, request: Mapping[str, Any], folder: Path, limit_s: float | None) -> Reply:
    """One call. What the program does wrong is told in the reply.

    Args:
        options: the program.
        request: JSON for its standard input.
        folder: for this call alone; what an interrupted call left there is removed.
        limit_s: seconds that the study has left; None without a limit.

    Raises:
        ComponentMissing: if the program does not exist.
        ComponentFailed: if nobody knows how it ended, or the disk is full.
    """
    remove(folder)
    with explaining(folder):
        folder.mkdir(parents=True)
    paths = {name: str(folder / f"{name}.json") for name in ("request", "reply")}
    write_json(Path(paths["request"]), {**request, "context": dict(options.context)})
    given = {"python": sys.executable, **paths}
    command = tuple(asking.filled(part, given) for part in options.command)
    if problem := missing(options):
        raise ComponentMissing(problem, where="proposer `command`")
    # a guarded process has no standard input of its own: the shell gives it the request, and becomes the program
    shelled = ("/bin/sh", "-c", 'exec "$@" <"$0"', paths["request"], *command)
    limits = [t for t in (options.timeout_s, limit_s) if t is not None]
    work = Work(
        label="propose",
        command=without_secrets(shelled, (*SEEN, *options.env)),
        cwd=str(folder),
        log=str(folder / "propose.log"),
        timeout_s=max(0.1, min(limits)),
    )
    run = guarded_to_end(work, folder / "status.json")
    if run.timed_out:
        return Reply(failed=f"it took longer than {min(limits):g} s")
    if run.exit_code != 0:
        said = next((line.strip() for line in reversed(run.log_tail.splitlines()) if line.strip()), "")
        return Reply(failed=f"it ended with exit code {run.exit_code}" + (f": {said[:300]}" if said else ""))
    return _parsed(options, folder)


def _parsed(options: CommandOptions, folder: Path) -> Reply:
    printed = log_text(folder / "propose.log", limit_bytes=REPLY_LIMIT_BYTES)
    if options.output == "text":
        return Reply(text=printed.rstrip("\n")) if printed.strip() else Reply(failed="it printed nothing")
    found = asking.answered(folder / "reply.json", printed)
    if found is None:
        return Reply(failed="there is no JSON object in its answer")
    try:
        reply = Reply.model_validate({k: v for k, v in found.items() if k != "failed"})
    except ValidationError as error:
        return Reply(failed=asking.first_problem(error))
    if reply.text is not None and reply.edits:
        return Reply(failed="both `text` and `edits`", cost=reply.cost)
    if reply.text is None and not reply.edits and not reply.stop:
        return Reply(failed="neither `text`, `edits` nor `stop`", cost=reply.cost)
    return reply
