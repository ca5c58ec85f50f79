"""Putting an accepted text in its place, and taking it back to the byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.adapters.apply.text import Adapter, Options
from assay.adapters.build.text import Adapter as Given
from assay.adapters.build.text import Options as GivenOptions
from assay.core.candidate import Candidate
from assay.core.decision import Decision
from assay.core.errors import UsageError
from assay.core.study import AdapterRef
from assay.core.vocabulary import Outcome
from assay.readers.texts import read_text
from assay.runtime.files import artifact

SKILL = "---\r\nname: greet\r\ndescription: says hello\r\n---\r\n\r\nSay hello.\r\nBe brief.\r\n"


class Place:
    """A skill, a built candidate for it, and the adapter."""

    def __init__(self, root: Path, new: str = "Say hello twice.\n") -> None:
        self.skill = root / "greet"
        self.skill.mkdir()
        self.file = self.skill / "SKILL.md"
        self.file.write_bytes(SKILL.encode())
        (self.skill / "helper.sh").write_text("echo hi\n")
        self.built = root / "built"
        candidate = Candidate(name="new", parent="sha256:x", build=AdapterRef(kind="text"))
        session: Any = None
        Given(GivenOptions(text=new)).build(candidate, self.skill, self.built, session)
        self.decision = Decision(
            study="s",
            trial="s-1",
            candidate="new",
            candidate_key="sha256:k",
            outcome=Outcome.ACCEPT,
            sentence="better",
            facts={"artifact": artifact(self.built).to_json()},
        )
        self.adapter = Adapter(
            Options.model_validate({"path": str(self.skill), "expects": read_text(self.skill).digest})
        )

    def token(self) -> Mapping[str, Any]:
        """As the ledger gives it back: JSON."""
        found: Mapping[str, Any] = json.loads(json.dumps(self.adapter.plan(self.built, self.decision)))
        return found


def test_undo_brings_the_very_bytes_back(tmp_path: Path) -> None:
    """Applying changes the body alone, and undoing restores the file to the byte; both may be done twice."""
    place = Place(tmp_path)
    token = place.token()
    assert place.file.read_bytes() == SKILL.encode()
    for _ in range(2):
        place.adapter.apply(place.built, place.decision, token)
        changed = place.file.read_bytes()
        assert b"Say hello twice." in changed
        assert changed.startswith(SKILL[: SKILL.index("Say")].encode())
    for _ in range(2):
        place.adapter.undo(token)
        assert place.file.read_bytes() == SKILL.encode()
    assert sorted(p.name for p in place.skill.iterdir()) == ["SKILL.md", "helper.sh"]


def test_another_baseline_is_refused(tmp_path: Path) -> None:
    """A change of any file of the skill means that something else was judged."""
    place = Place(tmp_path)
    (place.skill / "helper.sh").write_text("echo other\n")
    with pytest.raises(UsageError, match="not the text that was judged"):
        place.token()


def test_a_change_between_plan_and_apply_is_left_alone(tmp_path: Path) -> None:
    """What somebody wrote meanwhile is never lost."""
    place = Place(tmp_path)
    token = place.token()
    place.file.write_text(SKILL + "mine\n")
    with pytest.raises(UsageError):
        place.adapter.apply(place.built, place.decision, token)
    assert place.file.read_text().endswith("mine\n")


def test_another_file_of_the_skill_is_seen_at_apply(tmp_path: Path) -> None:
    """Scripts beside the text matter as the text does."""
    place = Place(tmp_path)
    token = place.token()
    (place.skill / "helper.sh").write_text("echo other\n")
    with pytest.raises(UsageError, match="judged"):
        place.adapter.apply(place.built, place.decision, token)
    assert place.file.read_bytes() == SKILL.encode()


def test_a_change_after_apply_is_not_undone(tmp_path: Path) -> None:
    """Undo takes back what was applied, not what came later."""
    place = Place(tmp_path)
    token = place.token()
    place.adapter.apply(place.built, place.decision, token)
    place.file.write_text("later\n")
    with pytest.raises(UsageError, match="somebody else"):
        place.adapter.undo(token)
    assert place.file.read_text() == "later\n"


def test_a_changed_candidate_is_refused(tmp_path: Path) -> None:
    """What is applied is what was judged."""
    place = Place(tmp_path)
    (place.built / "greet" / "SKILL.md").write_text(SKILL + "evil\n")
    with pytest.raises(UsageError, match="changed since it was judged"):
        place.token()


def test_a_link_is_refused_unless_forced(tmp_path: Path) -> None:
    """A link leads to a file that nobody named."""
    place = Place(tmp_path)
    real = tmp_path / "real.md"
    shutil.move(place.file, real)
    place.file.symlink_to(real)
    with pytest.raises(UsageError):
        place.token()
