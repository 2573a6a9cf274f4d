"""Requests out of bytes, cut anywhere; and what must never pass a proxy."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from kvproxy.adapters.http1.incoming import Incoming, Limits
from kvproxy.adapters.http1.known import Head, KnownHeads
from kvproxy.core.errors import ProxyError
from kvproxy.core.pieces import Pieces

LIMITS = Limits(1000, 2000, 1.0, 1.0, 1)
LARGE = replace(LIMITS, max_body_bytes=2**20, max_header_bytes=2**16)
HEAD = b"POST /v1/x?y HTTP/1.1\r\nHost: a\r\nX-Odd: \xe9\r\n"
PLAIN = HEAD + b"Content-Length: 5\r\n\r\nhe\r\n\r"
EMPTY = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = (
    HEAD
    + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nhe\r\r\n4;x=y\r\n\n\r\n\r\r\n1\r\n\n\r\n"
    + b"0\r\nTrailer: t\r\n\r\n"
)
# Bytes and the bodies of the requests in them.
STREAMS = [
    (PLAIN, [b"he\r\n\r"]),
    (EMPTY + PLAIN, [b"", b"he\r\n\r"]),
    (CHUNKED + EMPTY, [b"he\r\n\r\n\r\n", b""]),
    (PLAIN + CHUNKED + CHUNKED + PLAIN, [b"he\r\n\r", *[b"he\r\n\r\n\r\n"] * 2, b"he\r\n\r"]),
    (b"\r\n" + EMPTY + b"\r\n\r\n" + EMPTY, [b"", b""]),
]


def read(
    pieces: list[bytes], limits: Limits = LIMITS, known: KnownHeads | None = None
) -> list[Incoming]:
    """All requests in the pieces; the last may not be whole. Without `known`, none is."""
    known = KnownHeads(0) if known is None else known
    found = [Incoming(limits, known)]
    for piece in pieces:
        rest = found[-1].feed(piece)
        while found[-1].whole:
            found.append(Incoming(limits, known))
            rest = found[-1].feed(rest)
        assert rest == b""
    return found


def said(request: Incoming) -> Head:
    assert request.head is not None
    return request.head


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    edges = [0, *sorted(border % (len(data) + 1) for border in borders), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 10**6), max_size=20))
def test_cut_anywhere(stream: tuple[bytes, list[bytes]], borders: list[int]) -> None:
    data, bodies = stream
    known = KnownHeads()
    for pieces in ([data], cut(data, borders)):
        *requests, rest = read(pieces, LIMITS, known)
        assert [b"".join(request.parts) for request in requests] == bodies
        assert rest.head is None
        for request, body in zip(requests, bodies, strict=True):
            head = said(request)
            assert (head.method, head.target) == (("POST", "/v1/x?y") if body else ("GET", "/"))
            assert b"trailer" not in {name.lower() for name, _ in head.headers}


def test_byte_by_byte() -> None:
    data, bodies = STREAMS[3]
    *requests, _ = read([data[i : i + 1] for i in range(len(data))])
    assert [b"".join(request.parts) for request in requests] == bodies


def test_heads_are_kept_as_they_came() -> None:
    head = said(read([PLAIN])[0])
    assert head.headers == ((b"Host", b"a"), (b"X-Odd", b"\xe9"))
    assert head.header == {"host": "a", "x-odd": "é"}
    assert head.keep_alive


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", True),
    ],
)
def test_who_wants_the_connection_kept(head: bytes, keeps: bool) -> None:
    request, _ = read([head])
    assert said(request).keep_alive is keeps
    assert said(request).http10 is (b"1.0" in head)


def test_a_large_body_of_stated_length_is_not_copied() -> None:
    incoming = Incoming(Limits(2**20, 2000, 1.0, 1.0, 1), KnownHeads())
    incoming.feed(HEAD + b"content-length: 200000\r\n\r\n")
    parts = [b"x" * 100_000, b"y" * 100_000]
    for part in parts:
        incoming.feed(part)
    assert incoming.whole
    body = incoming.body()
    assert isinstance(body, Pieces)
    assert [id(view.obj) for view in body.views] == [id(part) for part in parts]
    assert body.whole() == b"".join(parts)
    assert incoming.parts == []


def test_a_large_body_is_hashed_as_it_comes() -> None:
    incoming = Incoming(Limits(2**20, 2000, 1.0, 1.0, 1), KnownHeads())
    sent = random.Random(1).randbytes(200_000)
    incoming.feed(HEAD + b"content-length: 200000\r\n\r\n" + sent[:70_000])
    for at in range(70_000, 200_000, 65_000):
        incoming.feed(sent[at : at + 65_000])
    body = incoming.body()
    assert isinstance(body, Pieces)
    # Nothing before the last known hash is looked at again.
    body.views[0] = memoryview(bytes(70_000))
    assert body.hashed(150_000).digest() == xxh3_128(sent[:150_000]).digest()


@pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"llo"], []])
def test_a_body_that_came_alone_is_the_very_part(pieces: list[bytes]) -> None:
    incoming = Incoming(LIMITS, KnownHeads())
    incoming.feed(HEAD + b"content-length: %d\r\n\r\n" % len(b"".join(pieces)))
    for piece in pieces:
        incoming.feed(piece)
    body = incoming.body()
    assert body == b"".join(pieces)
    assert (body is pieces[0]) if len(pieces) == 1 else isinstance(body, bytes)


def test_an_upgrade_is_read_as_any_request_and_ends_the_connection() -> None:
    upgrade = HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello"
    request, _ = read([upgrade])
    assert (request.parts, said(request).keep_alive) == ([b"hello"], False)


SMUGGLED = {
    "length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "zero length and chunks": b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "two equal lengths": b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "list of lengths": b"content-length: 5, 5\r\n\r\nhello",
    "signed length": b"content-length: +5\r\n\r\nhello",
    "hexadecimal length": b"content-length: 0x5\r\n\r\nhello",
    "endless length": b"content-length: 99999999999999999999999\r\n\r\n",
    "chunked twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked before": b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked behind": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"transfer-encoding: identity\r\n\r\n",
    "other coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "vertical tab": b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": b"x: a\r\n b\r\n\r\n",
    "folded coding": b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feed": b"x: a\ny: b\r\n\r\n",
    "line feed at the end": b"x: a\r\n\n",
    "bare carriage return": b"x: a\ry: b\r\n\r\n",
    "nul": b"x: a\0b\r\n\r\n",
    "no name": b": b\r\n\r\n",
    "no colon": b"foo\r\n\r\n",
    "space in name": b"fo o: b\r\n\r\n",
    "two hosts": b"host: b\r\n\r\n",
    "two content types": b"content-type: a\r\ncontent-type: b\r\n\r\n",
    "chunk ends in line feed": b"transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "chunk extension with line feed": b"transfer-encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size with space": b"transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "chunk too long": b"transfer-encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
    "chunk without end": b"transfer-encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "chunk size overflows": b"transfer-encoding: chunked\r\n\r\n1ffffffffffffffff\r\nhello",
    "upgrade of chunks": b"connection: upgrade\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n",
}
LINES = {
    "fragment": b"GET /v1/load_lora_adapter#x HTTP/1.1\r\nhost: a\r\n\r\n",
    "fragment of a whole URL": b"GET http://a/sleep?x#y HTTP/1.1\r\nhost: a\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "authority": b"GET @elsewhere.test:80/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "relative": b"GET elsewhere HTTP/1.1\r\nhost: a\r\n\r\n",
    "connect": b"CONNECT elsewhere.test:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "tab": b"GET\t/\tHTTP/1.1\r\nhost: a\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "unknown method": b"FOO / HTTP/1.1\r\nhost: a\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
}


@pytest.mark.parametrize("raw", [*(HEAD + tail for tail in SMUGGLED.values()), *LINES.values()])
def test_what_two_servers_might_read_differently_is_refused(raw: bytes) -> None:
    for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        with pytest.raises(ProxyError) as raised:
            read(pieces)
        assert raised.value.code == "bad_request"


def test_nothing_behind_a_request_is_looked_at() -> None:
    incoming = Incoming(LIMITS, KnownHeads())
    assert incoming.feed(PLAIN + b"\0garbage") == b"\0garbage"
    assert incoming.whole


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "raw",
    [
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        HEAD + b"x: " + b"a" * 3000 + b"\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"a" * 3000 + b"\r\nx\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nt: " + b"a" * 3000 + b"\r\n\r\n",
    ],
    ids=["target", "header", "chunk extension", "trailer"],
)
def test_heads_extensions_and_trailers_are_bounded(raw: bytes, step: int) -> None:
    with pytest.raises(ProxyError, match="max_header_bytes") as raised:
        read([raw[i : i + step] for i in range(0, len(raw), step)])
    assert raised.value.code == "head_too_large"


def test_the_number_of_headers_is_bounded() -> None:
    lines = b"".join(b"x%d: y\r\n" % i for i in range(256))
    with pytest.raises(ProxyError, match="256 headers"):
        read([HEAD + lines + b"\r\n"], Limits(1000, 2**16, 1.0, 1.0, 1))


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 1001\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001,
    ],
)
def test_bodies_are_bounded(raw: bytes) -> None:
    with pytest.raises(ProxyError, match="1000 bytes") as raised:
        read([raw])
    assert raised.value.code == "body_too_large"
    assert read([raw.replace(b"1001", b"1000")[:100]])


GOOD = HEAD + b"Content-Length: 5\r\nX-Last: 1\r\n\r\nhello"


def outcome(raw: bytes, known: KnownHeads) -> object:
    """All that can be told of what was read, or why it was not."""
    try:
        found = read([raw], LIMITS, known)
    except ProxyError as error:
        return error.code, error.message
    heads = [
        (head.method, head.target, tuple(head.headers), head.header, head.keep_alive, head.http10)
        for head in (request.head for request in found)
        if head is not None
    ]
    return heads, [(request.parts, request.whole) for request in found]


@pytest.mark.parametrize("tail", SMUGGLED.values())
def test_what_is_refused_is_refused_behind_heads_that_are_known_too(tail: bytes) -> None:
    known = KnownHeads()
    read([GOOD], LIMITS, known)
    assert len(known) == 1
    for raw in (HEAD + tail, HEAD + b"Content-Length: 5\r\n" + tail, GOOD + HEAD + tail):
        assert outcome(raw, known) == outcome(raw, KnownHeads(0))


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 3),
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b"0", b"7", b"99", b"5\r\n", b":", b"x"]
            )
            | st.binary(max_size=3),
        ),
        max_size=3,
    )
)
def test_a_known_head_says_what_llhttp_would_have_said(
    edits: list[tuple[int, int, bytes]],
) -> None:
    known = KnownHeads()
    read([GOOD], LIMITS, known)
    raw = GOOD
    for at, gone, new in edits:
        raw = raw[:at] + new + raw[at + gone :]
    for _ in range(2):
        assert outcome(raw, known) == outcome(raw, KnownHeads(0))


def test_a_known_head_is_bound_by_the_limits_too() -> None:
    known = KnownHeads()
    read([GOOD], LIMITS, known)
    assert read([GOOD.replace(b" 5", b" 1000")], LIMITS, known)[0].head is not None
    with pytest.raises(ProxyError, match="max_body_bytes"):
        read([GOOD.replace(b" 5", b" 1001")], LIMITS, known)
    size = GOOD.find(b"\r\n\r\n") + 4
    with pytest.raises(ProxyError, match="max_header_bytes"):
        read([GOOD.replace(b" 5", b" 0005")], Limits(1000, size, 1.0, 1.0, 1), known)


def test_a_body_in_small_chunks_takes_little_more_room_than_it_has() -> None:
    incoming, body = Incoming(LARGE, KnownHeads()), b""
    incoming.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(300):
        chunk = b"%08d" % number
        incoming.feed((b"8\r\n" + chunk + b"\r\n") * 100)
        body += chunk * 100
    assert len(incoming.parts) < 1100
    assert incoming.feed(b"0\r\n\r\nnext") == b"next"
    assert incoming.body() == body


@pytest.mark.parametrize("size", [1, 2])
def test_chunks_that_are_hardly_more_than_framing_are_refused(size: int) -> None:
    """They take the time of thousands."""
    incoming = Incoming(LARGE, KnownHeads())
    incoming.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    # What a client sends so now and then is none of that.
    incoming.feed(chunk * 1000)
    with pytest.raises(ProxyError, match="larger chunks"):
        incoming.feed(chunk * 40_000)
