"""Known failures: each is refused with the class and the words of `bad_cases`, and for that alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_cases import BAD, REAL_BAD, UNREADABLE
from good_cases import unpack

from assay.core.errors import UnreadableInput
from assay.core.vocabulary import Outcome, Status
from assay.gates.checkpoint import CheckpointGate, CheckpointPolicy
from assay.readers.checkpoint import read_checkpoint


@pytest.mark.parametrize("name", BAD)
def test_a_known_failure_is_refused_and_named(tmp_path: Path, name: str) -> None:
    """FAIL, infeasible, with the failure class that decides what is done next, and a reason that names it."""
    bad = BAD[name]
    source = read_checkpoint(bad.source().write(tmp_path / "source"), "source", digest_limit_bytes=0)
    candidate = read_checkpoint(bad.candidate(tmp_path / "candidate"), digest_limit_bytes=0)
    gate = CheckpointGate(CheckpointPolicy(**{"recipe": bad.recipe, **bad.policy}))
    verdict = gate.judge({"source.checkpoint": source, "candidate.checkpoint": candidate})
    reasons = [r.text for r in verdict.reasons if not r.ok]
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, bad.failure), reasons
    assert verdict.outcome is Outcome.INFEASIBLE
    assert any(bad.words in r for r in reasons), reasons


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what toolkits wrote."""
    return unpack(tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("name", REAL_BAD)
def test_what_a_toolkit_wrote_without_an_error_is_refused(real: Path, name: str) -> None:
    """Real files with the failures of the field: refused, with the words that name the failure."""
    bad = REAL_BAD[name]
    source = read_checkpoint(real / bad.source, "source")
    candidate = read_checkpoint(real / name, source=real / bad.source)
    gate = CheckpointGate(CheckpointPolicy(recipe=bad.recipe))
    verdict = gate.judge({"source.checkpoint": source, "candidate.checkpoint": candidate})
    reasons = [r.text for r in verdict.reasons if not r.ok]
    assert (verdict.status, verdict.failure_class) == (Status.FAIL, bad.failure), reasons
    assert any(bad.words in r for r in reasons), reasons


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_judged_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    """An UnreadableInput with one line; nothing is loaded, nothing outside the folder is read."""
    write, words, _ = UNREADABLE[name]
    with pytest.raises(UnreadableInput, match=words) as error:
        read_checkpoint(write(tmp_path / "candidate"))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
