"""The Responses side of the real `openai` package against the proxy."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import openai
import pytest
from openai import AsyncOpenAI

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import proxied, settled

MODEL = "emu"
# Prompts this short may as well go anywhere, and some tests ask twice.
THREAD = {"thread-id": "one"}
QUESTION = "What is the weather? Use get_weather."
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


class Service(NamedTuple):
    client: AsyncOpenAI
    app: App


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    settings = EmulatorSettings(model=MODEL, time_scale=20.0, responses_stored=100)
    async with emulated(settings, n=2) as urls, proxied(urls) as (app, url):
        async with AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", max_retries=0, default_headers=THREAD
        ) as client:
            yield Service(client, app)
        await settled(app)


async def test_a_response(service: Service) -> None:
    answer = await service.client.responses.create(
        model=MODEL, input=QUESTION, max_output_tokens=12
    )
    assert (answer.status, answer.object) == ("incomplete", "response")
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens == 12


async def test_streaming(service: Service) -> None:
    create = service.client.responses.create
    whole = await create(model=MODEL, input=QUESTION, max_output_tokens=12)
    stream = await create(model=MODEL, input=QUESTION, max_output_tokens=12, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text


async def test_tools(service: Service) -> None:
    create = service.client.responses.create
    answer = await create(model=MODEL, input=QUESTION, tools=[WEATHER], tool_choice="required")
    [call] = answer.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    items: list[Any] = [
        {"role": "user", "content": QUESTION},
        call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    final = await create(model=MODEL, input=items, tools=[WEATHER], max_output_tokens=5)
    assert final.output_text
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens > 0


async def test_tools_streaming(service: Service) -> None:
    stream = await service.client.responses.create(
        model=MODEL, input=QUESTION, tools=[WEATHER], tool_choice="auto", stream=True
    )
    events = [event async for event in stream]
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert "".join(pieces) == done.arguments
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output[0].type == "function_call"


async def test_turns_of_one_thread_stay_on_its_replica(service: Service) -> None:
    replicas: dict[str, set[str]] = {}
    for turn in range(3):
        for thread in "abc":
            items: list[Any] = [{"role": "user", "content": thread * 400}] * (turn + 1)
            raw = await service.client.responses.with_raw_response.create(
                model=MODEL, input=items, max_output_tokens=2,
                extra_headers={"thread-id": thread},
            )  # fmt: skip
            replicas.setdefault(thread, set()).add(raw.headers["x-kvproxy-replica"])
    assert [len(seen) for seen in replicas.values()] == [1, 1, 1]


async def test_errors_have_their_classes(service: Service) -> None:
    create = service.client.responses.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(model="nope", input=QUESTION)
    assert unknown.value.type == "NotFoundError"
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model=MODEL, input=QUESTION, temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as forgotten:
        await create(model=MODEL, input="go on", previous_response_id="resp_none")
    assert forgotten.value.param == "response_id"
