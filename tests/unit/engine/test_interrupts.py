"""A signal in the middle of an event: the ledger, the memory and the Decision agree all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay import cli
from assay.core.decision import Decision
from assay.core.errors import Interrupted
from assay.core.events import Event, EventType
from assay.core.history import replay
from assay.core.vocabulary import Outcome
from assay.engine.study import StudyLoop
from assay.ledger.memory import MemoryLedger, MemoryStore
from assay.runtime.interrupts import held, interrupt
from assay.testing.fakes import FakeComponents, Script, fake_study


class Signalled(MemoryLedger):
    """A ledger in whose append, after one event is written, Ctrl-C arrives."""

    def __init__(self, living: MemoryLedger, at: int) -> None:
        self._events = living._events
        self.at = at

    def append(self, type: EventType, study: str, data: Any) -> Event:
        """Append, and be interrupted before anybody else knows."""
        event = super().append(type, study, data)
        if event.seq == self.at:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs between two steps of the interpreter
                pass
        return event


@pytest.fixture
def _signals() -> Iterator[None]:
    """The handlers of the command line, for the time of a test."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.usefixtures("_signals")
def test_interrupted_in_the_middle_of_any_event(tmp_path: Path) -> None:
    """What was written is known, each Decision names the head before it, and a resumed study decides the same."""
    source = tmp_path / "source"
    source.mkdir()
    study = fake_study(source)
    scores = {"source": 0.9, "a": 0.5, "b": 0.9}

    def loop(ledger: MemoryLedger, store: MemoryStore, name: str) -> StudyLoop:
        components, folder = FakeComponents(Script(dict(scores))), tmp_path / name
        return StudyLoop(study, ledger=ledger, store=store, components=components, folder=folder)

    whole = MemoryLedger()
    assert loop(whole, MemoryStore(), "whole").run() is Outcome.ACCEPT
    for at in range(2, len(list(whole.read()))):
        ledger, store = MemoryLedger(), MemoryStore()
        cli._listen_to_signals()
        cut = loop(Signalled(ledger, at), store, str(at))
        with pytest.raises(Interrupted):
            cut.run()
        events = list(ledger.read())
        assert [e.seq for e in cut.journal.history.events] == [e.seq for e in events], at
        assert events[-1].type is EventType.STUDY_INTERRUPTED
        for event in events:
            if event.type is EventType.DECISION_RECORDED:
                assert Decision.from_json(event.data["decision"]).head == event.previous, at
        assert replay(events)[study.id].interrupted
        assert loop(ledger, store, str(at)).run() is Outcome.ACCEPT, at


def test_a_held_signal_comes_at_the_end() -> None:
    """Also of the outermost of two blocks, once, and after what the block itself raised."""
    done: list[int] = []

    def work() -> None:
        with held():
            with held():
                interrupt(Interrupted("SIGTERM"))
                done.append(1)
            done.append(2)

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    assert done == [1, 2]
    with held():
        done.append(3)
    with pytest.raises(Interrupted, match="SIGINT"):
        interrupt(Interrupted("SIGINT"))
