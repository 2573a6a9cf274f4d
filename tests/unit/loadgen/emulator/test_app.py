"""Routes beside generation: probes, tokens, faults, and what happens on unknown paths."""

import json

import aiohttp
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.shared import shared_path

FAST = EmulatorSettings(time_scale=1000.0, model="tiny")
CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "x" * 4000}], "max_tokens": 2}


@pytest.fixture
async def client():
    async with emulated(FAST) as (url,), aiohttp.ClientSession(url) as session:
        yield session


async def get(client, path) -> tuple[int, bytes, dict]:
    async with client.get(path) as response:
        return response.status, await response.read(), dict(response.headers)


async def post(client, path, fields) -> tuple[int, dict]:
    async with client.post(path, json=fields) as response:
        data = await response.read()
        return response.status, json.loads(data) if data else {}


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health_is_empty(client, path):
    status, data, headers = await get(client, path)
    assert (status, data, headers["Server"]) == (200, b"", "uvicorn")
    assert "Content-Type" not in headers


async def test_versions_and_load(client):
    assert (await get(client, "/version"))[1] == b'{"version":"0.32.0"}'
    assert (await get(client, "/load"))[1] == b'{"server_load":0}'


async def test_models(client):
    models = json.loads((await get(client, "/v1/models"))[1])
    assert models["data"][0]["id"] == "tiny"
    assert models["data"][0]["max_model_len"] == 1_000_000


@pytest.mark.shared
async def test_models_have_the_real_keys(client):
    real = json.loads(shared_path("vllm-samples", "http", "models.body").read_bytes())
    ours = json.loads((await get(client, "/v1/models"))[1])
    assert list(ours) == list(real)
    assert list(ours["data"][0]) == list(real["data"][0])
    assert list(ours["data"][0]["permission"][0]) == list(real["data"][0]["permission"][0])


async def test_unknown_paths_and_methods(client):
    status, data, _ = await get(client, "/v1/nothing")
    assert (status, data) == (404, b'{"detail":"Not Found"}')
    status, data, headers = await get(client, CHAT)
    assert (status, data) == (405, b'{"detail":"Method Not Allowed"}')
    assert headers["Allow"] == "POST"


async def test_metrics(client):
    await post(client, CHAT, ASK)
    status, data, headers = await get(client, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=1.0.0; charset=utf-8"
    labels = b'{engine="0",model_name="tiny"}'
    assert b"vllm:prompt_tokens_total" + labels + b" 1005.0" in data
    assert b"vllm:time_to_first_token_seconds_count" + labels + b" 1.0" in data


async def test_tokenize_and_back(client):
    fields = {"prompt": "héllo", "return_token_strs": True}
    _, tokens = await post(client, "/tokenize", fields)
    assert (tokens["count"], tokens["token_strs"]) == (2, ["hél", "lo"])
    _, text = await post(client, "/detokenize", {"tokens": tokens["tokens"]})
    assert text == {"prompt": "héllo"}
    for wrong in ({}, {"tokens": ["x"]}):
        assert (await post(client, "/detokenize", wrong))[0] == 400


async def test_tokenize_of_messages_counts_as_the_prompt_does(client):
    tools = [{"type": "function", "function": {"name": "f"}}]
    fields = {"messages": ASK["messages"], "tools": tools}
    _, tokens = await post(client, "/tokenize", fields)
    _, answer = await post(client, CHAT, fields | {"max_tokens": 1, "tool_choice": "none"})
    assert tokens["count"] == answer["usage"]["prompt_tokens"] == len(tokens["tokens"])
    assert tokens["token_strs"] is None


async def cached(client) -> int:
    _, answer = await post(client, CHAT, ASK)
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def test_reset_prefix_cache(client):
    assert [await cached(client), await cached(client)] == [0, 992]
    async with client.post("/reset_prefix_cache") as response:
        assert response.status == 200
    assert await cached(client) == 0


async def test_injected_failures_end_by_themselves(client):
    assert (await post(client, "/emulator/fail", {"count": 2, "status": 503}))[0] == 200
    assert [(await post(client, CHAT, ASK))[0] for _ in range(3)] == [503, 503, 200]
    assert (await post(client, "/emulator/fail", {"status": 200}))[0] == 400


async def test_stall_and_resume(client):
    assert (await post(client, "/emulator/stall", {"seconds": None}))[0] == 200
    async with client.post(CHAT, json=ASK | {"stream": True}) as response:
        state = json.loads((await get(client, "/emulator/state"))[1])
        assert (state["waiting"], state["inflight"]) == (1, 1)
        assert (await post(client, "/emulator/resume", {}))[0] == 200
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    assert (await post(client, "/emulator/stall", {"seconds": "long"}))[0] == 400


async def test_the_body_must_be_sent_as_json(client):
    async with client.post(CHAT, data=b"{}", headers={"content-type": "text/plain"}) as response:
        assert response.status == 400
        assert "Unsupported Media Type" in (await response.json())["error"]["message"]
