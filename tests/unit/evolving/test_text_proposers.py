"""Proposers: what each kind makes of a text, and what it never touches."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.evolving.archive import Archive, Entry
from assay.evolving.chance import Chance
from assay.evolving.learning import learned_patterns, least_general, token_changes
from assay.evolving.limits import Limits
from assay.evolving.proposers import propose
from assay.evolving.proposers.scene import Scene
from assay.evolving.proposers.spec import PoolLine, ProposerSpec
from assay.evolving.world import Observed

KINDS = ("add-line", "delete-line", "replace-line", "move-line", "reorder", "number", "merge", "compress")
TEXT = (
    "# One\nfirst rule\nlimit 10\n\n# Two\n<!-- protect:x start -->\nnever\nchange\n<!-- protect:x end -->\n"
    "second rule\n\n# Last\nlimit 10"
)
POOL = (
    PoolLine(text="pool rule"),
    PoolLine(text="other rule", under="Two"),
    PoolLine(text="limit 10", type="limit"),
)


def scene(text: str = TEXT, **more: Any) -> Scene:
    """A parent of that text, alone."""
    return Scene(**{"parent": Entry(number=0, text=text, state="baseline"), "pool": POOL, **more})


def made(kind: str, found: Scene, count: int = 40, **options: Any) -> list[str]:
    """Texts that a kind proposes by different chances."""
    spec = ProposerSpec(kind=kind, options=options)  # type: ignore[arg-type]
    proposals = (propose(spec, found, Chance(f"{kind}/{i}")) for i in range(count))
    return [p.text for p in proposals if p is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_no_proposer_touches_what_is_protected(kind: str) -> None:
    """Regions and anchors come out of every kind as they went in."""
    mate = Entry(number=1, text="# One\nmerged\n# Two\nstolen\n# Three\nnew")
    found = scene(mates=[mate], anchors=("first rule",))
    texts = made(kind, found)
    assert texts
    limits = Limits(anchors=("first rule",))
    assert [limits.why_refused(TEXT, t) for t in texts] == [""] * len(texts)
    assert any(t != TEXT for t in texts)


@given(st.sampled_from(KINDS), st.text("ab1 #\n", max_size=40), st.integers(0, 50))
def test_a_proposal_depends_on_its_chance_alone(kind: Any, text: str, draw: int) -> None:
    """The same text, kind and chance propose the same again, of any text."""
    found = scene(text)
    once, again = (propose(ProposerSpec(kind=kind), found, Chance(str(draw))) for _ in range(2))
    assert once == again


def test_a_line_is_put_under_its_heading() -> None:
    """A pool line with a heading goes nowhere else; one whose heading is missing is not proposed."""
    texts = [t for t in made("add-line", scene(), at="end") if "other rule" in t]
    assert texts
    assert all("second rule\nother rule\n\n# Last" in t for t in texts)
    assert not made("add-line", scene("no heading", pool=(PoolLine(text="x", under="Two"),)))


def test_a_typed_line_replaces_its_own_type_only() -> None:
    """The type of a line is that of the pool's line that it is."""
    pool = (PoolLine(text="limit 10", type="limit"), PoolLine(text="limit 20", type="limit"))
    texts = made("replace-line", scene("rule\nlimit 10\nend", pool=pool))
    assert set(texts) == {"rule\nlimit 20\nend"}


def test_a_text_that_ends_with_a_line_end_still_does() -> None:
    """Lines are added before the end of the file, and an empty text becomes the line."""
    texts = made("add-line", scene("a\n", pool=(PoolLine(text="b"),)))
    assert set(texts) == {"b\na\n", "a\nb\n"}
    assert set(made("add-line", scene("", pool=(PoolLine(text="b"),)))) == {"b"}


def test_numbers_move_and_words_with_digits_do_not() -> None:
    """A whole number stays whole and changes; `v2` and `1.2.3` are no numbers."""
    texts = made("number", scene("wait 1 s for v2 of 1.2.3\nshare 0.5"))
    assert {t.split("\n")[0] for t in texts} <= {f"wait {n} s for v2 of 1.2.3" for n in (0, 1, 2)}
    assert any("share 0.625" in t for t in texts)
    assert all(t != "wait 1 s for v2 of 1.2.3\nshare 0.5" for t in texts)


def test_two_parents_are_merged_by_section() -> None:
    """Sections of both, in the order of the first; the second parent is named."""
    mate = Entry(number=4, text="# One\ntheirs\n# Three\nnew")
    parent = Entry(number=3, text="# One\nours\n# Two\nonly ours")
    found = Scene(parent=parent, mates=[parent, mate])
    proposals = [propose(ProposerSpec(kind="merge"), found, Chance(str(i))) for i in range(30)]
    texts = {p.text for p in proposals if p}
    assert "# One\ntheirs\n# Two\nonly ours\n# Three\nnew" in texts
    assert all(p.parents == (4,) for p in proposals if p)


def failed(*feedback: str) -> Entry:
    """A text whose train tasks failed with that feedback."""
    found = Entry(number=0, text="rules:")
    for i, text in enumerate(feedback):
        found.learn(f"t{i}", Observed(score=0.0, feedback=text))
    return found


OPTIONS = {
    "positive": r"missed (?P<label>\w+): (?P<text>.*)",
    "negative": "wrong: (?P<text>.*)",
    "line": "{label} {pattern}",
}


def test_a_pattern_is_learned_from_failures() -> None:
    """What the missed examples share, that no wrong one matches, becomes a line; a single example teaches nothing."""
    found = Scene(
        parent=failed("missed date: 2024-01-02\nwrong: 99-1-1", "missed date: 2023-12-31\nmissed ip: 1.2")
    )
    texts = made("from-failure", found, **OPTIONS)
    lines = {t.split("\n")[1] for t in texts}
    assert lines
    assert all(line.startswith("date ") for line in lines)
    for line in lines:
        pattern = line.removeprefix("date ")
        assert re.fullmatch(pattern, "2024-01-02")
        assert re.fullmatch(pattern, "2023-12-31")
        assert not re.search(pattern, "99-1-1")
        assert not re.fullmatch(pattern, "2024/01/02")


def test_passed_tasks_teach_nothing() -> None:
    """Only what failed is learned from, and only its latest run."""
    parent = failed("missed date: 2024-01-02", "missed date: 2023-12-31")
    parent.learn("t0", Observed(score=1.0, feedback="missed date: 2024-01-02"))
    assert not made("from-failure", Scene(parent=parent), **OPTIONS)


def test_a_token_that_must_change_becomes_a_rule() -> None:
    """Pairs of what there was and what there should be give the smallest difference, with enough support."""
    found = Scene(parent=failed("got: use range(n - 1); want: use range(n)", "got: x(n - 1); want: x(n)"))
    texts = made(
        "from-failure", found, pair="got: (?P<before>.*); want: (?P<after>.*)", line="`{before}` -> `{after}`"
    )
    assert "rules:\n` - 1` -> ``" in texts


@given(st.lists(st.from_regex(r"\A[a-c]{1,4}-[0-9]{1,3}\.[A-Z]{2}\Z"), min_size=1, max_size=5))
def test_every_least_general_pattern_matches_all_examples(examples: list[str]) -> None:
    """Examples of one shape give patterns from strict to loose, each of which matches them all."""
    found = least_general(examples)
    assert found
    for pattern in found:
        assert all(re.fullmatch(pattern, e) for e in examples)


@given(
    st.lists(st.text("a1-. X", min_size=1, max_size=6), max_size=6),
    st.lists(st.text("a1-. X", max_size=6), max_size=4),
)
def test_no_learned_pattern_matches_a_negative(positives: list[str], negatives: list[str]) -> None:
    """Of any examples: support is what it says, and nothing wrong is matched anywhere."""
    for pattern, count in learned_patterns(positives, negatives):
        assert count == sum(bool(re.fullmatch(pattern, p)) for p in set(positives)) >= 2
        assert not any(re.search(pattern, n) for n in negatives)


@given(st.text("ab (1)", max_size=12), st.text("ab (1)", max_size=12))
def test_token_changes_stand_in_both(before: str, after: str) -> None:
    """Each change is a piece of what there was and a piece of what there should be."""
    for old, new in token_changes(before, after):
        assert old in before
        assert new in after
        assert old != new


def test_bad_options_are_refused_with_their_place() -> None:
    """An unknown option, a pattern without its group, or none at all is a mistake in the spec."""
    for kind, options in (
        ("add-line", {"where": "end"}),
        ("from-failure", {}),
        ("from-failure", {"positive": "no group"}),
        ("from-failure", {"positive": "("}),
        ("command", {"command": []}),
    ):
        with pytest.raises(ValidationError, match=f"options of {kind}"):
            ProposerSpec(kind=kind, options=options)  # type: ignore[arg-type]


@given(st.text(max_size=60), st.text(max_size=60))
def test_limits_refuse_nothing_of_the_baseline_itself(baseline: str, more: str) -> None:
    """A baseline that is longer than the limit may keep its length; one more character is refused."""
    assume(not Limits().why_refused(baseline, baseline))
    limits = Limits(max_chars=1)
    assert not limits.why_refused(baseline, baseline)
    assert limits.why_refused(baseline, baseline + "x") if baseline else True


def test_chance_draws_evenly_and_is_known_by_its_name() -> None:
    """Ten thousand draws fall evenly on ten places, and weights are kept to."""
    chance = Chance("even")
    counts = [0] * 10
    for _ in range(10_000):
        counts[chance.below(10)] += 1
    assert max(counts) < 1_120
    assert min(counts) > 880
    heavy = sum(Chance(f"w{i}").pick("ab", [3.0, 1.0]) == "a" for i in range(2_000))
    assert 1_400 < heavy < 1_600
    assert Chance("x").shuffled(range(9)) == Chance("x").shuffled(range(9))
    assert Chance("x").of("a").unit() != Chance("x").of("b").unit()


def test_an_archive_records_edits_against_the_first_parent() -> None:
    """The lineage tells lines, not whole texts."""
    archive = Archive("a\nb")
    child = archive.add("a\nc\nb", (0,), "add-line")
    assert [(e.op.value, e.at, e.lines) for e in child.node().edits] == [("add", 1, ("c",))]
