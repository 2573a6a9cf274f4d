"""The real `openai` package against the proxy, as applications use it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import openai
import pytest
from openai import AsyncOpenAI

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import proxied, settled

# Prompts this short may as well go anywhere, and some tests ask twice.
SESSION = {"x-session-id": "one"}
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather? Use get_weather."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


class Service(NamedTuple):
    client: AsyncOpenAI
    app: App
    url: str


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    settings = EmulatorSettings(model="emu", time_scale=20.0)
    async with emulated(settings, n=2) as urls, proxied(urls) as (app, url):
        async with AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", max_retries=0, default_headers=SESSION
        ) as client:
            yield Service(client, app, url)
        await settled(app)


async def test_chat(service: Service) -> None:
    answer = await service.client.chat.completions.create(
        model="emu", messages=QUESTION, max_tokens=12
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


async def test_chat_streaming_with_usage(service: Service) -> None:
    stream = await service.client.chat.completions.create(
        model="emu",
        messages=QUESTION,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    again = await service.client.chat.completions.create(
        model="emu", messages=QUESTION, max_tokens=12
    )
    assert text == again.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


async def test_tool_calls(service: Service) -> None:
    answer = await service.client.chat.completions.create(
        model="emu", messages=QUESTION, tools=[WEATHER], tool_choice="required"
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turns = [*QUESTION, answer.choices[0].message.model_dump(exclude_none=True), result]
    final = await service.client.chat.completions.create(
        model="emu", messages=turns, tools=[WEATHER], max_tokens=5
    )
    assert final.choices[0].message.content
    assert final.usage is not None
    assert final.usage.prompt_tokens_details is not None
    assert (final.usage.prompt_tokens_details.cached_tokens or 0) > 0


async def test_tool_calls_streaming(service: Service) -> None:
    async with service.client.chat.completions.stream(
        model="emu", messages=QUESTION, tools=[WEATHER], tool_choice="auto"
    ) as stream:
        final = await stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    assert call.function.arguments.startswith("{")


async def test_completions(service: Service) -> None:
    answer = await service.client.completions.create(model="emu", prompt="Once", max_tokens=8)
    stream = await service.client.completions.create(
        model="emu", prompt="Once", max_tokens=8, stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream]) == answer.choices[0].text


async def test_models(service: Service) -> None:
    assert [model.id async for model in service.client.models.list()] == ["emu"]


async def test_errors_have_their_classes(service: Service) -> None:
    chat = service.client.chat.completions
    with pytest.raises(openai.NotFoundError) as unknown:
        await chat.create(model="nope", messages=QUESTION)
    assert unknown.value.param == "model"
    assert unknown.value.type == "NotFoundError"
    assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        await chat.create(model="emu", messages=QUESTION, temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        await chat.create(model="emu", messages=[], stream=True)
    with pytest.raises(openai.NotFoundError):
        await service.client.embeddings.create(model="emu", input="x")


async def test_raw_responses_show_our_headers(service: Service) -> None:
    raw = await service.client.chat.completions.with_raw_response.create(
        model="emu", messages=QUESTION, max_tokens=1, extra_headers={"x-request-id": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"
    assert raw.headers["x-kvproxy-replica"] in {r.id for r in service.app.router.replicas}
    assert raw.parse().id == "chatcmpl-mine"


async def test_a_stream_closed_early_is_dropped(service: Service) -> None:
    stream = await service.client.chat.completions.create(
        model="emu", messages=QUESTION, max_tokens=100_000, stream=True
    )
    async for _ in stream:
        break
    await stream.close()
    await settled(service.app)


async def test_clients_at_once_and_their_conversations(service: Service) -> None:
    """Turns of one conversation stay on its replica, told by a header the client sets."""
    replicas: dict[str, set[str]] = {}
    for turn in range(3):
        for session in "abc":
            messages: list[Any] = [{"role": "user", "content": session * 400}] * (turn + 1)
            raw = await service.client.chat.completions.with_raw_response.create(
                model="emu", messages=messages, max_tokens=2,
                extra_headers={"x-session-id": session},
            )  # fmt: skip
            replicas.setdefault(session, set()).add(raw.headers["x-kvproxy-replica"])
    assert [len(seen) for seen in replicas.values()] == [1, 1, 1]


def test_the_synchronous_client() -> None:
    """In a thread of its own, while the proxy runs in the event loop here."""

    async def main() -> str | None:
        settings = EmulatorSettings(model="emu", time_scale=20.0)
        async with emulated(settings) as urls, proxied(urls) as (app, url):
            answer = await asyncio.to_thread(ask, url)
            await settled(app)
            return answer

    def ask(url: str) -> str | None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0) as client:
            stream = client.chat.completions.create(
                model="emu", messages=QUESTION, max_tokens=4, stream=True
            )
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            whole = client.chat.completions.create(model="emu", messages=QUESTION, max_tokens=4)
            assert streamed == whole.choices[0].message.content
            return streamed

    assert asyncio.run(main())
