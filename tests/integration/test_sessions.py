"""A coding agent's session in each dialect, with all that breaks prefixes, through the proxy."""

import json
from typing import Any

import orjson
import pytest

from tests.support.proxies import proxied, settled
from tests.support.recording import answer, recording
from tests.support.wire import ask, post, request

USAGE = b'{"usage":{"input_tokens":9,"output_tokens":1,"prompt_tokens":9,"completion_tokens":1}}'
PATHS = {"messages": "/v1/messages", "responses": "/v1/responses", "chat": "/v1/chat/completions"}


def tool(dialect: str, name: str, flipped: bool) -> dict[str, Any]:
    properties = {"path": {"type": "string"}, "limit": {"type": "integer"}}
    if flipped:
        properties = dict(reversed(list(properties.items())))
    schema = {"type": "object", "properties": properties}
    if dialect == "messages":
        return {"name": name, "input_schema": schema}
    if dialect == "responses":
        return {"type": "function", "name": name, "parameters": schema}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def body(dialect: str, turn: int) -> bytes:
    """Turn `turn` of a session whose client shuffles its tools and bills each request anew."""
    billing = f"x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch={turn:05x};"
    names = ("read", "write") if turn % 2 else ("write", "read")
    said = [{"role": "user", "content": f"message {n} " * 40} for n in range(2 * turn + 1)]
    value: dict[str, Any] = {"model": "m"}
    if dialect == "messages":
        system = [{"type": "text", "text": billing}, {"type": "text", "text": "Rules. " * 50}]
        value |= {"system": system, "messages": said}
    elif dialect == "responses":
        value |= {"instructions": f"{billing}\n" + "Rules. " * 50, "input": said}
    else:
        system_text = f"{billing}\n" + "Rules. " * 50
        value["messages"] = [{"role": "system", "content": system_text}, *said]
    value["tools"] = [tool(dialect, name, turn % 3 == 1) for name in names]
    return json.dumps(value).encode()


def prompt(forwarded: bytes) -> str:
    """All that an engine prints but the last two messages, in order."""
    value = json.loads(forwarded)
    said = value.get("messages") or value["input"]
    head = [value.get("system"), value.get("instructions"), value["tools"]]
    return json.dumps([head, said[:1]])


@pytest.mark.parametrize("dialect", PATHS)
async def test_every_turn_begins_with_the_same_bytes(dialect: str) -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: answer(USAGE)
        for turn in range(6):
            raw = post(body(dialect, turn), PATHS[dialect], x_session_id="s")
            assert (await ask(url, raw)).status == 200
        await settled(app)
        metrics = (await ask(url, request("GET", "/metrics"))).body.decode()
    assert len({prompt(received.body) for received in replica.received}) == 1
    assert all(b"billing" not in received.body for received in replica.received)
    assert 'kvproxy_splices_total{kind="billing_line",mode="applied"} 6.0' in metrics
    assert "kvproxy_prefix_breaks_total{" not in metrics


async def test_a_dry_run_only_tells() -> None:
    async with (
        recording() as [replica],
        proxied([replica.url], canonical={"dry_run": True}) as (_, url),
    ):
        for turn in range(3):
            await ask(url, post(body("messages", turn), "/v1/messages", x_session_id="s"))
        metrics = (await ask(url, request("GET", "/metrics"))).body.decode()
    sent = [received.body for received in replica.received]
    assert sent == [body("messages", turn) for turn in range(3)]
    assert 'kvproxy_splices_total{kind="billing_line",mode="dry_run"} 3.0' in metrics
    assert 'mode="applied"' not in metrics


async def test_a_break_is_explained() -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: answer(USAGE)
        edited = body("messages", 3).replace(b"message 2 ", b"another 2 ", 1)
        for number, raw in enumerate((body("messages", 3), edited)):
            await ask(
                url,
                post(
                    raw,
                    "/v1/messages",
                    x_session_id="s",
                    x_request_id=f"r{number}",
                    user_agent="claude-cli/2.1.86 (external, cli)",
                ),
            )
        await settled(app)
        told = await ask(url, request("GET", "/admin/explain?request_id=r1"))
        missing = await ask(url, request("GET", "/admin/explain?request_id=other"))
        metrics = (await ask(url, request("GET", "/metrics"))).body.decode()
    found = orjson.loads(told.body)
    assert (found["prefix"]["break"], found["prefix"]["pointer"]) == (
        "history_edited",
        "/messages/2",
    )
    assert edited[found["prefix"]["offset"] :].startswith(b'{"role": "user", "content": "another')
    assert missing.status == 404
    counted = 'kvproxy_prefix_breaks_total{cause="history_edited",client="claude_code"} 1.0'
    assert counted in metrics


async def test_two_credentials_share_no_bytes() -> None:
    """The second tenant's order is its own, though the first was seen with another."""
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        for key, turn in (("one", 0), ("other", 1), ("one", 1)):
            raw = post(body("chat", turn), PATHS["chat"], authorization=f"Bearer {key}")
            assert (await ask(url, raw)).status == 200
    first, other, again = (json.loads(received.body)["tools"] for received in replica.received)
    assert other == json.loads(body("chat", 1))["tools"]
    assert again == first != other
