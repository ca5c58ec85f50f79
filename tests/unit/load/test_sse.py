"""Event streams in every spelling and split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.load.sse import EventStream

EVENTS = st.lists(st.lists(st.text(alphabet="ab {}:é😀", max_size=8), min_size=1, max_size=3), max_size=6)
EOL = st.sampled_from(["\n", "\r\n", "\r"])


def written(events: list[list[str]], eol: str, *, blank: str = " ", comments: bool = False) -> bytes:
    """Events as a server writes them."""
    text = ""
    for lines in events:
        if comments:
            text += f": keepalive 1/2{eol}event: message{eol}id{eol}"
        text += "".join(f"data:{blank}{line}{eol}" for line in lines) + eol
    return text.encode()


def read(data: bytes, cuts: list[int]) -> list[bytes]:
    """The events of the bytes, cut at these places."""
    stream = EventStream()
    places = sorted({c % (len(data) + 1) for c in cuts})
    found = []
    for a, b in zip([0, *places], [*places, len(data)], strict=True):
        found += stream.feed(data[a:b])
    return found + stream.end()


@given(EVENTS, EOL, st.booleans(), st.lists(st.integers(0, 500), max_size=10))
def test_any_spelling_and_split_gives_the_events(
    events: list[list[str]], eol: str, comments: bool, cuts: list[int]
) -> None:
    """Lines are joined by LF; comments and other fields are left out."""
    expected = ["\n".join(lines).encode() for lines in events]
    assert read(written(events, eol, comments=comments), cuts) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_in_any_split_give_the_same(data: bytes, cuts: list[int]) -> None:
    """The split never matters, whatever the bytes are."""
    assert read(data, cuts) == read(data, [])


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data: bytes) -> None:
    """Every event comes out as bytes."""
    assert all(isinstance(e, bytes) for e in read(data, list(range(0, 300, 7))))


def test_without_blank_behind_the_colon_and_with_a_mark_before() -> None:
    """`data:x` and a byte order mark."""
    assert read(b"\xef\xbb\xbfdata:x\n\ndata:  y\n\n", []) == [b"x", b" y"]


def test_a_last_event_without_its_blank_line_counts() -> None:
    """Servers forget it."""
    assert read(b"data: a\n\ndata: b", []) == [b"a", b"b"]
    assert read(b"data: a\n\ndata: b\n", []) == [b"a", b"b"]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_character_cut_in_the_middle_is_whole_again(cut: int) -> None:
    """Bytes of one character in two reads."""
    text = json.dumps({"content": "日本 😀"}, ensure_ascii=False)
    (event,) = read(f"data: {text}\n\n".encode(), [cut])
    assert json.loads(event) == {"content": "日本 😀"}


def test_comments_are_counted() -> None:
    """Keep-alives are no events."""
    stream = EventStream()
    assert stream.feed(b": ping\n\n: ping\n\n") == []
    assert stream.comments == 2
