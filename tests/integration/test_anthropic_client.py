"""The real `anthropic` package against the proxy, as applications use it."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import anthropic
import pytest
from anthropic import AsyncAnthropic

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import proxied, settled

MODEL = "emu"
# Prompts this short may as well go anywhere, and some tests ask twice.
SESSION = {"x-claude-code-session-id": "one"}
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather? Use get_weather."}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
LONG: list[Any] = [
    {
        "type": "text",
        "text": "Rules of the house. " * 400,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
]


class Service(NamedTuple):
    client: AsyncAnthropic
    app: App
    url: str


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    settings = EmulatorSettings(model=MODEL, time_scale=20.0)
    async with emulated(settings, n=2) as urls, proxied(urls) as (app, url):
        async with AsyncAnthropic(
            base_url=url, api_key="sk-test", max_retries=0, default_headers=SESSION
        ) as client:
            yield Service(client, app, url)
        await settled(app)


async def test_messages(service: Service) -> None:
    answer = await service.client.messages.create(model=MODEL, messages=QUESTION, max_tokens=12)
    assert (answer.stop_reason, answer.role) == ("max_tokens", "assistant")
    [block] = answer.content
    assert block.type == "text"
    assert block.text
    assert answer.usage.output_tokens == 12


async def test_streaming(service: Service) -> None:
    whole = await service.client.messages.create(model=MODEL, messages=QUESTION, max_tokens=12)
    async with service.client.messages.stream(
        model=MODEL, messages=QUESTION, max_tokens=12
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    [block] = whole.content
    assert block.type == "text"
    assert text == block.text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 12)


async def test_tools(service: Service) -> None:
    create = service.client.messages.create
    answer = await create(model=MODEL, messages=QUESTION, tools=[WEATHER], max_tokens=500)
    assert answer.stop_reason == "tool_use"
    [call] = answer.content
    assert call.type == "tool_use"
    assert call.name == "get_weather"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": [call.model_dump()]},
        {"role": "user", "content": [result]},
    ]
    final = await create(model=MODEL, messages=turns, tools=[WEATHER], max_tokens=5)
    assert final.content[0].type == "text"
    assert (final.usage.cache_read_input_tokens or 0) > 0


async def test_tools_streaming(service: Service) -> None:
    async with service.client.messages.stream(
        model=MODEL, messages=QUESTION, tools=[WEATHER], max_tokens=500,
        tool_choice={"type": "tool", "name": "get_weather"},
    ) as stream:  # fmt: skip
        final = await stream.get_final_message()
    [call] = final.content
    assert call.type == "tool_use"
    assert isinstance(call.input, dict)
    assert call.input.keys() == {"city"}


async def test_cached_tokens_are_split_off_the_same_way_in_body_and_stream(
    service: Service,
) -> None:
    """What is read from the cache, written to it, and the rest add up to the prompt."""
    ask: dict[str, Any] = {"model": MODEL, "system": LONG, "messages": QUESTION, "max_tokens": 3}
    counted = await service.client.messages.count_tokens(
        model=MODEL, system=LONG, messages=QUESTION
    )
    first = (await service.client.messages.create(**ask)).usage
    again = (await service.client.messages.create(**ask)).usage
    async with service.client.messages.stream(**ask) as stream:
        streamed = (await stream.get_final_message()).usage
    for usage in (first, again, streamed):
        parts = (
            usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens
        )  # fmt: skip
        assert sum(part or 0 for part in parts) == counted.input_tokens
    assert first.cache_read_input_tokens == 0
    assert again.cache_read_input_tokens == (counted.input_tokens - 1) // 16 * 16
    assert streamed.cache_read_input_tokens == again.cache_read_input_tokens


async def test_cache_control_does_not_reach_the_prompt(service: Service) -> None:
    count = service.client.messages.count_tokens
    plain: list[Any] = [{"type": "text", "text": LONG[0]["text"]}]
    marked = await count(model=MODEL, system=LONG, messages=QUESTION)
    assert marked == await count(model=MODEL, system=plain, messages=QUESTION)


async def test_errors_have_their_classes(service: Service) -> None:
    create = service.client.messages.create
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await create(model="nope", messages=QUESTION, max_tokens=1)
    assert unknown.value.body["type"] == "error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError) as bad:
        await create(model=MODEL, messages=QUESTION, max_tokens=1, extra_body={"temperature": -1})
    assert "temperature" in str(bad.value)
    with pytest.raises(anthropic.BadRequestError):
        await create(model=MODEL, messages=QUESTION, max_tokens=0)


async def test_raw_responses_show_our_headers(service: Service) -> None:
    raw = await service.client.messages.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=1, extra_headers={"x-request-id": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"
    assert raw.headers["x-kvproxy-replica"] in {r.id for r in service.app.router.replicas}


async def test_a_stream_closed_early_is_dropped(service: Service) -> None:
    stream = await service.client.messages.create(
        model=MODEL, messages=QUESTION, max_tokens=250, stream=True
    )
    async for _ in stream:
        break
    await stream.close()
    await settled(service.app)


async def test_turns_of_one_conversation_stay_on_its_replica(service: Service) -> None:
    replicas: dict[str, set[str]] = {}
    for turn in range(3):
        for session in "abc":
            messages: list[Any] = [{"role": "user", "content": session * 400}] * (turn + 1)
            raw = await service.client.messages.with_raw_response.create(
                model=MODEL, messages=messages, max_tokens=2,
                extra_headers={"x-claude-code-session-id": session},
            )  # fmt: skip
            replicas.setdefault(session, set()).add(raw.headers["x-kvproxy-replica"])
    assert [len(seen) for seen in replicas.values()] == [1, 1, 1]
