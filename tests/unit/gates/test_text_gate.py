"""Gate `text`: formats by dialect, sizes, protected parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.core.artifact_text import Severity, TextArtifact
from assay.core.vocabulary import Outcome, Status
from assay.gates.text import (
    TextPolicy,
    check_candidate,
    check_manifest,
    check_text,
    hidden_characters,
    judge_text,
    protected_regions,
)
from assay.readers.texts import read_region, read_skill, read_tool

FRONT = "name: a-skill\ndescription: Does it.\n"
Skill = Callable[..., TextArtifact]


@pytest.fixture(name="skill")
def _skill(tmp_path: Path) -> Skill:
    def made(
        front: str = FRONT, body: str = "# Do it\n", folder: str = "a-skill", **files: str
    ) -> TextArtifact:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        (root / "SKILL.md").write_text(f"---\n{front}---\n\n{body}", encoding="utf-8")
        for name, text in files.items():
            (root / name).write_text(text, encoding="utf-8")
        return read_skill(root)

    return made


def rules(artifact: TextArtifact, severity: Severity = Severity.BLOCK, **policy: Any) -> set[str]:
    """Names of the rules that are broken with that severity."""
    found = check_text(artifact, TextPolicy.model_validate(policy))
    return {f.rule for f in found if f.severity is severity}


def test_a_good_skill_has_no_finding(skill: Skill) -> None:
    """Nothing is said about a skill that meets the format."""
    assert check_text(skill()) == ()
    front = (
        "name: a-skill\ndescription: Does it.\nlicense: MIT\ncompatibility: any\n"
        "metadata:\n  author: x\nallowed-tools: Bash Read\n"
    )
    assert check_text(skill(front)) == ()


@pytest.mark.parametrize(
    ("front", "rule"),
    [
        ("description: x\n", "name"),
        ("name: 12\ndescription: x\n", "name"),
        ("name: a-skill\n", "description"),
        ("name: a-skill\ndescription: '  '\n", "description"),
        ("name: a-skill\ndescription: 7\n", "description"),
        (f"name: a-skill\ndescription: {'x' * 1025}\n", "description-length"),
        (f"name: {'a' * 65}\ndescription: x\n", "name-length"),
        ("name: A-Skill\ndescription: x\n", "name-characters"),
        ("name: a_skill\ndescription: x\n", "name-characters"),
        ("name: -skill\ndescription: x\n", "name-hyphens"),
        ("name: a--skill\ndescription: x\n", "name-hyphens"),
        ("name: other\ndescription: x\n", "name-folder"),
        (FRONT + "version: 1\n", "unknown-key"),
        (FRONT + "model: x\n", "unknown-key"),
        (FRONT + f"compatibility: {'x' * 501}\n", "compatibility"),
        (FRONT + "compatibility: ''\n", "compatibility"),
        (FRONT + "license: 3\n", "license"),
        (FRONT + "metadata: x\n", "metadata"),
        (FRONT + "allowed-tools: {a: b}\n", "allowed-tools"),
        ("name: a-skill\ndescription: Use this: now\n", "frontmatter"),
        ("name: a-skill\nname: a-skill\ndescription: x\n", "frontmatter"),
        ("- a list\n", "frontmatter"),
    ],
)
def test_each_rule_of_the_frontmatter_blocks(skill: Skill, front: str, rule: str) -> None:
    """A broken frontmatter is refused by the rule that it breaks."""
    assert rule in rules(skill(front))


@pytest.mark.parametrize(
    ("front", "dialect", "rule"),
    [
        ("name: a-skill\ndescription: a <b> c\n", "anthropic", "description-brackets"),
        (f"name: a-skill\ndescription: {'x' * 501}\n", "codex", "description-codex"),
        ("name: a-skill\ndescription: |\n  one\n  two\n", "codex", "description-lines"),
    ],
)
def test_dialects_add_rules(skill: Skill, front: str, dialect: str, rule: str) -> None:
    """What the open format allows, a dialect may refuse."""
    artifact = skill(front)
    assert rule not in rules(artifact)
    assert rule in rules(artifact, dialects=["agentskills", dialect])


def test_dialects_take_rules_away(skill: Skill) -> None:
    """Claude Code knows more keys, Codex longer names, and reserved words are Anthropic's alone."""
    assert not rules(skill(FRONT + "argument-hint: x\n"), dialects=["claude-code"])
    name = "a" * 70
    long_name = skill(f"name: {name}\ndescription: x\n", folder=name)
    assert rules(long_name) == {"name-length"}
    assert not rules(long_name, dialects=["codex"])
    reserved = skill("name: my-claude\ndescription: x\n", folder="my-claude")
    assert not rules(reserved)
    assert rules(reserved, dialects=["anthropic"]) == {"name-reserved"}


def test_letters_of_other_alphabets(skill: Skill) -> None:
    """The reference admits lowercase letters of any alphabet, in one Unicode form; Anthropic's validator does not."""
    artifact = skill("name: größe\ndescription: x\n", folder="größe")
    assert not rules(artifact)
    assert rules(artifact, dialects=["anthropic"]) == {"name-ascii"}


def test_missing_or_open_frontmatter_is_told(tmp_path: Path) -> None:
    """A SKILL.md without frontmatter is read, and refused with the reason."""
    root = tmp_path / "s"
    root.mkdir()
    for text, word in (("# no front\n", "first line"), ("---\nname: s\n", "closing")):
        (root / "SKILL.md").write_text(text)
        (finding,) = [f for f in check_text(read_skill(root)) if f.rule == "frontmatter"]
        assert finding.severity is Severity.BLOCK
        assert word in finding.text


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("see [it](missing.md)", "link-missing"),
        ("see [it](../other/x.md)", "link-outside"),
        ("---\nname: x\n---\n", "front-injected"),
        ("```python\nx = 1\n", "open-fence"),
        ("a\u202eb", "hidden-characters"),
        ("a\x1bb", "hidden-characters"),
        ("x" * 15_001, "size-limit"),
        ("<!-- protect:a start -->\nx", "protected-markers"),
    ],
)
def test_each_rule_of_the_body_blocks(skill: Skill, body: str, rule: str) -> None:
    """A body that would break the file or hide something is refused, as a skill and as a candidate."""
    assert rule in rules(skill(body=body))
    if rule != "protected-markers":
        found = check_candidate(skill(), body)
        assert rule in {f.rule for f in found if f.severity is Severity.BLOCK}


def test_links_that_hold(skill: Skill) -> None:
    """Links to files of the skill, to the web, to headings and in code are fine."""
    body = (
        "[a](notes.md) [b](notes.md#part) [c](https://example.org/x) [d](#here) `[e](nope.md)`\n"
        "```\n[f](nope.md)\n```\n![g](<notes.md> 'title')\n"
    )
    assert not rules(skill(body=body, **{"notes.md": "x"}))


def test_advice_only_warns(skill: Skill) -> None:
    """A long body is advised against and not refused."""
    found = rules(skill(body="x\n" * 600), Severity.WARN)
    assert found == {"body-lines"}


def test_the_policy_decides_how_severe_a_rule_is(skill: Skill) -> None:
    """A severity of the policy wins over the default."""
    artifact = skill(FRONT + "version: 1\n")
    assert not rules(artifact, severities={"unknown-key": "info"})
    assert rules(artifact, Severity.INFO, severities={"unknown-key": "info"}) == {"unknown-key"}


def test_what_the_baseline_breaks_only_warns_for_the_candidate(skill: Skill) -> None:
    """A broken baseline is told; a candidate that mends it passes, one that keeps the fault does not."""
    baseline = skill(body="[x](gone.md)")
    good = judge_text(baseline, "no link")
    assert good.status is Status.PASS
    assert [r.where for r in good.reasons] == ["link-missing"]
    kept = judge_text(baseline, "[x](gone.md) and more")
    assert (kept.status, kept.outcome) == (Status.FAIL, Outcome.INFEASIBLE)


@pytest.mark.parametrize(("length", "ok"), [(120, True), (121, False), (100, True), (1, True)])
def test_growth_budget_to_the_edge(skill: Skill, length: int, ok: bool) -> None:
    """A budget of .2 admits int(1.2 * baseline) characters and no more."""
    verdict = judge_text(skill(body="x" * 100), "y" * length, TextPolicy(max_growth_frac=0.2))
    assert verdict.passed is ok


def test_a_budget_of_zero_means_no_growth(skill: Skill) -> None:
    """An explicit 0.0 leaves no headroom, and is not taken for "not set"."""
    policy = TextPolicy(max_growth_frac=0.0)
    assert judge_text(skill(body="x" * 10), "y" * 10, policy).passed
    assert not judge_text(skill(body="x" * 10), "y" * 11, policy).passed


@pytest.mark.parametrize(
    ("baseline", "length", "ok"),
    [(100, 5_000, True), (100, 5_001, False), (6_000, 9_000, True), (6_000, 9_001, False)],
)
def test_the_ceiling_is_absolute_or_relative_whichever_is_higher(
    skill: Skill, baseline: int, length: int, ok: bool
) -> None:
    """max(5000, int(1.5 * baseline)) characters, as the source system had it."""
    policy = TextPolicy(ceiling_chars=5_000)
    assert judge_text(skill(body="x" * baseline), "y" * length, policy).passed is ok


def test_protected_regions_must_stay(skill: Skill) -> None:
    """What stands between protect markers may move, and neither change nor go."""
    region = "<!-- protect:law start -->\nNever push.\n<!-- protect:law end -->"
    baseline = skill(body=f"one\n{region}\ntwo\n")
    assert judge_text(baseline, f"{region}\nthree").passed
    for text, rule in (
        (f"{region.replace('Never', 'Always')}\nthree", "protected-changed"),
        ("three", "protected-lost"),
        ("<!-- protect:law start -->\nNever push.", "protected-markers"),
    ):
        assert rule in judge_text(baseline, text).detail


def test_anchors_must_stay(skill: Skill) -> None:
    """A sentence named as anchor must be there as often as before; an unknown one is told."""
    policy = TextPolicy(anchors=("Ask first.", "not there"))
    baseline = skill(body="Ask first. Then do. Ask first.")
    verdict = judge_text(baseline, "Ask first. Then do.", policy)
    assert "anchor-lost" in verdict.detail
    assert "anchor-unknown" in {r.where for r in verdict.reasons}
    assert judge_text(baseline, "Ask first. Ask first. Done.", policy).passed


def test_regions_keep_their_markers(tmp_path: Path) -> None:
    """A candidate cannot end its region early, nor lose a region inside of it."""
    path = tmp_path / "CLAUDE.md"
    path.write_text("x\n<!-- evolve:a start -->\nold\n<!-- evolve:a end -->\ny\n")
    region = read_region(path, "a")
    assert judge_text(region, "new").passed
    assert "marker-inside" in judge_text(region, "new\n<!-- evolve:a end -->\nfree").detail


def test_descriptions_of_tools(tmp_path: Path) -> None:
    """A description must not begin with whitespace, be empty, hide characters or be too long."""
    path = tmp_path / "tools.json"
    path.write_text('{"tools": [{"name": "t", "description": "Reads.", "inputSchema": {"type": "object"}}]}')
    tool = read_tool(path, "t")
    assert judge_text(tool, "Reads a file.").passed
    for text, rule in (
        (" x", "leading-whitespace"),
        ("", "non-empty"),
        ("a\u2066b", "hidden"),
        ("x" * 501, "size"),
    ):
        assert judge_text(tool, text).detail.startswith(rule)


GOOD_TOOL: Mapping[str, Any] = {
    "name": "read_file",
    "description": "Reads a file.",
    "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}


@pytest.mark.parametrize(
    ("change", "rule", "severity"),
    [
        ({"name": ""}, "tool-name", "block"),
        ({"name": "has space"}, "tool-name-characters", "warn"),
        ({"description": None}, "tool-description", "warn"),
        ({"description": 3}, "tool-description-type", "block"),
        ({"description": " "}, "tool-description-empty", "warn"),
        ({"description": "x" * 501}, "tool-description-length", "warn"),
        ({"description": "a\u200bb"}, "hidden-characters", "block"),
        ({"inputSchema": None}, "input-schema", "block"),
        ({"inputSchema": {"type": "array"}}, "input-schema-type", "block"),
        ({"inputSchema": {"type": "object", "required": ["x"]}}, "required-unknown", "warn"),
        ({"inputSchema": {"type": "object", "required": "x"}}, "input-schema-shape", "block"),
        ({"inputSchema": {"type": "object"}}, "input-schema-open", "info"),
        ({"outputSchema": {"type": "string"}}, "output-schema", "block"),
        ({"annotations": {"readOnlyHint": "yes"}}, "annotation-type", "warn"),
        (
            {"annotations": {"readOnlyHint": True, "destructiveHint": True}},
            "annotation-contradiction",
            "warn",
        ),
        ({"annotations": []}, "annotations", "block"),
    ],
)
def test_each_rule_of_a_manifest(change: Mapping[str, Any], rule: str, severity: str) -> None:
    """A tool that breaks a rule is found with its severity, and a good one beside it is not."""
    found = check_manifest([GOOD_TOOL, {**GOOD_TOOL, "name": "b", "description": "Other.", **change}])
    assert (rule, severity) in {(f.rule, f.severity.value) for f in found}
    assert all(f.where != "read_file" for f in found)


def test_names_that_look_alike() -> None:
    """The same name twice is refused; names that a stricter parser would confuse are told in its dialect."""
    twice = [GOOD_TOOL, {**GOOD_TOOL, "description": "b"}]
    assert {f.rule for f in check_manifest(twice)} == {"tool-name-twice"}
    alike = [GOOD_TOOL, {**GOOD_TOOL, "name": "Read-File", "description": "b"}]
    assert check_manifest(alike) == ()
    assert {f.rule for f in check_manifest(alike, TextPolicy.model_validate({"dialects": ["seed"]}))} == {
        "tool-name-alike"
    }


def test_hidden_characters_and_what_is_none() -> None:
    """Controls and bidirectional marks are hidden; emoji, accents, tabs and line ends are not."""
    assert not hidden_characters("a\tb\nc\r\n é 👩\u200d💻 ❤\ufe0f")
    for bad in ("\x00", "\x7f", "\u200b", "\u202a", "\u2069", "\ufeff", "\u2028", "\U000e0041"):
        assert hidden_characters(f"a{bad}b").startswith("U+")


def test_protected_regions_are_found_by_name() -> None:
    """Regions do not nest, and each name stands once."""
    text = "# protect:a start\nx\n# protect:a end\n// protect:b start\ny\n// protect:b end\n"
    assert set(protected_regions(text) or {}) == {"a", "b"}
    assert protected_regions("nothing") == {}
    for broken in ("# protect:a end", text + text, "# protect:a start\n# protect:b start"):
        assert protected_regions(broken) is None


@pytest.mark.parametrize("unit", ["[", "](", "](a ", "](\t\t", "```\n", "`", "<!-- protect:", '] ( " '])
def test_no_text_takes_minutes(skill: Skill, unit: str) -> None:
    """A megabyte of brackets, quotes or fences is checked in a moment (the suite's own time limit would end it)."""
    assert check_text(skill(body=unit * (1_000_000 // len(unit))))
