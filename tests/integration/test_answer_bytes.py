"""What a client receives is what the replica sent, whatever it is and however it comes."""

import asyncio
import gzip
import re
from collections.abc import Sequence

import orjson
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.captures import Capture, captures
from tests.support.proxies import proxied, settled
from tests.support.recording import Mark, Piece, RecordingReplica, answer, recording
from tests.support.shared import shared_path
from tests.support.wire import (
    RawHeaders,
    WireAnswer,
    ask,
    connected,
    end_to_end,
    post,
    read_answer,
    request,
)

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
SSE: RawHeaders = [(b"content-type", b"text/event-stream; charset=utf-8")]
OURS = (b"x-request-id", b"x-kvproxy-replica")


def relayed(headers: RawHeaders) -> RawHeaders:
    return [pair for pair in end_to_end(headers) if pair[0] not in OURS]


async def through_and_direct(pieces: Sequence[Piece], raw: bytes) -> tuple[WireAnswer, WireAnswer]:
    """The same script played to the proxy's client and to one of the replica itself."""
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: pieces
        direct = await ask(replica.url, raw)
        through = await ask(url, raw)
        await settled(app)
    return through, direct


def assert_same(through: WireAnswer, direct: WireAnswer) -> None:
    assert direct.complete
    assert through.complete
    assert through.status == direct.status
    assert through.body == direct.body
    dated = [pair for pair in relayed(through.headers) if pair[0] != b"date"]
    assert dated == [pair for pair in relayed(direct.headers) if pair[0] != b"date"]


STREAM = b"".join(b'data: {"i":%d,"t":"\xe6\x97\xa5"}\n\n' % i for i in range(300))


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
@pytest.mark.parametrize("chunk", [0, 1, 7, 4096])
async def test_streams_in_any_chunking(chunk: int, chunked: bool) -> None:
    body = STREAM[: 2000 if chunk == 1 else None] + b"data: [DONE]\n\n"
    pieces = answer(body, headers=SSE, chunk=chunk, chunked=chunked)
    through, direct = await through_and_direct(pieces, post(CHAT))
    assert_same(through, direct)
    assert through.body == body


async def test_a_stream_that_ends_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    through, direct = await through_and_direct([head, STREAM, Mark.CUT], post(CHAT))
    assert_same(through, direct)


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
async def test_one_huge_chunk(chunked: bool) -> None:
    body = bytes(range(256)) * (16 * 2**20 // 256)
    pieces = answer(body, chunk=len(body), chunked=chunked)
    through, direct = await through_and_direct(pieces, post(CHAT))
    assert_same(through, direct)


ODD: list[tuple[str, str, RawHeaders, bytes]] = [
    ("GET", "200 OK", [], b""),
    ("GET", "200 OK", [], b"no content type"),
    ("GET", "201 Created", [(b"location", b"/v1/files/1")], b"{}"),
    ("GET", "302 Found", [(b"location", b"http://elsewhere.test/")], b""),
    ("GET", "404 Not Found", [(b"content-type", b"text/html")], b"<p>"),
    ("GET", "401 Unauthorized", [(b"www-authenticate", b'Bearer realm="x"')], b"{}"),
    ("POST", "429 Too Many Requests", [(b"retry-after", b"7")], b'{"error":{}}'),
    ("POST", "500 Internal Server Error", [], b'{"error":{"message":"x"}}'),
    ("POST", "503 Service Unavailable", [(b"retry-after", b"1")], b""),
    ("POST", "200 OK", [(b"x-twice", b"a=1"), (b"X-Twice", b"b=2; Path=/")], b"{}"),
    ("POST", "200 OK", [(b"X-Names", b"caf\xc3\xa9"), (b"server", b"uvicorn")], b"{}"),
]


@pytest.mark.parametrize(("method", "status", "headers", "body"), ODD)
async def test_status_headers_and_body(
    method: str, status: str, headers: RawHeaders, body: bytes
) -> None:
    raw = post(CHAT) if method == "POST" else request(method, "/v1/files")
    pieces = answer(body, status=status, headers=headers)
    assert_same(*await through_and_direct(pieces, raw))


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body(status: str) -> None:
    head = f'HTTP/1.1 {status}\r\netag: "x"\r\n\r\n'.encode()
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        replica.script = lambda received: [head]
        async with connected(url) as (reader, writer):
            for _ in range(2):  # the connection stays in step
                writer.write(request("GET", "/v1/files"))
                got = await read_answer(reader)
                assert got.status == int(status[:3])
                assert relayed(got.headers)[-1] == (b"etag", b'"x"')


async def test_a_head_answer_keeps_its_length() -> None:
    pieces = answer(b"x" * 123)
    through, direct = await through_and_direct(pieces, request("HEAD", "/v1/files"))
    assert_same(through, direct)
    assert through.header(b"content-length") == b"123"


async def test_compressed_answers_are_not_unpacked() -> None:
    body = gzip.compress(STREAM)
    headers = [(b"content-encoding", b"gzip"), (b"content-type", b"application/json")]
    pieces = answer(body, headers=headers, chunk=100, chunked=True)
    through, direct = await through_and_direct(pieces, post(CHAT, accept_encoding="gzip"))
    assert_same(through, direct)
    assert through.header(b"content-encoding") == b"gzip"
    assert gzip.decompress(through.body) == STREAM


async def test_bytes_are_passed_on_as_they_come() -> None:
    """No event waits for the next one."""
    gates = [asyncio.Event() for _ in range(3)]
    head, *chunks = answer(b"data: 0\n\ndata: 1\n\ndata: 2\n\n", headers=SSE, chunk=9, chunked=True)
    pieces: list[Piece] = [head]
    for gate, chunk in zip(gates, chunks, strict=False):
        pieces += [gate, chunk]
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        replica.script = lambda received: [*pieces, chunks[-1]]
        async with connected(url) as (reader, writer):
            writer.write(post(CHAT))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            for index, gate in enumerate(gates):
                gate.set()
                assert await reader.readexactly(14) == b"9\r\ndata: %d\n\n\r\n" % index


CAPTURES = [capture for capture in captures() if capture.method == "POST"]


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES, reason="no reference data: see tests/support/shared.py")
async def test_captured_answers() -> None:
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        for capture in CAPTURES:
            await _play(replica, url, capture)


async def _play(replica: RecordingReplica, url: str, capture: Capture) -> None:
    length = b"content-length"
    headers = [pair for pair in end_to_end(capture.answer_headers) if pair[0] != length]
    streamed = b"event-stream" in dict(headers)[b"content-type"]
    pieces = answer(
        capture.answer_body, status=capture.status, headers=headers, chunk=301, chunked=streamed
    )
    replica.script = lambda received: pieces
    direct, through = await ask(replica.url, post(CHAT)), await ask(url, post(CHAT))
    assert_same(through, direct)
    assert through.body == capture.answer_body, capture.name
    assert relayed(through.headers) == relayed(direct.headers), capture.name


@pytest.mark.shared
async def test_a_captured_engine_failure_inside_a_stream() -> None:
    body = shared_path("vllm-samples/http/engine_killed_stream.body").read_bytes()
    pieces = answer(body, headers=SSE, chunk=10_000, chunked=True)
    through, direct = await through_and_direct(pieces, post(CHAT))
    assert_same(through, direct)
    assert through.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT.replace(b"true", b"false")),
        ("/v1/chat/completions", CHAT.replace(b"hello", "日本 🙂".encode())),
        ("/v1/completions", b'{"model":"m","prompt":"once","max_tokens":9,"stream":true}'),
        ("/v1/completions", b'{"model":"m","prompt":"once","max_tokens":9}'),
        ("/v1/chat/completions", b'{"model":"m"}'),
        ("/v1/chat/completions", b'{"model":"m","messages":3}'),
        ("/tokenize", b'{"prompt":"a b c"}'),
        ("/v1/nothing", b"{}"),
    ],
)
async def test_emulator_answers(path: str, body: bytes) -> None:
    """Two equal replicas, one of them behind the proxy, and one request id for both."""
    settings = EmulatorSettings(model="m", time_scale=50.0)
    raw = post(body, path, x_request_id="same")
    async with emulated(settings, n=2) as [alone, behind], proxied([behind]) as (app, url):
        direct, through = await ask(alone, raw), await ask(url, raw)
        await settled(app)
    assert said(through.body) == said(direct.body)
    assert through.status == direct.status
    assert {n for n, _ in relayed(through.headers)} == {n for n, _ in relayed(direct.headers)}


def said(body: bytes) -> list[object]:
    """Of a stream its text and its last event: which tokens share a chunk is chance. Without the
    second in which it was made."""
    body = re.sub(rb'"created":\d+', b'"created":0', body)
    if not body.startswith(b"data:"):
        return [body]
    *events, done = [line[6:] for line in body.split(b"\n\n") if line]
    choices = [choice for event in events for choice in orjson.loads(event)["choices"]]
    texts = [c.get("text") or c.get("delta", {}).get("content") or "" for c in choices]
    return ["".join(texts), choices[-1]["finish_reason"], orjson.loads(events[0])["id"], done]
