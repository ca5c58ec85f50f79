"""A spec that is wrong: one line that names file, line, key, and what is allowed; nothing is begun."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cli.load import load_spec
from assay.core.errors import AssayError, SpecError
from cli_call import ROOT, SPEC, Call

WRONG = {
    "unknown key": (("compare:", "compere:"), "release.yaml:16: compere: unknown key", "allowed: apply, "),
    "unknown key within": (("margin: 0.1", "margni: 0.1"), "release.yaml:17: compare.margni", "margin, "),
    "unknown key of a recipe": (
        ("- name: second", "- name: second\n    bild: 1"),
        "release.yaml:8: recipes.1.bild: unknown key (allowed: build, intent, name, serve)",
    ),
    "unknown option": (("type: Q4_0", "typ: Q4_0"), "release.yaml:8: recipes.1.build.typ", "output_type"),
    "text for a number": (("margin: 0.1", "margin: much"), "release.yaml:17: compare.margin", "'much'"),
    "number in quotes": (("slots: 1", 'slots: "1"'), "release.yaml:11: serve.slots", "not '1'"),
    "bool for a number": (("slots: 1", "slots: true"), "release.yaml:11: serve.slots", "not True"),
    "NaN": (("margin: 0.1", "margin: .nan"), "release.yaml:17: compare.margin"),
    "out of range": (("margin: 0.1", "margin: 1.5"), "release.yaml:17: compare.margin", "less than 1"),
    "key twice": (("slots: 1", "slots: 1\n  slots: 2"), "release.yaml:12: not YAML: found duplicate key"),
    "no mapping": ((SPEC, "- a\n- b\n"), "release.yaml: a spec is a mapping", "`assay init release`"),
    "nothing": ((SPEC, ""), "release.yaml: a spec is a mapping"),
    "no YAML": (("slots: 1", "slots: ["), "release.yaml:13: not YAML"),
    "tag": (("slots: 1", "slots: !!python/object:os.system x"), "release.yaml"),
    "date": (("slots: 1", "slots: 2026-01-01"), "release.yaml:11: serve.slots"),
    "two documents": ((SPEC, SPEC + "---\na: 1\n"), "release.yaml:19: not YAML"),
    "key missing": (("schema: release/1\n", ""), "release.yaml: schema: Field required"),
    "other schema": (("release/1", "release/9"), "release.yaml:1: schema", "'release/1'"),
    "no recipes": ((SPEC[SPEC.index("recipes:") : SPEC.index("serve:")], "recipes: []\n"), ":4: recipes"),
    "recipe twice": (("name: second", "name: first"), "recipe names must differ; twice: first"),
    "recipe's name": (("name: second", "name: ../second"), "release.yaml:7: recipes.1.name"),
    "build kind": (("kind: gguf, type: Q4_0", "kind: gguff"), "release.yaml:8: recipes.1.build", "gguf, "),
    "serve kind": (
        ("kind: llama_cpp", "kind: llama"),
        "release.yaml:9: serve",
        "llama_cpp",
        "`assay doctor`",
    ),
    "kind of nobody": (("kind: gguf, type: Q4_0", "kind: 'no.such:Adapter'"), "recipes.1.build", "cannot be"),
    "kind that is none": (
        ("kind: gguf, type: Q4_0", "kind: 'os.path:Adapter'"),
        "recipes.1.build",
        "Options",
    ),
    "recipe unknown": (("type: Q4_0", "type: Q9_9"), "release.yaml:8: recipes.1.build", "Q9_9", "q8_0"),
    "scheme unknown": (
        ("{kind: gguf, type: Q4_0}", "{kind: compressed_tensors, scheme: W9A9}"),
        "release.yaml:8: recipes.1.build",
        "W9A9",
    ),
    "intent unknown": (
        ("{kind: gguf, type: Q4_0}", "{kind: gguf, type: Q4_0}\n    intent: {recipe: Q9_9}"),
        "recipes.1",
        "Q9_9",
    ),
    "missing path": (
        ("{kind: gguf, type: Q4_0}", "{kind: identity, path: nowhere}"),
        "release.yaml:8: recipes.1.build.path: no such file or folder",
    ),
    "missing checkpoint": (
        (f"source: {ROOT}", "source: /nowhere"),
        "release.yaml:3: source: no such model: /nowhere",
    ),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("label", WRONG)
def test_wrong_spec_is_one_line(assay: Call, spec: Path, label: str, command: str) -> None:
    """File, line, key and remedy in one line, exit 2, and no `.assay` is made."""
    (old, new), *fragments = WRONG[label]
    assert old in SPEC
    spec.write_text(SPEC.replace(old, new), encoding="utf-8")
    assay(command, spec).refused(2, *fragments)
    assert list(spec.parent.iterdir()) == [spec]


def test_a_recipe_of_the_users_own_is_known(assay: Call, spec: Path) -> None:
    """`checkpoint.recipes` stands beside the table, from the plan on."""
    build = ("{kind: gguf, type: Q4_0}", "{kind: identity, recipe: mine}")
    own = "checkpoint: {recipes: {mine: {recipe: q4_0}}}\n"
    assert build[0] in SPEC
    spec.write_text(SPEC.replace(*build), encoding="utf-8")
    assay("plan", spec).refused(2, "recipes.1.build", "unknown recipe 'mine'")
    spec.write_text(SPEC.replace(*build) + own, encoding="utf-8")
    said = assay("plan", spec)
    assert (said.err, "mine" in said.out or "second" in said.out) == ("", True)


@pytest.mark.parametrize("data", [bytes(range(256)), b"\xff\xfe", b"a: \x00", b"x" * (5 << 20)])
def test_any_bytes_are_refused(assay: Call, spec: Path, data: bytes) -> None:
    """What is no text, no YAML, or far too long."""
    spec.write_bytes(data)
    assay("run", spec).refused(2, "release.yaml")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_no_bytes_crash_the_loader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Random bytes are an error of ours, never another exception."""
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(data)
    with pytest.raises(AssayError):
        load_spec(path)


VALUES = (
    "",
    "null",
    "true",
    "1e999",
    "-1",
    "[]",
    "{}",
    "[[]]",
    "{a: {b: 1}}",
    "'x'",
    "&a *a",
    "2026-01-01",
    "\x85",
)


@given(st.data())
def test_no_edit_crashes_the_loader(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A spec with a piece replaced by anything is loaded or refused in words."""
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    lines = SPEC.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    key = lines[number].partition(":")[0]
    value = data.draw(
        st.sampled_from(
            ["", "null", "true", "1e999", "-1", "[]", "{}", "[[]]", "{a: {b: 1}}", "'x'", "&a *a"]
        )
    )
    lines[number] = data.draw(st.sampled_from([f"{key}: {value}", value, f"{lines[number]} {value}"]))
    path.write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(AssayError):
        load_spec(path)


def test_missing_spec(assay: Call) -> None:
    """The remedy is the command that writes a starter."""
    assay("run", "no.yaml").refused(2, "no.yaml", "No such file", "`assay init release")


def test_folder_for_a_spec(assay: Call, tmp_path: Path) -> None:
    """A folder is no spec."""
    assay("plan", tmp_path).refused(2, str(tmp_path))


def test_toolkit_not_installed(assay: Call, spec: Path) -> None:
    """A missing vendor is found before anything is begun: exit 6, package and command."""
    spec.write_text(SPEC.replace("{kind: gguf, type: Q4_0}", "{kind: llmcompressor, scheme: W4A16}"))
    assay("run", spec).refused(6, "recipes.1.build", "llmcompressor", "pip install", "`assay doctor`")
    assert list(spec.parent.iterdir()) == [spec]


def test_program_not_installed(assay: Call, spec: Path) -> None:
    """The same for a harness of one's own."""
    assay("run", spec, "--set", "evaluate.command=[no-such-program]").refused(
        6, "evaluate", "no-such-program"
    )


def test_ledger_inside_the_source(assay: Call, spec: Path) -> None:
    """A spec in the checkpoint's own folder would put the ledger among the bytes that it pins."""
    (spec.parent / "config.json").write_text("{}")
    assay("run", spec, "--set", "source=.").refused(2, "inside the source checkpoint", "ASSAY_HOME")
    assert not (spec.parent / ".assay").exists()


def test_target_that_exists(assay: Call, spec: Path) -> None:
    """What would fail after hours is said at once."""
    (spec.parent / "published").mkdir()
    assay("run", spec).refused(2, "published", "exists already", "`assay undo`")
    assert not (spec.parent / ".assay").exists()


@pytest.mark.parametrize(
    ("item", "fragments"),
    [
        ("margin", ("'margin' is not KEY=VALUE",)),
        ("=1", ("is not KEY=VALUE",)),
        ("recipes.7.name=x", ("no item 7", "0 to 1")),
        ("recipes.x.name=x", ("no item x",)),
        ("name.a=x", ("leads into a value that has no keys",)),
        ("compare.margin=[", ("is no YAML value",)),
        ("compare.margni=1", ("release.yaml", "compare.margni", "unknown key")),
        ("serve.slots=many", ("serve.slots", "'many'")),
    ],
)
def test_wrong_override(assay: Call, spec: Path, item: str, fragments: tuple[str, ...]) -> None:
    """`--set` is refused as a file would be, and names the key."""
    assay("plan", spec, "--set", item).refused(2, *fragments)


@pytest.mark.parametrize(
    ("item", "path", "value"),
    [
        ("compare.margin=0.02", ("compare", "margin"), 0.02),
        ("recipes.1.name=other", ("recipes", 1, "name"), "other"),
        ("recipes.0.build.type=Q4_0", ("recipes", 0, "build", "options", "type"), "Q4_0"),
        ("budget.trials=3", ("budget", "trials"), 3),
        ("serve={kind: llama_cpp, slots: 7}", ("serve", "options", "slots"), 7),
        ("evaluate.command=[python3, -V]", ("evaluate", "options", "command"), ["python3", "-V"]),
        ("apply={kind: none}", ("apply", "kind"), "none"),
        ("external=null", ("external",), None),
    ],
)
def test_override(spec: Path, item: str, path: tuple[Any, ...], value: Any) -> None:
    """Keys, items of lists, whole values; the last word is the override's."""
    found: Any = load_spec(spec, ["compare.margin=0.5", "compare.margin=0.1", item]).to_json()
    for part in path:
        found = found[part]
    assert found == value


def test_spec_stands_alone(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are those beside the file, wherever Assay is called; defaults are filled in; the digest is one."""
    monkeypatch.chdir("/")
    first = load_spec(spec)
    assert first.apply.options["path"] == str(tmp_path / "published")
    assert first.serve.options["kv_type"] == "f16"
    monkeypatch.chdir(tmp_path)
    assert load_spec(Path("release.yaml")).content_digest == first.content_digest


def test_starter_and_example_are_valid(assay: Call, tmp_path: Path) -> None:
    """What `assay init release` prints loads as it stands, and so does the example."""
    (tmp_path / "model").mkdir()
    starter = tmp_path / "starter.yaml"
    starter.write_text(assay("init", "release").out, encoding="utf-8")
    assert [r.name for r in load_spec(starter).recipes] == ["w4a16", "w8a8"]
    assert len(load_spec(ROOT / "examples" / "release" / "release.yaml").recipes) == 3


def test_commented_keys_of_the_starter_are_valid(assay: Call, tmp_path: Path) -> None:
    """A key that a user uncomments is a key that exists."""
    text = assay("init", "release").out
    for line in (
        "# stop: first_accept",
        "# apply_on_accept: true",
        "# budget: ",
        "# seed: 0",
        "# expected_samples: ",
    ):
        assert line in text
        text = text.replace(line, line[2:])
    (tmp_path / "model").mkdir()
    starter = tmp_path / "starter.yaml"
    starter.write_text(text, encoding="utf-8")
    assert load_spec(starter).budget.trials == 5


def test_line_of_an_override_is_not_invented(spec: Path) -> None:
    """A key that stands in no line of the file is named without a line."""
    with pytest.raises(SpecError, match=r"release\.yaml: budget\.trials"):
        load_spec(spec, ["budget.trials=-1"])
