"""Configuration files as text: owned keys change, every other byte stays, and the result is read back."""

from __future__ import annotations

import importlib.util
import io
import json
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from assay.core.errors import AssayError, UnreadableInput, UsageError
from assay.runtime.config_text import Format, edited, format_of, parsed, value_at

YAML_FILE = b"""\
# served by systemd; ask Ada before changing
model: "org/old-7B"   # the biggest that fits
kv_bits: null

limits:            # per request
    max_context: 4096
    list:
    - a   # first
    -   b

# the end
token: &secret 'hf_xyz'
again: *secret
"""
TOML_FILE = b"""\
# served by systemd
model = "org/old-7B"   # the biggest that fits
ports = [ 1,2,
  3 ]

[limits]   # per request
max_context = 4096
# the end
"""
JSON_FILE = b"""{
    "model": "org/old-7B",
    "list": [1,2,   3],
    "limits": {"max_context": 4096, "deep": {}}
}
"""
ENV_FILE = b"""\
# served by systemd
export MODEL="org/old-7B"   # the biggest that fits
TOKEN='hf_$xyz'

LAST=1
"""
FILES: dict[Format, bytes] = {"yaml": YAML_FILE, "toml": TOML_FILE, "json": JSON_FILE, "env": ENV_FILE}


TOMLKIT = importlib.util.find_spec("tomlkit") is not None
FORMATS = [f for f in get_args(Format) if f != "toml" or TOMLKIT]
"""Without tomlkit no TOML file is changed."""


def test_yaml_values_are_replaced_where_they_stand() -> None:
    """Comments, indentation, anchors and the order stay to the byte."""
    made = edited(
        YAML_FILE,
        "yaml",
        {("model",): "org/new-14B", ("limits", "max_context"): 8192, ("kv_bits",): 8, ("slots",): 4},
    )
    expected = (
        YAML_FILE.replace(b'"org/old-7B"', b'"org/new-14B"')
        .replace(b"4096", b"8192")
        .replace(b"null", b"8")
        .replace(b"again: *secret\n", b"again: *secret\nslots: 4\n")
    )
    assert made == expected


def test_yaml_keys_are_removed_with_their_line_alone() -> None:
    """`unset` leaves the key out; what stands around it stays."""
    made = edited(YAML_FILE, "yaml", {("kv_bits",): None, ("nothing", "here"): None})
    assert made == YAML_FILE.replace(b"kv_bits: null\n", b"")


def test_yaml_a_whole_way_is_made_where_it_is_missing() -> None:
    """A nested key gets its mappings, in the indentation of its place."""
    made = edited(b"a:\n   b: 1\nc:\n", "yaml", {("a", "x", "z"): True, ("c", "d"): 1.5})
    assert made == b"a:\n   b: 1\n   x:\n     z: true\nc:\n  d: 1.5\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"k: 1\n"),
        (b"# only a comment", b"# only a comment\nk: 1\n"),
        (b"{}\n", b"{k: 1}\n"),
        (b"{a: 1}\n", b"{a: 1, k: 1}\n"),
        (b"k:\n", b"k: 1\n"),
        (b"k:   # why\na: 2\n", b"k: 1   # why\na: 2\n"),
        (b"a: 1\r\n", b"a: 1\r\nk: 1\r\n"),
        (b"a: 1", b"a: 1\nk: 1"),
        (b"a: |\n  text\n\n", b"a: |\n  text\n\nk: 1\n"),
        (b"---\na: 1\n...\n", b"---\na: 1\nk: 1\n...\n"),
        (b"\xef\xbb\xbfa: 1\n", b"\xef\xbb\xbfa: 1\nk: 1\n"),
    ],
)
def test_yaml_shapes(before: bytes, after: bytes) -> None:
    """Empty, braces, missing line ends, block text, marks of a document, a byte order mark."""
    assert edited(before, "yaml", {("k",): 1}) == after


def test_yaml_what_cannot_be_spliced_goes_round() -> None:
    """A key that holds a list is set through ruamel's round trip: comments stay."""
    made = edited(b"# top\nk:\n- 1  # one\n- 2\nz: 3 # last\n", "yaml", {("k",): 5})
    assert b"# top" in made
    assert b"# last" in made
    assert parsed(made, "yaml") == {"k": 5, "z": 3}


def test_yaml_an_alias_is_not_changed_at_its_anchor() -> None:
    """The value that two keys share is not changed for both of them."""
    made = edited(YAML_FILE, "yaml", {("again",): "other"})
    assert parsed(made, "yaml")["token"] == "hf_xyz"
    assert parsed(made, "yaml")["again"] == "other"


@pytest.mark.parametrize(
    "word", ["yes", "off", "1e3", "12:30:00", "0x10", "null", "~", "3", "a: b", "#x", ".5", ""]
)
def test_yaml_text_stays_text_in_1_1_and_1_2(word: str) -> None:
    """Text that some parser would take for something else gets quotes."""
    made = edited(b"", "yaml", {("k",): word})
    assert parsed(made, "yaml") == {"k": word}
    assert made.decode().startswith('k: "')


@pytest.mark.skipif(not TOMLKIT, reason="tomlkit is not installed")
def test_toml_keeps_comments_and_layout() -> None:
    """Tomlkit changes values; a new key goes before the first table."""
    made = edited(TOML_FILE, "toml", {("model",): "org/new", ("limits", "max_context"): 8192, ("slots",): 4})
    expected = TOML_FILE.replace(b"org/old-7B", b"org/new").replace(b"4096", b"8192")
    assert made.replace(b"slots = 4\n", b"") == expected
    assert tomllib.loads(made.decode())["slots"] == 4


def test_json_keeps_its_indentation() -> None:
    """Members are spliced in; odd spacing elsewhere stays."""
    made = edited(
        JSON_FILE,
        "json",
        {("model",): None, ("limits", "max_context"): 8192, ("limits", "deep", "x"): True, ("slots",): 4},
    )
    assert made.decode() == (
        "{\n"
        '    "list": [1,2,   3],\n'
        '    "limits": {"max_context": 8192, "deep": {\n'
        '            "x": true\n'
        "        }},\n"
        '    "slots": 4\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b'{\n  "k": 1\n}\n'),
        (b"{}", b'{\n  "k": 1\n}'),
        (b'{"a":1}', b'{"a":1,"k":1}'),
        (b'{"a": 1}', b'{"a": 1, "k": 1}'),
        (b'{\n\t"a": 1\n}', b'{\n\t"a": 1,\n\t"k": 1\n}'),
        (b'{\r\n  "k": 2\r\n}\r\n', b'{\r\n  "k": 1\r\n}\r\n'),
    ],
)
def test_json_shapes(before: bytes, after: bytes) -> None:
    """Compact stays compact, tabs stay tabs, line ends stay."""
    assert edited(before, "json", {("k",): 1}) == after


def test_env_keeps_comments_and_exports() -> None:
    """Values change behind `export`, comments behind values stay, new variables come last."""
    made = edited(ENV_FILE, "env", {("MODEL",): "/srv/new model", ("LAST",): None, ("SLOTS",): 4})
    assert made == (
        b"# served by systemd\n"
        b"export MODEL='/srv/new model'   # the biggest that fits\n"
        b"TOKEN='hf_$xyz'\n"
        b"\n"
        b"SLOTS=4\n"
    )


@pytest.mark.parametrize("format_", FORMATS)
def test_nothing_to_change_changes_nothing(format_: Format) -> None:
    """A value that stands there already leaves every byte, whatever its quotes."""
    name = "MODEL" if format_ == "env" else "model"
    assert edited(FILES[format_], format_, {(name,): "org/old-7B"}) == FILES[format_]


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (b"a: 1\na: 2\n", "yaml"),
        (b"- a\n", "yaml"),
        (b"a: [", "yaml"),
        (b"a: 1\n---\nb: 2\n", "yaml"),
        (b'{"a": 1, "a": 2}', "json"),
        (b'{"a": NaN}', "json"),
        (b"// no\n{}", "json"),
        (b"[1]", "json"),
        (b"a = 1\na = 2\n", "toml"),
        (b"A=1\nA=2\n", "env"),
        (b"no assignment\n", "env"),
        (b'A="open\n', "env"),
        (b"\xff\xfe", "yaml"),
    ],
)
def test_a_file_that_is_not_understood_is_not_touched(data: bytes, format_: Format) -> None:
    """Duplicates, other formats, lists, several documents, other encodings: refused by name."""
    with pytest.raises(UnreadableInput, match=r"f\.conf"):
        edited(data, format_, {("k",): 1}, "f.conf")


@pytest.mark.parametrize(
    ("format_", "data", "key", "value"),
    [
        ("yaml", b"a: 1\n", ("a", "b"), 1),
        ("json", b'{"a": 1}', ("a", "b"), 1),
        ("toml", b"a = 1\n", ("a", "b"), 1),
        ("env", b"A=1\n", ("B",), "it's\nhere"),
        ("env", b"A=1\n", ("b c",), 1),
        ("yaml", b"a: 1\n", ("k",), float("nan")),
        ("json", b"{}", ("k",), float("inf")),
        ("yaml", b"", ("k",), "\ud800"),
    ],
)
def test_what_cannot_be_set_is_refused(
    format_: Format, data: bytes, key: tuple[str, ...], value: Any
) -> None:
    """A key inside of a number, a value that the format cannot hold: an error, not a guess."""
    with pytest.raises(UsageError):
        edited(data, format_, {key: value})


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.yaml", "yaml"),
        ("b.YML", "yaml"),
        ("c.toml", "toml"),
        ("d.json", "json"),
        (".env", "env"),
        (".env.x", "env"),
    ],
)
def test_the_format_by_the_name(name: str, format_: Format) -> None:
    """Names that tell their format."""
    assert format_of(Path(name)) == format_


def test_a_name_that_tells_no_format() -> None:
    """The message says what to set."""
    with pytest.raises(UsageError, match="format"):
        format_of(Path("config.ini"))


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
SCALARS = (
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def written(tree: dict[str, Any], format_: Format) -> bytes:
    """A tree as another program would write it."""
    if format_ == "json":
        return json.dumps(tree, indent=2, ensure_ascii=False).encode()
    if format_ == "toml":
        return bytes(importlib.import_module("tomlkit").dumps(tree).encode())
    if format_ == "yaml":
        out = io.StringIO()
        YAML(typ="rt").dump(tree, out)
        return out.getvalue().encode()
    return b"".join(f"{k}={v}\n".encode() for k, v in tree.items() if isinstance(v, int))


@pytest.mark.slow
@given(
    format_=st.sampled_from(FORMATS),
    tree=TREES,
    key=st.lists(NAMES, min_size=1, max_size=3),
    data=st.data(),
)
def test_only_the_asked_key_changes(
    format_: Format, tree: dict[str, Any], key: list[str], data: st.DataObject
) -> None:
    """Whatever the file holds: after the change it says the same in every other key, or it is refused."""
    if tree and data.draw(st.booleans()):
        key = [data.draw(st.sampled_from(sorted(tree))), *key[1:]]
    if format_ == "env":
        key = key[:1]
    value = data.draw(SCALARS | st.none())
    before = written(tree, format_)
    try:
        old = parsed(before, format_)
    except UnreadableInput:
        assume(False)
    try:
        after = edited(before, format_, {tuple(key): value})
    except UsageError:
        return
    found = parsed(after, format_)
    expected = str(value).lower() if format_ == "env" and isinstance(value, bool) else value
    if format_ == "env" and expected is not None:
        assert isinstance(value_at(found, tuple(key)), str)
        if not isinstance(value, float):
            assert value_at(found, tuple(key)) == str(expected)
    else:
        assert value_at(found, tuple(key)) == expected
    assert {k: v for k, v in found.items() if k != key[0]} == {k: v for k, v in old.items() if k != key[0]}
    assert edited(after, format_, {tuple(key): value}) == after


@given(format_=st.sampled_from(FORMATS), data=st.binary(max_size=200), key=NAMES, value=SCALARS)
def test_any_bytes_are_changed_rightly_or_refused(format_: Format, data: bytes, key: str, value: Any) -> None:
    """No bytes lead to anything but a proven change or an error of ours."""
    try:
        after = edited(data, format_, {(key,): value})
    except AssayError:
        return
    assert key in parsed(after, format_)
