"""The attempts of a training run: how each ended and what it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.core.sizes import size
from assay.live.watch import Story
from assay.report._view.marks import Mark, Sign, Tone
from assay.report._view.text import duration, moment, one_line, plain


@dataclass(frozen=True)
class AttemptView:
    """One attempt."""

    number: int
    mark: Mark
    when: str
    how: str
    used: str
    resumed: str
    command: str
    process: str
    tail: str


def attempt_of(attempt: Any, story: Story) -> AttemptView:
    """All that is shown of an attempt.

    Args:
        attempt: as the reader found it.
        story: the fold of the same files, which knows the revision of the code.
    """
    outcome = attempt.outcome or "no end recorded"
    fine = outcome == "exited" and attempt.exit_code in (0, None)
    tone: Tone = (
        "good" if fine else "open" if outcome == "stopped" else "idle" if not attempt.outcome else "bad"
    )
    sign: Sign = (
        "check" if fine else "bang" if outcome == "stopped" else "dash" if not attempt.outcome else "cross"
    )
    how = attempt.signal or (f"exit {attempt.exit_code}" if attempt.exit_code is not None else "")
    used = attempt.resources
    parts = []
    if (wall := real(used.get("wall_s"))) is not None:
        parts.append(duration(wall))
    if (user := real(used.get("user_s"))) is not None:
        parts.append(f"{duration(user + (real(used.get('system_s')) or 0.0))} of processor time")
    if (memory := real(used.get("max_rss_bytes"))) is not None:
        parts.append(f"{size(memory)} at most")
    told = story.attempts.get(attempt.number)
    place = f"process {attempt.pid} on {one_line(attempt.host, 60)}" if attempt.pid is not None else ""
    return AttemptView(
        number=attempt.number,
        mark=Mark(outcome, tone, sign),
        when=moment(attempt.started) if attempt.started else "",
        how=how,
        used=", ".join(parts),
        resumed=f"from {one_line(attempt.resumed_from, 80)} at step {attempt.resumed_step}"
        if attempt.resumed_from
        else "",
        command=one_line(" ".join(attempt.command), 2000),
        process=", ".join(
            p for p in (place, f"git {told.git}" if told is not None and told.git else "") if p
        ),
        tail=plain(attempt.log_tail)[-8000:],
    )


def real(value: Any) -> float | None:
    """A number; None in place of anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
