"""How long a study was at work: what a wall-time budget counts over all resumes."""

from __future__ import annotations

from assay.core.events import GENESIS, Event, EventType, chain
from assay.core.evidence import Artifact
from assay.core.history import StudyHistory
from assay.core.study import AdapterRef, Study


def history(*seen: tuple[EventType, int]) -> StudyHistory:
    """A study with bare events at these seconds."""
    study = Study(
        id="s-1",
        job="release",
        name="s",
        question="?",
        source=Artifact(path="x", digest="sha256:x", size_bytes=1),
        steps=(),
        proposer=AdapterRef(kind="ladder"),
        apply=AdapterRef(kind="none"),
        spec={},
    )
    found = StudyHistory(study=study, opened="2026-01-01T00:00:00.000000+00:00")
    for i, (type_, at) in enumerate(seen, 1):
        event: Event = chain(
            i, type_, "s-1", f"2026-01-01T00:{at // 60:02}:{at % 60:02}.000000+00:00", {}, GENESIS
        )
        found.events.append(event)
    return found


def test_time_between_two_runs_of_a_study_is_not_work() -> None:
    """What lies before a resume is idle, whatever ended the work before it; the rest counts over all resumes."""
    seen = history(
        (EventType.STUDY_OPENED, 0),
        (EventType.STEP_STARTED, 10),
        (EventType.STUDY_RESUMED, 500),
        (EventType.STEP_STARTED, 505),
        (EventType.STUDY_CLOSED, 520),
        (EventType.APPLY_INTENDED, 900),
        (EventType.APPLY_DONE, 901),
    )
    assert seen.active_s == 10 + 20


def test_a_study_that_has_just_begun_has_used_nothing() -> None:
    """One event, or none, is no time."""
    assert history().active_s == 0
    assert history((EventType.STUDY_OPENED, 7)).active_s == 0


def test_a_clock_that_was_set_back_gives_no_time_back() -> None:
    """A step of the clock between two events is no time at work, and takes none of what was counted."""
    seen = history(
        (EventType.STUDY_OPENED, 3000),
        (EventType.TRIAL_STARTED, 3010),
        (EventType.STEP_STARTED, 10),
        (EventType.STEP_STARTED, 15),
    )
    assert seen.active_s == 10 + 5
