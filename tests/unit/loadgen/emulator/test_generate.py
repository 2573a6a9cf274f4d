"""Generations over HTTP: what is streamed, cached, refused and aborted."""

import asyncio
import json

import aiohttp
import openai
import pytest
from aiohttp import web

from loadgen.emulator import EmulatorSettings, emulated

FAST = EmulatorSettings(time_scale=1000.0, dram_tokens=51_200, max_model_len=50_000)
SYSTEM = {"role": "system", "content": "Be brief. " * 200}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        },
    }
]


@pytest.fixture
async def url():
    async with emulated(FAST) as urls:
        yield urls[0]


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


def body(text: str, **fields: object) -> dict:
    return {"model": "emu", "messages": [SYSTEM, {"role": "user", "content": text}]} | fields


async def post(client, url, fields, path="/v1/chat/completions", **options):
    async with client.post(url + path, json=fields, **options) as response:
        return response.status, await response.json()


async def cached(client, url, fields) -> int:
    status, answer = await post(client, url, {"max_tokens": 2} | fields)
    assert status == 200
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def events(data: bytes) -> list[dict]:
    parts = data.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


async def test_equal_prefixes_hit_and_different_ones_do_not(client, url):
    first = body("one")
    assert await cached(client, url, first) == 0
    prompt = 3 + 500 + 3 + 1 + 2  # system message, user message, generation prompt
    assert await cached(client, url, first) == (prompt - 1) // 16 * 16
    assert await cached(client, url, body("two")) == (3 + 500) // 16 * 16
    other = {"messages": [{"role": "system", "content": "X" + SYSTEM["content"]}]}
    assert await cached(client, url, other) == 0
    assert await cached(client, url, first | {"cache_salt": "s"}) == 0
    assert await cached(client, url, first | {"cache_salt": "s"}) > 0


async def test_the_next_turn_hits_what_was_generated(client, url):
    first = body("one", max_tokens=64)
    _, answer = await post(client, url, first)
    said = answer["choices"][0]["message"]
    turn = {"role": said["role"], "content": said["content"]}
    following = {"messages": [*first["messages"], turn, {"role": "user", "content": "go on"}]}
    prompt = answer["usage"]["prompt_tokens"]
    assert await cached(client, url, following) == (prompt + 63) // 16 * 16


async def test_a_stream_says_the_same_as_a_body(client, url):
    _, whole = await post(client, url, body("x", max_tokens=9))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    fields = body("x", max_tokens=9, **options)
    async with client.post(url + "/v1/chat/completions", json=fields) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        got = events(await response.read())
    assert got[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in got[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert got[-2]["choices"][0]["finish_reason"] == "length"
    assert got[-1]["choices"] == []
    assert got[-1]["usage"]["completion_tokens"] == 9
    assert got[-1]["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


async def test_completions_take_text_and_tokens(client, url):
    text = {"model": "emu", "prompt": "hello world!" * 20, "max_tokens": 3}
    _, first = await post(client, url, text, "/v1/completions")
    assert first["object"] == "text_completion"
    assert first["usage"]["prompt_tokens"] == 60
    _, tokens = await post(client, url, {"prompt": text["prompt"]}, "/tokenize")
    assert tokens["count"] == 60
    ids = text | {"prompt": tokens["tokens"]}
    _, second = await post(client, url, ids, "/v1/completions")
    assert second["choices"][0]["text"] == first["choices"][0]["text"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 48
    status, wrong = await post(client, url, text | {"prompt": [2**40]}, "/v1/completions")
    assert (status, wrong["error"]["param"]) == (400, None)


async def test_completion_stream(client, url):
    fields = {"prompt": "hi", "max_tokens": 4, "stream": True}
    async with client.post(url + "/v1/completions", json=fields) as response:
        got = events(await response.read())
    assert "".join(chunk["choices"][0]["text"] for chunk in got).strip()
    assert got[-1]["choices"][0]["finish_reason"] == "length"


async def test_request_id_becomes_part_of_the_answer_id(client, url):
    headers = {"X-Request-Id": "my-req-42", "X-data-parallel-rank": "0"}
    _, answer = await post(client, url, body("x", max_tokens=1), headers=headers)
    assert answer["id"] == "chatcmpl-my-req-42"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nope"}, (404, "NotFoundError", "model")),
        ({"max_tokens": 60_000}, (400, "BadRequestError", "max_tokens")),
        ({"messages": "hi"}, (400, "Bad Request", "body.messages")),
        (
            {"stream": True, "messages": [{"role": "user", "content": "x" * 200_001}]},
            (400, "BadRequestError", "input_tokens"),
        ),
    ],
)
async def test_refusals(client, url, fields, expected):
    got, answer = await post(client, url, body("x") | fields)
    error = answer["error"]
    assert (got, error["type"], error["param"]) == expected
    assert error["code"] == got


async def state(client, url) -> dict:
    async with client.get(url + "/emulator/state") as response:
        return await response.json()


async def settled(client, url, **wanted: float) -> None:
    """Wait, bounded by the test's own time limit, until the replica's state is as wanted."""
    while True:
        now = await state(client, url)
        if all(now[name] == value for name, value in wanted.items()):
            return


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_its_request(client, stream):
    slow = EmulatorSettings(prefill_tok_s=10.0)
    async with emulated(slow) as (url,):
        fields = body("x", max_tokens=100, stream=stream)
        posting = asyncio.ensure_future(post(client, url, fields))
        await settled(client, url, running=1, inflight=1)
        posting.cancel()
        await settled(client, url, running=0, waiting=0, inflight=0, kv_usage=0.0)


async def test_a_client_that_leaves_mid_stream_aborts_its_request(client):
    async with emulated(EmulatorSettings()) as (url,):
        fields = {"prompt": "x", "max_tokens": 100_000, "stream": True}
        async with client.post(url + "/v1/completions", json=fields) as response:
            await response.content.readline()
            await settled(client, url, running=1)
        await settled(client, url, running=0, waiting=0, inflight=0)


async def test_a_client_that_leaves_before_the_headers_is_no_error(
    client, url, monkeypatch, caplog
):
    prepare = web.StreamResponse.prepare

    async def gone(self, request):
        if self.content_type == "text/event-stream":
            raise ConnectionResetError("Cannot write to closing transport")
        return await prepare(self, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", gone)
    with pytest.raises(aiohttp.ClientError):
        await post(client, url, body("x", stream=True))
    await settled(client, url, running=0, waiting=0, inflight=0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_crash_mid_stream_is_an_error_event(client):
    async with emulated(EmulatorSettings()) as (url,):
        fields = {"prompt": "x", "max_tokens": 100_000, "stream": True}
        async with client.post(url + "/v1/completions", json=fields) as response:
            await response.content.readuntil(b"\n\n")
            async with client.post(url + "/emulator/crash", json={}) as crashed:
                assert crashed.status == 200
            got = events(await response.read())
        assert got[-1]["error"]["code"] == 500
        assert got[-1]["error"]["type"] == "InternalServerError"


async def test_the_openai_client_works_with_tools(url):
    messages = [{"role": "user", "content": "read_file, please"}]
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none") as api:
        answer = await api.chat.completions.create(model="emu", messages=messages, tools=TOOLS)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "read_file"
        assert json.loads(call.function.arguments).keys() == {"path"}
        parts = [
            chunk.choices[0].delta.tool_calls[0]
            async for chunk in await api.chat.completions.create(
                model="emu", messages=messages, tools=TOOLS, stream=True
            )
            if chunk.choices[0].delta.tool_calls
        ]
        assert parts[0].function.name == "read_file"
        assert "".join(part.function.arguments or "" for part in parts) == call.function.arguments
        turn = answer.choices[0].message.model_dump(exclude_none=True)
        result = {"role": "tool", "tool_call_id": call.id, "content": "text of the file"}
        last = await api.chat.completions.create(
            model="emu", messages=[*messages, turn, result], tools=TOOLS, max_tokens=4
        )
        assert last.choices[0].finish_reason == "length"
        generated = answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert last.usage.prompt_tokens_details.cached_tokens >= (generated - 1) // 16 * 16
