"""What the tests of the ledger share."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.core.vocabulary import Outcome
from assay.engine.study import StudyLoop
from assay.ledger.home import Home
from assay.testing.fakes import FakeComponents, Script, fake_study


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A ledger with one finished study in it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights").write_text("source")
    home = Home(tmp_path / ".assay", create=True)
    components = FakeComponents(Script({"source": 0.9, "a": 0.5, "b": 0.9}))
    study = fake_study(source)
    folder = home.study(study.id)
    loop = StudyLoop(study, ledger=home.ledger, store=home.store, components=components, folder=folder)
    assert loop.run() is Outcome.ACCEPT
    return home
