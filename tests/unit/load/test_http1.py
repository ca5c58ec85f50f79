"""HTTP/1.1 responses: any split gives the same answer, h11 agrees, and bad bytes give one error."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.load.http1 import ProtocolError, Response

BODY = st.binary(max_size=200)


def chunked(body: bytes, sizes: list[int], end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks of these sizes, then the rest in one."""
    out, at = b"", 0
    for size in [*sizes, len(body)]:
        piece = body[at : at + size]
        at += len(piece)
        if piece:
            out += b"%x;x=1\r\n%b\r\n" % (len(piece), piece)
    return out + end


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes, cut at these places."""
    places = sorted({c % (len(data) + 1) for c in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def read(parts: list[bytes]) -> tuple[Response, bytes]:
    """Feed all parts."""
    response = Response()
    return response, b"".join(response.feed(p) for p in parts)


def by_h11(data: bytes) -> tuple[int, bytes]:
    """What h11 makes of a response."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, body


@given(BODY, st.lists(st.integers(1, 40), max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_chunks_in_any_split_are_what_h11_reads(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    """Status, body and end are the same for every split, and equal to another implementation's."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n" + chunked(body, sizes)
    response, found = read(split(data, cuts))
    assert (response.status, found) == by_h11(data)
    assert response.done
    assert response.keep_alive


@given(BODY, st.lists(st.integers(0, 2000), max_size=6))
def test_length_in_any_split(body: bytes, cuts: list[int]) -> None:
    """A body by Content-Length."""
    data = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    response, found = read(split(data, cuts))
    assert (response.status, found, response.done, response.keep_alive) == (404, body, True, False)


@given(BODY, st.lists(st.integers(0, 2000), max_size=6))
def test_a_body_without_length_ends_with_the_connection(body: bytes, cuts: list[int]) -> None:
    """Until the end of the connection it is not done."""
    response, found = read(split(b"HTTP/1.0 200 OK\r\n\r\n" + body, cuts))
    assert found == body
    assert not response.done
    assert response.end()
    assert not response.keep_alive


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_give_an_answer_or_the_one_error(parts: list[bytes]) -> None:
    """Nothing but ProtocolError ever comes out."""
    response = Response()
    try:
        for part in parts:
            response.feed(part)
        response.end()
    except ProtocolError:
        pass


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_behind_a_chunked_head(parts: list[bytes]) -> None:
    """The same inside a body."""
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        for part in parts:
            response.feed(part)
    except ProtocolError:
        pass


def test_interim_responses_and_trailers_are_skipped() -> None:
    """100 Continue before, a trailer behind."""
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    response, body = read([head + chunked(b"hello", [2], b"0\r\nX-Sum: 1\r\n\r\n")])
    assert (response.status, body, response.done) == (200, b"hello", True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    """Each is a ProtocolError."""
    with pytest.raises(ProtocolError):
        Response().feed(data)
