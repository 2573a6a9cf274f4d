"""Routes that read prompts, where no golden answer shows what they do."""

from contextlib import asynccontextmanager

import aiohttp
import pytest

from loadgen.emulator import EmulatorSettings, emulated

SETTINGS = EmulatorSettings(
    time_scale=1000.0, model="tiny", block_size=16, responses_stored=2, scale_out=True
)
ASK = {"model": "tiny", "input": "x" * 4000, "max_output_tokens": 16}


@asynccontextmanager
async def plain():
    settings = EmulatorSettings(model="tiny")
    async with emulated(settings) as (url,), aiohttp.ClientSession(url) as session:
        yield session


@pytest.fixture
async def client():
    async with emulated(SETTINGS) as (url,), aiohttp.ClientSession(url) as session:
        yield session


async def post(client, path, fields) -> tuple[int, dict]:
    async with client.post(path, json=fields) as response:
        return response.status, await response.json()


async def test_a_response_continues_an_earlier_one_by_name(client):
    _, first = await post(client, "/v1/responses", ASK)
    follow = {"model": "tiny", "input": "go on", "max_output_tokens": 2}
    _, second = await post(client, "/v1/responses", follow | {"previous_response_id": first["id"]})
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    cached = second["usage"]["input_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["input_tokens"] // 16 * 16
    async with client.get(f"/v1/responses/{first['id']}") as response:
        assert await response.json() == first
    status, error = await post(client, f"/v1/responses/{first['id']}/cancel", {})
    assert (status, error["error"]["param"]) == (400, "response_id")


async def test_a_response_is_not_stored_unless_there_is_a_store():
    async with plain() as session:
        _, first = await post(session, "/v1/responses", ASK)
        again = ASK | {"previous_response_id": first["id"]}
        assert (await post(session, "/v1/responses", again))[0] == 404


async def test_messages_share_their_prefix_with_chats(client):
    messages = [{"role": "user", "content": "x" * 4000}]
    chat = {"model": "tiny", "messages": messages, "max_tokens": 2}
    await post(client, "/v1/chat/completions", chat)
    _, answer = await post(client, "/v1/messages", chat)
    usage = answer["usage"]
    assert usage["cache_read_input_tokens"] == 992
    _, counted = await post(client, "/v1/messages/count_tokens", chat)
    prompt = sum(usage.values()) - usage["output_tokens"]
    assert counted["input_tokens"] == prompt == 1005


async def test_rendering_is_closed_by_default(client):
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
    _, rendered = await post(client, "/v1/chat/completions/render", chat)
    _, tokens = await post(client, "/tokenize", chat)
    assert rendered["token_ids"] == tokens["tokens"]
    async with plain() as session:
        assert (await post(session, "/v1/chat/completions/render", chat))[0] == 403


async def test_every_choice_of_every_prompt_is_answered(client):
    fields = {"model": "tiny", "prompt": ["a", "b"], "n": 2, "max_tokens": 3}
    _, answer = await post(client, "/v1/completions", fields)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in answer["choices"]}) == 4
    assert answer["usage"] | {"prompt_tokens_details": None} == {
        "prompt_tokens": 2, "total_tokens": 14, "completion_tokens": 12,
        "prompt_tokens_details": None, "completion_tokens_details": None,
    }  # fmt: skip
