"""Token ids told in answers: kvproxy learns them, the client never sees them."""

from functools import partial
from typing import Any

import aiohttp
import orjson
import pytest

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.proxies import eventually, proxied, settled
from tests.support.wire import WireAnswer, ask, request

# vLLM before 0.30: its events name no request.
ENGINE = EmulatorSettings(model="m", time_scale=20.0, kv_events=True, kv_events_style="array")
CHAT = "/v1/chat/completions"
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": "hello " * 400}]}),
    "stream": (CHAT, {"messages": [{"role": "user", "content": "hi " * 600}], "stream": True,
                      "stream_options": {"include_usage": True}}),
    "completion": ("/v1/completions", {"prompt": "once " * 500}),
    "completion stream": ("/v1/completions", {"prompt": "twice " * 500, "stream": True,
                          "stream_options": {"include_usage": True}}),
}  # fmt: skip


# One token: how many of them share a chunk is a matter of moments.
async def posted(url: str, path: str, body: dict[str, Any]) -> WireAnswer:
    headers = {"content-type": "application/json", "x-request-id": "fixed"}
    sent = orjson.dumps({"model": "m", "max_tokens": 1, "temperature": 0} | body)
    return await ask(url, request("POST", path, list(headers.items()), sent))


def outcomes(app: App) -> dict[str, float]:
    name = "kvproxy_tokenised_prompts"
    return {c.labels["outcome"]: c.value for c in app.sources.counted() if c.name == name}


@pytest.mark.parametrize("name", BODIES)
async def test_answers_are_byte_for_byte_those_of_who_did_not_ask(name: str) -> None:
    path, body = BODIES[name]
    fleet = Fleet(ENGINE, 1, "127.0.0.1", 0)
    await fleet.start()
    try:
        async with proxied(fleet.urls, tokens={"return_token_ids": True}) as (app, url):
            # Its events are heard of, and name nobody.
            await posted(url, path, BODIES["chat" if path == CHAT else "completion"][1])
            holdings, [replica] = app.router.holdings, app.router.replicas
            await eventually(partial(holdings.wants_tokens, replica))
            first = await posted(url, path, body)
            await eventually(lambda: outcomes(app)["told"] >= 1)
            direct = await posted(fleet.urls[0], path, body)
            through = await posted(url, path, body)
            assert normal(through) == normal(direct)
            assert b'token_ids":[' not in first.body + through.body
            await eventually(lambda: holdings.chains.made >= 1)
            await settled(app)
    finally:
        await fleet.stop()


def normal(answer: WireAnswer) -> tuple[int, list[dict[str, Any]] | dict[str, Any]]:
    """Ids and times are drawn anew."""
    stream = answer.body.startswith(b"data: ")
    texts = answer.body.split(b"\n\n") if stream else [b"data: " + answer.body]
    values = [orjson.loads(text[6:]) for text in texts if text.startswith(b"data: {")]
    for value in values:
        value["id"] = value["created"] = 0
    return answer.status, values


async def test_an_engine_that_does_not_know_the_field_is_not_asked() -> None:
    """SGLang's page does not declare it; then /tokenize is asked as ever."""
    engine = EmulatorSettings(model="m", time_scale=20.0, kv_events=True, engine="sglang")
    fleet = Fleet(engine, 1, "127.0.0.1", 0)
    await fleet.start()
    try:
        async with (
            proxied(fleet.urls, tokens={"return_token_ids": True}) as (app, url),
            aiohttp.ClientSession() as client,
        ):
            for number in range(2):
                content = f"{number} hello " * 400
                body = {"model": "m", "messages": [{"role": "user", "content": content}]}
                async with client.post(url + CHAT, json=body) as answer:
                    assert answer.status == 200
                [replica] = app.router.replicas
                await eventually(partial(app.router.holdings.wants_tokens, replica))
            await eventually(lambda: outcomes(app)["asked"] >= 1)
            assert outcomes(app)["told"] == 0
    finally:
        await fleet.stop()
