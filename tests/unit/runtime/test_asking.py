"""Asking a program: its command line, and what of its output is the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from assay.runtime import asking


def test_placeholders_are_put_in_and_other_braces_stay() -> None:
    """A shell's or JSON's own braces are none of ours."""
    word = '{python} {"a": {reply}} ${other}'
    assert asking.filled(word, {"python": "py", "reply": "r.json"}) == 'py {"a": r.json} ${other}'


def test_what_is_put_in_is_not_looked_at_again() -> None:
    """A path with braces in its name stays that path, in whatever order the values come."""
    assert asking.filled("{model} {seed}", {"model": "/m/{seed}", "seed": "7"}) == "/m/{seed} 7"


def test_a_program_that_is_not_there_is_named() -> None:
    """The sentence names it; nothing is said of one that is there."""
    assert asking.missing("sh") == ""
    assert "'no-such-program-here'" in asking.missing("no-such-program-here")


@pytest.mark.parametrize(
    ("written", "printed", "found"),
    [
        ('{"a": 1}', '{"a": 2}', {"a": 1}),
        (None, 'thinking {"a": 1}\nand then {"a": 2}.', {"a": 2}),
        ("[1]", '{"a": 2}', {"a": 2}),
        ("not JSON", "nor this", None),
        (None, "{" * 2000, None),
        (None, 'brackets } { and {"a": {"b": 1}} after', {"a": {"b": 1}}),
    ],
)
def test_the_reply_file_wins_over_what_was_printed(
    tmp_path: Path, written: str | None, printed: str, found: object
) -> None:
    """The file counts if it holds an object; else the last object that was printed."""
    reply = tmp_path / "reply.json"
    if written is not None:
        reply.write_text(written)
    assert asking.answered(reply, printed) == found


def test_the_first_problem_says_where() -> None:
    """The field, or the name of the whole where it is no field's."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, int]).validate_python({"a": "x"})
    assert asking.first_problem(caught.value).startswith("a: ")
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    assert asking.first_problem(caught.value, "reply").startswith("reply: ")
