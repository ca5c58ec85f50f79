"""Build kind `command`: any program that writes a checkpoint. `{source}`, `{out}` and `{seed}` are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assay.core.base import Noun
from assay.core.candidate import Candidate
from assay.core.errors import ComponentFailed
from assay.core.ports import Component, Session
from assay.core.run import Work
from assay.core.vocabulary import FailureClass
from assay.runtime import asking

POLL_S = 0.2


class Options(Noun):
    """Options of `build: {kind: command}`."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; no shell. `{source}`, `{out}`, `{seed}` are replaced."""
    env: Mapping[str, str] = Field(default_factory=dict)
    """Added to the environment."""
    recipe: str = "from-declaration"
    """What the artifact is meant to be, such as `W4A16`; by default it is judged against its own declaration."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Ended after this long; null = only by the study's budget."""


class Adapter:
    """Runs the user's own quantizer, converter or trainer."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self) -> Component:
        """Whether the program is on this machine."""
        detail = asking.missing(self.options.command[0])
        return Component(verb="build", kind="command", state="missing" if detail else "ready", detail=detail)

    def intent(self) -> Mapping[str, Any]:
        """The recipe named in the options."""
        return {"recipe": self.options.recipe}

    def build(self, candidate: Candidate, source: Path, out: Path, session: Session) -> Mapping[str, Any]:
        """Run the command; it must leave a checkpoint at `{out}`.

        Raises:
            ComponentMissing: if the program is not there.
            ComponentFailed: if it ends with another exit code than 0, or leaves nothing.
        """
        values = {"source": str(source), "out": str(out), "seed": str(session.seed)}
        limits = [t for t in (self.options.timeout_s, session.remaining_s()) if t is not None]
        work = Work(
            label="build",
            command=tuple(asking.filled(part, values) for part in self.options.command),
            env=self.options.env,
            cwd=str(session.workdir),
            log=str(session.workdir / "build.log"),
            timeout_s=min(limits) if limits else None,
        )
        session.note(f"running {work.command[0]}")
        handle = session.execute.submit(work)
        while (run := session.execute.poll(handle, POLL_S)).wall_s is None:
            pass
        if run.exit_code != 0 or not out.exists():
            what = f"exit code {run.exit_code}" if run.exit_code else f"it left nothing at {out}"
            raise ComponentFailed(
                f"the build command failed: {what}",
                failure_class=FailureClass.BUDGET_EXHAUSTED if run.timed_out else FailureClass.UNKNOWN,
                where=f"recipe {candidate.name}",
                next=f"read {work.log}",
                log_tail=run.log_tail,
            )
        return {"command": list(work.command), "wall_s": run.wall_s}
