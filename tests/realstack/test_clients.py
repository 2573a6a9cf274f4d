"""Real client packages against real engines through kvproxy, in every dialect."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.support.proxies import settled
from tests.support.realstack.engine import BLOCK_TOKENS, MODEL, Engine
from tests.support.realstack.patience import patient
from tests.support.realstack.requests import (
    CHAT_SWITCH,
    MESSAGES,
    MESSAGES_SWITCH,
    RESPONSES_SWITCH,
    SYSTEM,
)

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]
QUESTION: list[Any] = MESSAGES[1:]
SESSION = {"x-session-id": "one"}


class Clients(NamedTuple):
    openai: AsyncOpenAI
    anthropic: AsyncAnthropic


@pytest_asyncio.fixture(loop_scope="session")
async def clients(engines: list[Engine]) -> AsyncIterator[Clients]:
    async with patient([engine.url for engine in engines]) as (app, url):
        async with (
            AsyncOpenAI(
                base_url=f"{url}/v1", api_key="k", max_retries=0, default_headers=SESSION
            ) as openai,
            AsyncAnthropic(
                base_url=url, api_key="k", max_retries=0, default_headers=SESSION
            ) as anthropic,
        ):
            yield Clients(openai, anthropic)
        await settled(app)


def whole_blocks(prompt_tokens: int) -> int:
    """Of a prompt asked before; the last token is always computed."""
    return (prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS


async def test_chat(clients: Clients) -> None:
    create = clients.openai.chat.completions.create
    ask: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    first = await create(**ask)
    again = await create(**ask)
    for answer, cached in ((first, 0), (again, whole_blocks(first.usage.prompt_tokens))):
        assert answer.usage.prompt_tokens_details.cached_tokens == cached
    stream = await create(**ask, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == first.choices[0].message.content
    calling = await create(
        model=MODEL, messages=MESSAGES, tools=[CHAT_SWITCH], tool_choice="required", max_tokens=60
    )
    assert calling.choices[0].finish_reason in ("tool_calls", "length")


async def test_messages(clients: Clients) -> None:
    api = clients.anthropic.messages
    system: Any = [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    ask: dict[str, Any] = {"model": MODEL, "system": system, "messages": QUESTION, "max_tokens": 8}
    prompt = (await api.count_tokens(model=MODEL, system=system, messages=QUESTION)).input_tokens
    first, again = await api.create(**ask), await api.create(**ask)
    async with api.stream(**ask) as stream:
        streamed = await stream.get_final_message()
    assert first.usage.cache_read_input_tokens == 0
    for answer in (first, again, streamed):
        usage = answer.usage
        read, created = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
        assert usage.input_tokens + (read or 0) + (created or 0) == prompt
        assert answer.stop_reason == "max_tokens"
    assert again.usage.cache_read_input_tokens == whole_blocks(prompt)
    calling = await api.create(
        **ask | {"tools": [MESSAGES_SWITCH], "tool_choice": {"type": "any"}, "max_tokens": 60}
    )
    assert calling.stop_reason in ("tool_use", "max_tokens")


async def test_responses(clients: Clients) -> None:
    create = clients.openai.responses.create
    ask: dict[str, Any] = {
        "model": MODEL, "instructions": SYSTEM, "input": "Fix the test.", "max_output_tokens": 8,
        "temperature": 0,
    }  # fmt: skip
    first, again = await create(**ask), await create(**ask)
    assert again.usage.input_tokens_details.cached_tokens == whole_blocks(first.usage.input_tokens)
    events = [event async for event in await create(**ask, stream=True)]
    assert events[-1].response.output_text == first.output_text
    calling = await create(
        **ask | {"tools": [RESPONSES_SWITCH], "tool_choice": "required", "max_output_tokens": 60}
    )
    assert calling.output[0].type in ("function_call", "message")
