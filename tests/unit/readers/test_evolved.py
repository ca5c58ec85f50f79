"""What a search or a person made of a text: written, read back, judged; and what is read of any bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.adapters.build import text as build_text
from assay.adapters.evaluate import evolution as evaluate_evolution
from assay.core.artifact_text import TextKind
from assay.core.candidate import Candidate
from assay.core.errors import ComponentFailed, UnreadableInput, UsageError
from assay.core.evolution import Evolution
from assay.core.kinds import evidence_from_json
from assay.core.ports import Target
from assay.core.study import AdapterRef
from assay.core.suite import Fixture, Suite, Verifier
from assay.core.verdict import Verdict
from assay.core.vocabulary import Outcome, Status
from assay.gates.evolution import TEXT, TextGate
from assay.gates.text import TextPolicy
from assay.readers.evolved import RECORD, read_evolved
from assay.testing.session import make_session

CANDIDATE = Candidate(name="mine", parent="sha256:0", build=AdapterRef(kind="text"))
SKILL = "---\nname: repair\ndescription: Repairs programs.\n---\n\n# Rules\n\n- be careful\n- be quick\n"
MANIFEST = (
    '{\n  "tools": [\n    {"name": "find", "description": "Finds caf\\u00e9s.", "inputSchema": {"type": "object"}}\n'
    "  ]\n}\n"
)
REGION = "top\n<!-- evolve:rules start -->\none\n<!-- evolve:rules end -->\nbottom\n"


def source(folder: Path, kind: TextKind) -> tuple[Path, str]:
    """A baseline of that kind, and the name of its text."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind is TextKind.SKILL:
        (folder / "repair").mkdir()
        (folder / "repair/SKILL.md").write_text(SKILL)
        (folder / "repair/notes.md").write_text("notes")
        return folder / "repair", ""
    content, name, file = {
        TextKind.TOOL: (MANIFEST, "find", "tools.json"),
        TextKind.PLAIN: ("one\r\ntwo\r\n", "", "prompt.txt"),
        TextKind.REGION: (REGION, "rules", "AGENTS.md"),
    }[kind]
    (folder / file).write_bytes(content.encode())
    return folder / file, name


def built(
    folder: Path, kind: TextKind, given_text: str | None = None, path: Path | None = None
) -> tuple[Path, Path]:
    """A text put into a copy of the baseline; where both lie."""
    place, name = source(folder / "source", kind)
    options = build_text.Options(text=given_text, path=str(path) if path else None, text_kind=kind, name=name)
    session = make_session(folder)
    out = session.workdir / "artifact"
    build_text.Adapter(options).build(CANDIDATE, place, out, session)
    return place, out


def evidence(place: Path, out: Path, folder: Path, **options: Any) -> Evolution:
    """What the gate is given, as it is read back from the store."""
    target = Target(name="mine", path=str(out), source=str(place))
    made = evaluate_evolution.Adapter(evaluate_evolution.Options(**options)).evaluate(
        target, make_session(folder)
    )
    found = evidence_from_json(json.loads(json.dumps(made.to_json())))
    assert isinstance(found, Evolution)
    return found


def judged(found: Evolution, policy: TextPolicy | None = None) -> Verdict:
    """The gate's verdict, twice the same."""
    gate = TextGate(policy or TextPolicy())
    verdict = gate.judge({TEXT: found})
    assert verdict == gate.judge({TEXT: found})
    assert verdict.gate == "text"
    return verdict


@pytest.mark.parametrize("kind", list(TextKind))
def test_a_given_text_goes_the_whole_way(tmp_path: Path, kind: TextKind) -> None:
    """Written, read back, judged: only the text differs, whatever it is part of."""
    place, out = built(tmp_path, kind, "new rule\nand another")
    found = read_evolved(out)
    assert found.matches
    assert found.artifact.kind is kind
    assert found.artifact.text.replace("\r\n", "\n") == "new rule\nand another"
    assert found.evolution.engine == "given"
    assert found.evolution.picked == 1
    assert set(found.texts) == {n.text for n in found.evolution.nodes}
    verdict = judged(evidence(place, out, tmp_path))
    assert verdict.status is Status.PASS
    if kind is TextKind.SKILL:
        assert (out / "repair/SKILL.md").read_text().startswith(SKILL.partition("# Rules")[0])
        assert (out / "repair/notes.md").read_text() == "notes"
    if kind is TextKind.PLAIN:
        assert (out / "prompt.txt").read_bytes() == b"new rule\r\nand another"
    if kind is TextKind.TOOL:
        assert (
            json.loads((out / "tools.json").read_text())["tools"][0]["description"] == "new rule\nand another"
        )
    if kind is TextKind.REGION:
        assert (out / "AGENTS.md").read_text() == REGION.replace("one\n", "new rule\nand another\n")


@pytest.mark.parametrize("text", ["x\n", "\n\nx", "  x\t\n\n", "\ufeffx", "x\r\n", "\x0cx", ""])
@pytest.mark.parametrize("kind", list(TextKind))
def test_blank_ends_of_a_text_are_no_change(tmp_path: Path, kind: TextKind, text: str) -> None:
    """A model ends its text with a line end, and a skill's body has none: it is what was written all the same."""
    place, out = built(tmp_path, kind, text)
    assert read_evolved(out).matches
    found = evidence(place, out, tmp_path)
    assert found.facts["candidate"]["text"].strip("\n \t\r\ufeff") == text.strip("\n \t\r\ufeff")


@pytest.mark.parametrize("kind", list(TextKind))
def test_the_baseline_itself_is_a_given_text(tmp_path: Path, kind: TextKind) -> None:
    """In its own form, by its path: the copy has the same bytes, so that a text can be judged against itself."""
    again, _ = source(tmp_path / "again", kind)
    place, out = built(tmp_path, kind, path=again)
    copy = out / place.name
    files = ["SKILL.md", "notes.md"] if kind is TextKind.SKILL else [""]
    assert all(
        (copy / f if f else copy).read_bytes() == (place / f if f else place).read_bytes() for f in files
    )
    verdict = judged(evidence(place, out, tmp_path))
    assert verdict.status is Status.PASS
    assert any("the candidate is the baseline" in r.text for r in verdict.reasons)


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        (TextKind.SKILL, SKILL.replace("quick", "slow"), "# Rules\n\n- be careful\n- be slow"),
        (TextKind.SKILL, "only a body\n", "only a body"),
        (TextKind.TOOL, "Finds all.\n", "Finds all."),
        (TextKind.REGION, "alone\n", "alone"),
    ],
)
def test_a_file_with_the_text_alone_is_enough(
    tmp_path: Path, kind: TextKind, content: str, text: str
) -> None:
    """A frontmatter that it brings is left out: it is not what changes."""
    (tmp_path / "new.md").write_text(content)
    _, out = built(tmp_path, kind, path=tmp_path / "new.md")
    assert read_evolved(out).artifact.text == text


def test_a_text_of_another_form_is_refused(tmp_path: Path) -> None:
    """A manifest without that tool, a file with the markers of another region, a path that is not there."""
    (tmp_path / "tools.json").write_text('{"tools": []}')
    with pytest.raises(UnreadableInput, match="0 tools are named"):
        built(tmp_path / "a", TextKind.TOOL, path=tmp_path / "tools.json")
    (tmp_path / "other.md").write_text(REGION.replace("rules", "other"))
    with pytest.raises(UsageError, match="markers"):
        built(tmp_path / "b", TextKind.REGION, path=tmp_path / "other.md")
    with pytest.raises(UnreadableInput, match="no such text"):
        built(tmp_path / "c", TextKind.PLAIN, path=tmp_path / "none.txt")


def test_what_an_attempt_before_left_is_replaced(tmp_path: Path) -> None:
    """A build step that was killed may have left a part; the next attempt starts clean."""
    out = tmp_path / "work/artifact"
    out.mkdir(parents=True)
    (out / "stray").write_text("x")
    _, made = built(tmp_path, TextKind.PLAIN, "new")
    assert sorted(p.name for p in made.iterdir()) == [RECORD, "prompt.txt"]


def test_a_text_that_was_changed_after_it_was_built_is_not_judged(tmp_path: Path) -> None:
    """What is confirmed must be what was built."""
    place, out = built(tmp_path, TextKind.PLAIN, "new")
    (out / "prompt.txt").write_text("newer")
    assert not read_evolved(out).matches
    with pytest.raises(ComponentFailed, match="not the one"):
        evidence(place, out, tmp_path)


def test_rules_that_are_broken_refuse(tmp_path: Path) -> None:
    """INFEASIBLE, with each rule and its numbers."""
    place, out = built(tmp_path, TextKind.PLAIN, "x" * 900)
    verdict = judged(evidence(place, out, tmp_path), TextPolicy(max_growth_frac=0.2, anchors=("one",)))
    assert (verdict.status, verdict.outcome) == (Status.FAIL, Outcome.INFEASIBLE)
    assert {r.where for r in verdict.reasons if not r.ok} == {"growth-budget", "anchor-lost"}


def test_a_search_without_a_find_is_no_gain(tmp_path: Path) -> None:
    """Picked = 0 is an answer: the study says NO_GAIN and why the search ended, and spends nothing more."""
    place, out = built(tmp_path, TextKind.PLAIN, path=source(tmp_path / "again", TextKind.PLAIN)[0])
    found = evidence(place, out, tmp_path)
    found = found.model_copy(update={"picked": 0, "ended": "the runs are used up", "runs": 40})
    verdict = judged(found)
    assert (verdict.status, verdict.outcome, verdict.failure_class) == (Status.FAIL, Outcome.NO_GAIN, None)
    assert "the runs are used up" in verdict.detail
    assert "40 runs" in verdict.detail


def test_answers_of_the_suite_in_the_text_refuse_it(tmp_path: Path) -> None:
    """A text that carries what a hidden test expects is refused, however well it would do."""
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps({"task_id": "t1", "user_message": "Say it.", "test_command": "true"}) + "\n")
    hidden = Fixture(
        path="judge.py", content="import program\nassert program.word() == 'zanzibar-heliotrope'\n"
    )
    verifier = Verifier(command=("{python}", "judge.py"), files=(hidden,))
    for text, status in (("answer zanzibar-heliotrope", Status.FAIL), ("answer well", Status.PASS)):
        folder = tmp_path / status.value
        place, out = built(folder, TextKind.PLAIN, text)
        found = evidence(place, out, folder, suite=str(path))
        suite = Suite.model_validate(found.facts["suite"])
        task = suite.tasks[0].model_copy(update={"verifier": verifier})
        facts = {**found.facts, "suite": suite.model_copy(update={"tasks": (task,)}).to_json()}
        verdict = judged(found.model_copy(update={"facts": facts}))
        assert verdict.status is status, verdict
        assert ("copied-value" in verdict.detail) == (status is Status.FAIL)


def test_evidence_that_is_none_is_an_error() -> None:
    """Nothing to judge is never a pass, and never a raise."""
    gate = TextGate(TextPolicy())
    for found in ({}, {TEXT: Evolution(subject="candidate", engine="given")}):
        verdict = gate.judge(found)
        assert (verdict.status, verdict.outcome) == (Status.ERROR, Outcome.ANOMALOUS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built text, to be broken."""
    return built(tmp_path_factory.mktemp("whole"), TextKind.PLAIN, "new")[1]


@given(data=st.data())
def test_any_bytes_are_read_or_refused(whole: Path, data: st.DataObject) -> None:
    """A record with any bytes in it gives a candidate or an UnreadableInput, and nothing else."""
    broken = whole.parent / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    raw = (whole / RECORD).read_bytes()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 40)))
    middle = data.draw(
        st.one_of(st.binary(max_size=20), st.sampled_from([b"[" * 5000, b"null", b'"../../x"']))
    )
    (broken / RECORD).write_bytes(raw[:start] + middle + raw[end:])
    try:
        read_evolved(broken)
    except UnreadableInput:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "evolved/9"},
        {"artifact": {"path": "../../etc/passwd", "kind": "plain"}},
        {"artifact": {"path": "..", "kind": "plain"}},
        {"artifact": {"path": "none.txt", "kind": "plain"}},
        {"texts": {"sha256:0": "another"}},
        {"evolution": {}},
    ],
)
def test_a_record_that_leads_astray_is_refused(
    whole: Path, tmp_path: Path, change: Mapping[str, Any]
) -> None:
    """No path out of the folder, no text under another's digest, no other schema."""
    shutil.copytree(whole, tmp_path / "x")
    record = json.loads((whole / RECORD).read_text())
    (tmp_path / "x" / RECORD).write_text(json.dumps({**record, **change}))
    with pytest.raises(UnreadableInput):
        read_evolved(tmp_path / "x")
