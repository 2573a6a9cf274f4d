"""An answer on a wire that only writes down."""

import asyncio

import pytest

from kvproxy.adapters.http1 import turns as turns_module
from kvproxy.adapters.http1.exchange import ClientExchange
from kvproxy.adapters.http1.incoming import Incoming, Limits
from kvproxy.adapters.http1.known import KnownHeads
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.errors import ProxyError
from kvproxy.proxy import Headers
from tests.support.listeners import placement

LIMITS = Limits(1000, 8000, 1.0, 1.0, 1)
SSE = [(b"content-type", b"text/event-stream")]
BROKE = ProxyError("upstream_broke", "broke off")


class Paper:
    congested = False
    closing = False

    def __init__(self) -> None:
        self.turns = Turns()
        self.written = b""
        self.ended = ""

    def write(self, *data: bytes) -> None:
        self.written += b"".join(data)

    writes = write

    def write_soon(self, data: bytes) -> None:
        self.write(data)

    def close(self) -> None:
        self.ended = "closed"

    def reset(self) -> None:
        self.ended = "reset"


def exchange(raw: bytes) -> tuple[ClientExchange, Paper]:
    incoming, paper = Incoming(LIMITS, KnownHeads()), Paper()
    incoming.feed(raw)
    return ClientExchange(incoming, paper), paper


def asked(method: str = "POST", version: str = "1.1", path: str = "/v1/chat/completions") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nhost: a\r\nx-request-id: me\r\n\r\n".encode()


def answered(raw: bytes, status: int, headers: Headers, *chunks: bytes) -> tuple[bytes, bytes]:
    found, paper = exchange(raw)
    found.start(status, headers, placement())
    for chunk in chunks:
        found.send(chunk)
    found.end()
    head, _, body = paper.written.partition(b"\r\n\r\n")
    return head, body


def test_a_stated_length_is_kept_and_nothing_is_framed() -> None:
    head, body = answered(asked(), 200, [(b"Content-Length", b"4")], b"ab", b"cd")
    assert body == b"abcd"
    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-request-id: me\r\nx-kvproxy-replica: r0"
    )


@pytest.mark.parametrize("size", [1, 16 * 2**10, 16 * 2**10 + 1])
def test_without_a_length_each_chunk_is_framed(size: int) -> None:
    head, body = answered(asked(), 200, SSE, b"x" * size, b"y")
    assert head.endswith(b"transfer-encoding: chunked")
    assert body == b"%x\r\n%b\r\n1\r\ny\r\n0\r\n\r\n" % (size, b"x" * size)


@pytest.mark.parametrize(
    ("raw", "status"), [(asked("HEAD"), 200), (asked(), 204), (asked(), 304)], ids=str
)
def test_answers_without_a_body_are_not_framed(raw: bytes, status: int) -> None:
    head, body = answered(raw, status, [(b"etag", b'"x"')])
    assert (b"transfer-encoding" in head, body) == (False, b"")


def test_an_old_client_sees_the_end_of_the_connection() -> None:
    head, body = answered(asked(version="1.0"), 200, SSE, b"x")
    assert head.endswith(b"connection: close")
    assert body == b"x"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/x?a=%2F?", "/v1/x"),
        ("http://other.test:1/v1?x", "/v1"),
        ("http://other.test", "/"),
        ("http://other.test?x", "/"),
        ("*", "/"),
    ],
)
def test_targets_lead_to_a_path_here(target: str, path: str) -> None:
    found, _ = exchange(asked(path=target))
    assert found.path == path
    assert found.target.startswith(path)


def test_a_path_is_as_an_engine_reads_it_and_goes_on_as_it_was_sent() -> None:
    found, _ = exchange(asked(path="/v1/x%2F%79?a=%79"))
    assert (found.path, found.target) == ("/v1/x/y", "/v1/x%2F%79?a=%79")


async def test_a_body_is_joined_once_and_asked_for_if_that_is_wanted() -> None:
    incoming, paper = Incoming(LIMITS, KnownHeads()), Paper()
    incoming.feed(asked()[:-2] + b"expect: 100-continue\r\ncontent-length: 4\r\n\r\n")
    found = ClientExchange(incoming, paper)
    accepting = asyncio.create_task(found.accept())
    await asyncio.sleep(0)
    assert paper.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    incoming.feed(b"ab")
    incoming.feed(b"cd")
    found.body_settled()
    assert await accepting == b"abcd"


def test_a_refusal_is_in_the_clients_dialect_and_says_when_to_return() -> None:
    found, paper = exchange(asked())
    found.refuse(ProxyError("no_replica", "none", retry_after_s=0.2))
    head, _, body = paper.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    for line in (b"retry-after: 1", b"x-request-id: me", b"x-kvproxy-error-code: no_replica"):
        assert line in head
    assert b'"message":"none"' in body


def test_a_stream_ends_with_an_event_of_its_own() -> None:
    for sent, between in (
        (b"", b""),
        (b"data: 1\n\n", b""),
        (b"data: {", b"\n\n"),
        (b"\n", b"\n\n"),
    ):
        found, paper = exchange(asked())
        found.start(200, SSE, placement())
        if sent:
            found.send(sent)
        paper.written = b""
        found.refuse(BROKE)
        _, _, chunk = paper.written.partition(b"\r\n")
        assert chunk.startswith(between + b'data: {"error"')
        assert chunk.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        # It is framed to its end, and the client was told that the connection stays.
        assert not found.last
        assert found.ended


@pytest.mark.parametrize(
    ("chunks", "between"),
    [([], b""), ([b"data: 1\n\n"], b""), ([b"data: {"], b"\n\n"), ([b"data: 1\n", b"\n"], b"")],
)
def test_a_stream_that_others_wrote_ends_with_an_event_too(
    chunks: list[bytes], between: bytes
) -> None:
    found, paper = exchange(asked())
    found.start(200, SSE, placement())
    watch = AnswerWatch()
    watch.feed(b"data: 0\n\n")
    found.send(b"data: 0\n\n")
    stream = found.streaming(watch)
    assert stream is not None
    for chunk in chunks:
        stream.watch.pile.append(chunk)
    stream.write(b"chunk")
    assert paper.written.endswith(b"chunk")
    paper.written = b""
    watch.taken()
    found.refuse(BROKE)
    _, _, chunk = paper.written.partition(b"\r\n")
    assert chunk.startswith(between + b'data: {"error"')


@pytest.mark.parametrize(
    ("raw", "headers"), [(asked(), [(b"content-length", b"9")]), (asked(version="1.0"), SSE)]
)
def test_what_is_not_sent_in_chunks_is_no_stream(raw: bytes, headers: Headers) -> None:
    found, _ = exchange(raw)
    found.start(200, headers, placement())
    assert found.streaming(AnswerWatch()) is None


@pytest.mark.parametrize(
    ("raw", "headers", "ended"),
    [
        (asked(), [(b"content-length", b"9")], "closed"),
        (asked(), [*SSE, (b"content-encoding", b"gzip")], "closed"),
        (asked(path="/other"), SSE, "closed"),
        (asked(version="1.0"), SSE, "reset"),
    ],
)
def test_anything_else_breaks_off_visibly(raw: bytes, headers: Headers, ended: str) -> None:
    found, paper = exchange(raw)
    found.start(200, headers, placement())
    found.send(b"half")
    written = paper.written
    found.refuse(BROKE)
    assert (paper.written, paper.ended, found.ended) == (written, ended, False)


def test_a_held_client_gets_one_head_comments_and_the_engines_body() -> None:
    found, paper = exchange(asked())
    found.hold()
    found.hold()
    found.start(200, SSE, placement())
    found.send(b"data: 1\n\n")
    found.end()
    head, _, body = paper.written.partition(b"\r\n\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"x-request-id: me\r\ntransfer-encoding: chunked"
    )
    waiting = b"b\r\n: waiting\n\n\r\n"
    assert body == waiting * 2 + b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/v1/chat/completions", b'data: {"error":'),
        ("/v1/completions", b'data: {"error":'),
        ("/v1/messages", b"event: error\ndata: "),
        ("/v1/responses", b"event: error\ndata: "),
    ],
)
def test_a_held_client_is_told_of_an_error_by_an_event(path: str, event: bytes) -> None:
    found, paper = exchange(asked(path=path))
    found.hold()
    found.refuse(ProxyError("no_replica", "none"))
    assert b": waiting\n\n\r\n" in paper.written
    assert event in paper.written
    assert paper.written.endswith(b"0\r\n\r\n")
    assert (found.ended, paper.ended) == (True, "")


@pytest.mark.parametrize(("version", "congested"), [("1.0", False), ("1.1", True)])
def test_who_cannot_be_held_gets_a_status_later(version: str, congested: bool) -> None:
    found, paper = exchange(asked(version=version))
    paper.congested = congested
    found.hold()
    assert (found.held, paper.written) == (False, b"")
    found.refuse(ProxyError("no_replica", "none"))
    assert paper.written.startswith(b"HTTP/1.1 503 ")


async def test_requests_begin_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns_module, "thread_time", lambda: 0.0)
    turns = Turns()
    turns.streams = 1
    begun = []
    for _ in range(3):
        found, paper = exchange(asked())
        paper.turns = turns
        begun.append(asyncio.create_task(found.accept()))
    went = []
    for _ in range(4):
        await asyncio.sleep(0)
        went.append(sum(task.done() for task in begun))
    assert went == [1, 1, 2, 3]


@pytest.mark.parametrize("gone", [False, True])
async def test_a_body_that_comes_later_takes_its_turn_then(gone: bool) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n"
    found, paper = exchange(head)
    accepting = asyncio.create_task(found.accept())
    await asyncio.sleep(0)
    # Another one goes on in this turn of the loop.
    await paper.turns.turn()
    found._incoming.feed(b"ab")
    found.body_settled()
    await asyncio.sleep(0)
    assert not accepting.done()
    if gone:
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.wait_for(paper.turns.turn(), 1.0)
    else:
        assert await asyncio.wait_for(accepting, 1.0) == b"ab"
