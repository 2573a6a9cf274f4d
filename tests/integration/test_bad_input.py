"""Bad input gets a clear error in the engine's shape; nothing stops, leaks or is logged."""

import asyncio
import io
import logging
import resource
from collections.abc import AsyncIterator, Iterator

import orjson
import pytest

from kvproxy.ops.logs import set_up
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import recording
from tests.support.wire import WireAnswer, ask, connected, post, read_answer, request

CHAT = "/v1/chat/completions"
SECRET = b"the-prompts-own-text"
JSON = b"application/json"
GOOD = b'{"model":"emu","max_tokens":1,"messages":[{"role":"user","content":"' + SECRET + b'"}]}'


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged, formatted as `serve` does."""
    ours, root = logging.getLogger("kvproxy"), logging.getLogger()
    before = (ours.handlers[:], ours.level, ours.propagate)
    set_up("debug", "json")
    stream, [handler] = io.StringIO(), ours.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    ours.handlers[:], ours.level, ours.propagate = before


@pytest.fixture
async def running(logged: io.StringIO) -> AsyncIterator[Running]:
    """Afterwards a good request is answered, nothing is held and no log knows the prompt."""
    engine = EmulatorSettings(model="emu", time_scale=50.0)
    async with (
        emulated(engine, n=2) as urls,
        proxied(urls, log={"access": True}, probe={"timeout_s": 30}) as running,
    ):
        yield running
        assert (await ask(running.url, post(GOOD))).status == 200
        await settled(running.app)
    lines = logged.getvalue()
    assert '"path":"/v1/chat/completions","status":200' in lines
    assert SECRET.decode() not in lines
    assert "Traceback" not in lines


def engine_error(answer: WireAnswer) -> dict[str, object]:
    """The inside of an error in vLLM's envelope, whole and with the status repeated."""
    error: dict[str, object] = orjson.loads(answer.body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == answer.status
    assert isinstance(error["message"], str)
    assert error["message"]
    assert answer.header(b"content-type") in (JSON, JSON + b"; charset=utf-8")
    assert answer.header(b"x-request-id")
    return error


DEEP = b'{"model":"emu","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEP_OBJECT = b'{"model":"emu","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
DEEP_TOOL = (
    b'{"model":"emu","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
    b'"function":{"name":"f","parameters":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}]}"
)

BAD: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "white space": (b" \n ", 400),
    "not json": (b"hello " + SECRET, 400),
    "cut json": (GOOD[:-20], 400),
    "json and more": (GOOD + b"}", 400),
    "two objects": (GOOD + GOOD, 400),
    "a list": (b"[1,2]", 400),
    "a number": (b"7", 400),
    "a string": (b'"' + SECRET + b'"', 400),
    "null": (b"null", 400),
    "deep list": (DEEP, 400),
    "deep object": (DEEP_OBJECT, 400),
    "deep cut": (b"[" * 1_000_000, 400),
    "bad utf-8": (GOOD.replace(b"prompts", b"\xff\xfe"), 400),
    "utf-16": (GOOD.decode().encode("utf-16"), 400),
    "bom": (b"\xef\xbb\xbf" + GOOD, 400),
    "nul bytes": (b"\x00" * 100, 400),
    "nan": (GOOD.replace(b'"max_tokens":1', b'"max_tokens":NaN'), 400),
    "single quotes": (GOOD.replace(b'"', b"'"), 400),
    "no messages": (b'{"model":"emu"}', 400),
    "messages null": (b'{"model":"emu","messages":null}', 400),
    "messages a string": (b'{"model":"emu","messages":"x"}', 400),
    "messages of numbers": (b'{"model":"emu","messages":[1,2]}', 400),
    "messages empty": (b'{"model":"emu","messages":[]}', 400),
    "role a number": (b'{"model":"emu","messages":[{"role":1,"content":"x"}]}', 400),
    "content an object": (b'{"model":"emu","messages":[{"role":"user","content":{}}]}', 400),
    "model a number": (GOOD.replace(b'"emu"', b"7"), 400),
    "model a list": (GOOD.replace(b'"emu"', b'["emu"]'), 400),
    "model unknown": (GOOD.replace(b'"emu"', b'"nope"'), 404),
    "tools a string": (GOOD.replace(b'"max_tokens":1', b'"tools":"x"'), 400),
    "tools of numbers": (GOOD.replace(b'"max_tokens":1', b'"tools":[1]'), 400),
    "stream a string": (GOOD.replace(b'"max_tokens":1', b'"stream":"perhaps"'), 400),
    "max_tokens huge": (GOOD.replace(b":1,", b":" + b"9" * 400 + b","), 400),
    "temperature infinite": (GOOD.replace(b'"max_tokens":1', b'"temperature":1e999'), 400),
}


@pytest.mark.parametrize(("body", "status"), BAD.values(), ids=BAD)
async def test_bodies(running: Running, body: bytes, status: int) -> None:
    got = await ask(running.url, post(body))
    assert (got.status, got.complete) == (status, True)
    message = str(engine_error(got)["message"])
    if got.header(b"x-kvproxy-error-code"):
        assert SECRET.decode() not in message


@pytest.mark.parametrize("name", ["nothing", "not json", "a list", "model unknown"])
async def test_our_errors_look_like_the_engines(running: Running, name: str) -> None:
    raw = post(BAD[name][0])
    ours = await ask(running.url, raw)
    theirs = await ask(running.app.router.replicas[0].url, raw)
    assert ours.status == theirs.status
    ours_type = engine_error(ours)["type"]
    assert ours_type == orjson.loads(theirs.body)["error"]["type"]
    assert ours.header(b"x-kvproxy-error-code")


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
async def test_content_types(running: Running, path: str, kind: str) -> None:
    got = await ask(running.url, post(GOOD, path, content_type=kind))
    assert got.status == 400
    assert "application/json" in str(engine_error(got)["message"])


async def test_a_deep_tool_is_understood_or_refused(running: Running) -> None:
    got = await ask(running.url, post(DEEP_TOOL))
    assert got.status in (200, 400)


@pytest.mark.parametrize(
    "field", ["tools", "messages", "stream", "model", "cache_salt", "metadata"]
)
@pytest.mark.parametrize("value", ["1", "null", "{}", "[]", "[[]]", '"x"', "[null]", '{"a":[{}]}'])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_fields_of_any_type(running: Running, field: str, value: str, path: str) -> None:
    fields = {"model": '"emu"', "messages": '[{"role":"user","content":"x"}]', "prompt": '"x"'}
    fields |= {"max_tokens": "1", field: value}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
    raw = post(body.encode(), path)
    through = await ask(running.url, raw)
    direct = await ask(running.app.router.replicas[1].url, raw)
    assert through.status == direct.status, (through.body, direct.body)


async def test_a_body_that_ends_early(running: Running) -> None:
    for framing in (
        post(GOOD)[:-10],
        request("POST", CHAT, [("transfer-encoding", "chunked")]) + b"ff\r\nabc",
        request("POST", CHAT, [("transfer-encoding", "chunked")]) + b"5\r\nabcde\r\n",
    ):
        async with connected(running.url) as (reader, writer):
            writer.write(framing)
            writer.write_eof()
            assert b"200 OK" not in await reader.read()
        await settled(running.app)


MIB = 2**20


def max_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def test_a_length_beyond_the_limit_is_refused_before_the_body(running: Running) -> None:
    headers = [("content-length", str(200 * MIB)), ("content-type", "application/json")]
    raw = request("POST", CHAT, headers)
    async with connected(running.url) as (reader, writer):
        writer.write(raw)
        got = await read_answer(reader)
    assert got.status == 413
    assert "max_body_bytes" in str(engine_error(got)["message"])


async def test_200_mb_in_chunks_are_refused_in_bounded_memory() -> None:
    """The limit is what is buffered at most; the rest is read and dropped, or cut off."""
    async with (
        recording() as [replica],
        proxied([replica.url], server={"max_body_bytes": 4 * MIB}) as (app, url),
    ):
        before = max_rss_mib()
        async with connected(url) as (reader, writer):
            headers = [("transfer-encoding", "chunked"), ("content-type", "application/json")]
            writer.write(request("POST", CHAT, headers))
            answering = asyncio.create_task(read_answer(reader))
            sent = await pour(writer, 200)
            got = await answering
        grew = max_rss_mib() - before
        print(f"{sent} MiB taken, {grew:.0f} MiB of memory")
        await settled(app)
        assert (await ask(url, post(GOOD))).status == 200
    assert got.status == 413
    engine_error(got)
    assert grew < 40
    assert len(replica.received) == 1


async def pour(writer: asyncio.StreamWriter, mebibytes: int) -> int:
    """Chunks of 1 MiB until all are sent or the other side has had enough."""
    chunk = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    for sent in range(mebibytes):
        try:
            writer.write(chunk)
            await writer.drain()
        except ConnectionError:
            return sent
    return mebibytes


async def test_an_upload_that_stalls_is_timed_out() -> None:
    async with (
        recording() as [replica],
        proxied([replica.url], server={"body_timeout_s": 0.05}) as (app, url),
    ):
        async with connected(url) as (reader, writer):
            writer.write(post(GOOD)[:-5])
            got = await read_answer(reader)
        await settled(app)
    assert got.status == 408
    assert "body_timeout_s" in str(engine_error(got)["message"])


HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
BROKEN = {
    "no http": SECRET + b"\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100 + b"\r\n\r\n",
    "bad method": b"G\x01T / HTTP/1.1\r\nhost: x\r\n\r\n",
    "lower case method": b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\n\r\n",
    "other authority": b"GET @elsewhere.test:80/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    "length and chunks": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "negative length": HEAD + b"content-length: -1\r\n\r\n",
    "length no number": HEAD + b"content-length: many\r\n\r\n",
    "bad chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n" + SECRET + b"\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
    "header injection": b"GET / HTTP/1.1\r\nhost: x\r\nx: a\rb: c\r\n\r\n",
    "huge header": b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    "huge target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_requests_that_are_no_http(running: Running, raw: bytes) -> None:
    """Refused with 400 or so and the connection closed, never forwarded."""
    async with connected(running.url) as (reader, writer):
        writer.write(raw)
        got = await reader.read()
    assert int(got.split(b" ")[1]) in (400, 413, 414, 431), got
    assert SECRET not in got.replace(b"b'" + SECRET, b"")


@pytest.mark.parametrize("count", [100, 2000])
async def test_many_headers(running: Running, count: int) -> None:
    headers = [(f"x-{i}", "v" * 20) for i in range(count)]
    got = await ask(running.url, request("POST", CHAT, headers, GOOD))
    assert got.status in (200, 400, 431)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/v1/chat%2Fcompletions", 404),
        ("GET", "http://elsewhere.test/nothing", 404),
        ("OPTIONS", "*", 404),
        ("PROPFIND", "/v1/models", 405),
    ],
)
async def test_other_targets_are_the_replicas_to_refuse(
    running: Running, method: str, target: str, status: int
) -> None:
    got = await ask(running.url, request(method, target))
    assert got.status == status
    assert list(orjson.loads(got.body)) == ["detail"]


@pytest.mark.parametrize(
    "header",
    ["x-session-id", "x-request-id", "x-kvproxy-decision", "content-type", "authorization"],
)
@pytest.mark.parametrize(
    "value", [b"\xff\xfe", "日本".encode(), b"a\tb", b"x" * 8000, b'"{}\\', b""]
)
async def test_odd_header_values(running: Running, header: str, value: bytes) -> None:
    raw = post(GOOD).replace(b"host:", header.encode() + b": " + value + b"\r\nhost:", 1)
    got = await ask(running.url, raw)
    assert got.status in (200, 400)


async def test_an_upgrade_is_not_taken_for_a_tunnel(running: Running) -> None:
    headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]
    got = await ask(running.url, request("GET", "/v1/realtime", headers))
    assert got.status == 404


async def test_a_slow_head_holds_nothing(running: Running) -> None:
    async with connected(running.url) as (_, writer):
        writer.write(post(GOOD)[:30])
        assert (await ask(running.url, post(GOOD))).status == 200
        await eventually(lambda: running.app.server.in_flight == 0)
