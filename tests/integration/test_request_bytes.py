"""What a replica receives is what the client sent: bytes, headers, target."""

from random import Random

import orjson
import pytest

from kvproxy.build import build_reader
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.types import Splice
from kvproxy.settings.model import Settings
from tests.support.bodies import BodyWriter, meaning
from tests.support.captures import Capture, captures
from tests.support.proxies import proxied, settled
from tests.support.recording import recording
from tests.support.wire import OF_ONE_HOP, ask, connected, post, read_answer, request

CHAT = "/v1/chat/completions"
SPLICE_KINDS = {"tool_order", "schema_order", "argument_order"}
OWN_PAGES = ("/health", "/metrics", "/v1/models")


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    seed = request.config.getoption("hypothesis_seed")
    print(f"seed {seed}")
    return Random(seed)


def spliced(body: bytes, splices: list[Splice]) -> bytes:
    """Written apart from the proxy's own, from the end so that offsets stay right."""
    for splice in sorted(splices, key=lambda splice: -splice.start):
        body = body[: splice.start] + splice.new + body[splice.end :]
    return body


async def test_generated_bodies_arrive_as_sent(random: Random) -> None:
    """Half of the bodies say again, in another order, what an earlier one said."""
    writer = BodyWriter(random)
    values = [writer.chat() for _ in range(250)]
    bodies = [writer.body(value) for value in values]
    bodies += [writer.body(writer.shuffled(value)) for value in values]
    kinds: dict[str, int] = {}
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        # A second reader with the same history tells which splices are due.
        twin = build_reader(Settings.model_validate({"replicas": [replica.url]}))
        async with connected(url) as (reader, stream):
            for body in bodies:
                stream.write(post(body))
                answer = await read_answer(reader)
                assert answer.status == 200, (answer, body)
                splices = twin.read(Chat(), "", body).splices
                got = replica.received[-1].body
                assert got == spliced(body, splices)
                assert meaning(got) == meaning(body)
                for splice in splices:
                    kinds[splice.kind] = kinds.get(splice.kind, 0) + 1
        await settled(app)
    assert len(replica.received) == 500
    assert set(kinds) == SPLICE_KINDS
    changed = [got.body != sent for got, sent in zip(replica.received, bodies, strict=True)]
    print(f"{changed.count(False)} of 500 untouched, splices {kinds}")
    assert changed[:250].count(True) <= 25
    assert changed[250:].count(True) >= 100


async def test_nothing_is_touched_when_order_is_preserved(random: Random) -> None:
    writer = BodyWriter(random)
    values = [writer.chat() for _ in range(25)]
    bodies = [writer.body(v) for value in values for v in (value, writer.shuffled(value))]
    async with (
        recording() as [replica],
        proxied([replica.url], canonical={"order": "preserve"}) as (_, url),
        connected(url) as (reader, stream),
    ):
        for body in bodies:
            stream.write(post(body))
            assert (await read_answer(reader)).status == 200
    assert [received.body for received in replica.received] == bodies


CAPTURES = captures()


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES, reason="no reference data: see tests/support/shared.py")
async def test_captured_requests_arrive_as_sent() -> None:
    """What the proxy refuses itself it refuses as the engine did."""
    refused = []
    async with recording(models=["tiny"]) as [replica], proxied([replica.url]) as (_, url):
        for capture in CAPTURES:
            if capture.method == "GET" and capture.target in OWN_PAGES:
                continue
            if capture.method == "POST" and capture.body is None:
                continue
            headers = [(name.decode(), value.decode()) for name, value in capture.headers]
            body = capture.body
            before = len(replica.received)
            got = await ask(url, request(capture.method, capture.target, headers, body))
            if len(replica.received) == before:
                assert_refused_alike(capture, got.status, got.body)
                refused.append(capture.name)
                continue
            received = replica.received[-1]
            assert (received.method, received.target) == (capture.method, capture.target)
            assert received.body == (body or b""), capture.name
            sent = {name.lower(): value for name, value in capture.headers}
            assert sent.items() <= {n.lower(): v for n, v in received.headers}.items()
    assert len(replica.received) >= 25
    assert sorted(refused) == [
        "anthropic_bad_json", "anthropic_unknown_model", "err_bad_json",
        "err_content_type", "err_empty_body", "err_not_object",
        "err_unknown_model",
    ]  # fmt: skip


def assert_refused_alike(capture: Capture, status: int, body: bytes) -> None:
    assert status == int(capture.status.split(" ")[0]), capture.name
    ours, theirs = orjson.loads(body), orjson.loads(capture.answer_body)
    if capture.target.startswith("/v1/messages"):
        # The engine has OpenAI's shape even there; Anthropic's clients read only their own.
        assert (ours["type"], ours["error"].keys()) == ("error", {"type", "message"})
        return
    assert ours.keys() == theirs.keys()
    assert ours["error"].keys() == theirs["error"].keys()
    assert ours["error"]["type"] == theirs["error"]["type"], capture.name
    assert ours["error"]["code"] == theirs["error"]["code"]


async def test_chunked_upload_arrives_whole() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 5000 + b'"}]}'
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    headers = [("transfer-encoding", "chunked"), ("content-type", "application/json")]
    head = request("POST", CHAT, headers)
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        assert (await ask(url, head + chunks)).status == 200
    [received] = replica.received
    assert received.body == body
    assert (b"content-length", str(len(body)).encode()) in [
        (name.lower(), value) for name, value in received.headers
    ]


async def test_expect_continue_is_answered_before_the_body() -> None:
    body = b'{"model":"m","messages":[]}'
    raw = post(body, expect="100-continue")
    async with (
        recording() as [replica],
        proxied([replica.url]) as (_, url),
        connected(url) as (reader, writer),
    ):
        writer.write(raw[: -len(body)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader)).status == 200
    assert replica.received[0].body == body
    assert b"expect" not in {name.lower() for name, _ in replica.received[0].headers}


async def test_headers_end_to_end_arrive_and_those_of_one_hop_do_not() -> None:
    kept = [
        ("Authorization", "Bearer key"),
        ("X-Twice", "one"),
        ("x-twice", "two"),
        ("Accept", "text/event-stream"),
        ("Accept-Encoding", "gzip, br"),
        ("User-Agent", "odd/1.0 (é)"),
        ("X-Empty", ""),
        ("Content-Type", "application/json; charset=utf-8"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    dropped = [
        ("Connection", "keep-alive, X-Named"),
        ("X-Named", "of this hop"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic secret"),
        ("x-kvproxy-decision", "1"),
        ("Cookie", "a=b; c=d"),
    ]
    raw = request("POST", CHAT, kept + dropped, b'{"model":"m","messages":[]}')
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        assert (await ask(url, raw)).status == 200
    [received] = replica.received
    replaced = {b"host", b"content-length", b"x-request-id"}
    arrived = [(n.lower(), v) for n, v in received.headers if n.lower() not in replaced]
    assert arrived == [(name.lower().encode(), value.encode()) for name, value in kept]
    assert not {name.lower() for name, _ in received.headers} & OF_ONE_HOP
    assert (b"Host", replica.url.removeprefix("http://").encode()) in received.headers


async def test_a_configured_key_replaces_the_clients() -> None:
    async with recording() as [replica]:
        replicas = [{"url": replica.url, "api_key": "theirs"}]
        async with proxied(replicas) as (_, url):  # type: ignore[arg-type]
            await ask(url, post(b'{"model":"m","messages":[]}', authorization="Bearer mine"))
    keys = [v for n, v in replica.received[0].headers if n.lower() == b"authorization"]
    assert keys == [b"Bearer theirs"]
