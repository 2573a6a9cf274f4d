"""Which headers replicas and clients see, on the wire: of prompts and of WebSockets, with workers,
and from the next request on after a reload."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.test_shutdown import served
from tests.support.proxies import eventually, proxied
from tests.support.recording import Mark, Received, RecordingReplica, answer, recording
from tests.support.wire import ask, connected, post, read_headers, request

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
SAYS = [
    (b"content-type", b"application/json"),
    (b"set-cookie", b"a=1"),
    (b"server", b"uvicorn"),
    (b"X-Engine-Load", b"3"),
    (b"x-kvproxy-replica", b"another"),
]
ASKS = {"cookie": "a=b", "x_team_a": "1", "X-Team-B": "2", "authorization": "Bearer k", "x_c": "3"}
WEBSOCKET = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
    ("cookie", "a=b"),
    ("x-team-a", "1"),
]
DEFAULT: dict[str, Any] = {}
NAMES = {
    "upstream": {"drop_headers": ["x-c"]},
    "server": {"drop_headers": ["server", "x-kvproxy-replica"]},
}
BEGINNINGS = {
    "upstream": {"drop_headers": ["x-team-*"]},
    "server": {"drop_headers": ["X-*"]},
}
ONLY = {"upstream": {"allow_headers": ["x-team-*"]}}


def names(received: Received) -> set[bytes]:
    """Of what is in question here."""
    asked = {b"cookie", b"x-team-a", b"x-team-b", b"authorization", b"x-c", b"content-type"}
    return {name.lower() for name, _ in received.headers} & asked


@pytest.mark.parametrize(
    ("sections", "arrive", "go_back"),
    [
        (
            DEFAULT,
            {b"x-team-a", b"x-team-b", b"authorization", b"x-c"},
            {b"server", b"x-engine-load", b"x-kvproxy-replica", b"x-request-id"},
        ),
        (
            NAMES,
            {b"cookie", b"x-team-a", b"x-team-b", b"authorization"},
            {b"set-cookie", b"x-engine-load", b"x-request-id"},
        ),
        (BEGINNINGS, {b"cookie", b"authorization", b"x-c"}, {b"set-cookie", b"server"}),
        (
            ONLY,
            {b"x-team-a", b"x-team-b"},
            {b"server", b"x-engine-load", b"x-kvproxy-replica", b"x-request-id"},
        ),
    ],
    ids=["default", "names", "beginnings", "only"],
)
async def test_prompts_and_their_answers(
    sections: dict[str, Any], arrive: set[bytes], go_back: set[bytes]
) -> None:
    async with recording() as [replica], proxied([replica.url], **sections) as (_, url):
        replica.script = lambda received: answer(headers=SAYS)
        got = await ask(url, post(CHAT, x_session_id="s", **ASKS))
        [received] = replica.received
    assert (got.status, received.body) == (200, CHAT)
    assert names(received) == arrive | {b"content-type"}
    # What kvproxy itself has to say arrives whatever is let pass.
    assert b"x-request-id" in {name.lower() for name, _ in received.headers}
    mine = {name for name, _ in SAYS} | {b"x-engine-load", b"x-request-id"}
    assert {name.lower() for name, _ in got.headers} & mine == go_back | {b"content-type"}
    if b"x-kvproxy-replica" in go_back:
        assert got.header(b"x-kvproxy-replica") == replica.url[7:].encode()


async def test_a_key_of_ours_arrives_where_the_clients_is_dropped() -> None:
    upstream = {"api_key": "ours", "drop_headers": ["authorization"], "allow_headers": ["x-c"]}
    async with recording() as [replica], proxied([replica.url], upstream=upstream) as (_, url):
        await ask(url, post(CHAT, **ASKS))
        [received] = replica.received
    assert (b"authorization", b"Bearer ours") in received.headers
    assert names(received) == {b"authorization", b"x-c", b"content-type"}


@pytest.mark.parametrize("sections", [DEFAULT, BEGINNINGS, ONLY], ids=["default", "drop", "only"])
async def test_websockets(sections: dict[str, Any]) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    says = b"".join(b"%b: %b\r\n" % pair for pair in SAYS)
    accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    async with recording() as [replica], proxied([replica.url], **sections) as (_, url):
        replica.script = lambda received: [switched + accept + says + b"\r\n", Mark.CUT]
        async with connected(url) as (reader, writer):
            writer.write(request("GET", "/v1/realtime", WEBSOCKET))
            first, headers = await read_headers(reader)
        [received] = replica.received
    assert first.split()[1] == b"101"
    sent = {name.lower() for name, _ in received.headers}
    assert {b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"} <= sent
    assert (b"cookie" in sent) is (sections is BEGINNINGS)
    assert (b"x-team-a" in sent) is (sections is not BEGINNINGS)
    said = {name.lower() for name, _ in headers}
    assert {b"upgrade", b"connection", b"sec-websocket-accept"} <= said
    assert (b"set-cookie" in said) is (sections is BEGINNINGS)
    assert (b"x-engine-load" in said) is (sections is not BEGINNINGS)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_takes_them_over(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "kvproxy.yaml"

    def write(replica: RecordingReplica, **sections: Any) -> None:
        file.write_text(yaml.safe_dump({"replicas": [replica.url], **sections}))

    async def seen(replica: RecordingReplica, url: str) -> tuple[bool, bool]:
        got = await ask(url, post(CHAT, **ASKS))
        return b"x-c" in names(replica.received[-1]), got.header(b"server") is not None

    async with recording() as [replica]:
        replica.script = lambda received: answer(headers=SAYS)
        write(replica)
        flags = ("--workers", str(workers), "--config", str(file))
        async with served(*flags) as (process, url):
            assert await seen(replica, url) == (True, True)
            write(replica, **NAMES)
            os.kill(process.pid, signal.SIGHUP)
            # Every process takes them over by itself: connections come to either.
            for _ in range(3 * workers):
                await eventually(lambda: gone(seen(replica, url)), 30.0)


async def gone(seen: Any) -> bool:
    return await asyncio.wait_for(seen, 10.0) == (False, False)
