"""Web pages and proxies in front, through the whole proxy."""

from typing import Any

import pytest

from tests.support.proxies import proxied
from tests.support.recording import answer, recording
from tests.support.wire import ask, post, request

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
ENGINES = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*")]
PREFLIGHT = [("access-control-request-method", "POST"), ("origin", "https://chat.example")]


@pytest.mark.parametrize(
    ("server", "status", "allowed"),
    [
        ({}, 403, None),
        ({"cors_origins": ["https://other"]}, 403, None),
        ({"cors_origins": ["https://chat.example"]}, 204, b"https://chat.example"),
    ],
)
async def test_pages_ask_if_settings_say_so_whatever_engines_allow(
    server: dict[str, Any], status: int, allowed: bytes | None
) -> None:
    async with recording() as [replica], proxied([replica.url], server=server) as (_, url):
        replica.script = lambda received: answer(headers=ENGINES)
        before = await ask(url, request("OPTIONS", "/v1/chat/completions", PREFLIGHT))
        assert before.status == status
        got = await ask(url, post(CHAT, origin="https://chat.example"))
        assert got.status == 200
        for each in (before, got):
            said = [value for name, value in each.headers if name.endswith(b"allow-origin")]
            assert said == ([] if allowed is None else [allowed])
            assert (each.status == 204) == (each.header(b"content-length") is None)
        assert len(replica.received) == 1


@pytest.mark.parametrize(("networks", "passes"), [([], False), (["127.0.0.0/8"], True)])
async def test_where_a_request_came_from_is_for_trusted_proxies_to_say(
    networks: list[str], passes: bool
) -> None:
    server = {"trusted_proxies": networks}
    async with recording() as [replica], proxied([replica.url], server=server) as (_, url):
        await ask(url, post(CHAT, x_forwarded_for="1.2.3.4", forwarded="for=1.2.3.4", x_other="x"))
    named = {name.lower() for name, _ in replica.received[0].headers}
    assert ({b"x-forwarded-for", b"forwarded"} <= named) is passes
    assert b"x-other" in named
