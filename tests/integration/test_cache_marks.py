"""`cache_control` from the real `anthropic` client: counted, forwarded or not, told alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import orjson
import pytest
from openai import AsyncOpenAI

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, proxied, settled
from tests.support.recording import answer, recording

MODEL = "emu"
MARK: Any = {"type": "ephemeral", "ttl": "1h"}
SYSTEM: Any = [{"type": "text", "text": "You are helpful. " * 300, "cache_control": MARK}]
QUESTION: Any = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}],
    }
]


@asynccontextmanager
async def service(**canonical: Any) -> AsyncIterator[tuple[anthropic.AsyncAnthropic, Running]]:
    settings = EmulatorSettings(model=MODEL, time_scale=50.0)
    async with emulated(settings) as urls, proxied(urls, canonical=canonical) as running:
        async with anthropic.AsyncAnthropic(
            base_url=running.url, api_key="sk-a", max_retries=0
        ) as client:
            yield client, running
        await settled(running.app)


def sample(running: Running, name: str) -> float:
    page = running.app.metrics.page().decode()
    found = [line for line in page.splitlines() if line.startswith(name)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


async def test_marks_are_counted_and_remembered() -> None:
    async with service() as (client, running):
        await client.messages.create(
            model=MODEL, system=SYSTEM, messages=QUESTION, max_tokens=2,
            extra_headers={"x-claude-code-session-id": "s"},
        )  # fmt: skip
        [home] = running.app.router.affinity._homes.values()
    assert home.retention_s == 3600.0
    assert sample(running, 'kvproxy_cache_marked_requests_total{retention="1h"}') == 1
    assert sample(running, "kvproxy_cache_marks_total") == 2


async def test_hints_can_be_ignored() -> None:
    async with service(cache_hints=False) as (client, running):
        await client.messages.create(
            model=MODEL, system=SYSTEM, messages=QUESTION, max_tokens=2,
            extra_headers={"x-claude-code-session-id": "s"},
        )  # fmt: skip
        [home] = running.app.router.affinity._homes.values()
    assert home.retention_s == 0.0
    assert sample(running, "kvproxy_cache_marks_total") == 2


@pytest.mark.parametrize("setting", ["forward", "strip"])
async def test_marks_are_forwarded_or_not(setting: str) -> None:
    async with (
        recording(models=[MODEL]) as [replica],
        proxied([replica.url], canonical={"cache_control": setting}) as (_, url),
        anthropic.AsyncAnthropic(base_url=url, api_key="sk-a", max_retries=0) as client,
    ):
        replica.script = lambda _: answer(b'{"type":"message","content":[]}')
        await client.messages.create(model=MODEL, system=SYSTEM, messages=QUESTION, max_tokens=2)
    body = orjson.loads(replica.received[0].body)
    for block in (body["system"][0], body["messages"][0]["content"][0]):
        assert ("cache_control" in block) == (setting == "forward")
        assert block["text"]


async def test_both_dialects_are_told_of_the_same_cache() -> None:
    """Thrice the same prompt: plain, streamed (its message_start holds all of it), as chat."""
    async with service() as (client, running):
        reported = []
        for stream in (False, True):
            given: dict[str, Any] = {
                "model": MODEL, "system": SYSTEM, "messages": QUESTION, "max_tokens": 2
            }  # fmt: skip
            if stream:
                async with client.messages.stream(**given) as events:
                    usage = (await events.get_final_message()).usage
            else:
                usage = (await client.messages.create(**given)).usage
            read, created = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
            assert read is not None
            assert created is not None
            reported.append((usage.input_tokens + read + created, read))
            await settled(running.app)
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-a") as other:
            answer = await other.chat.completions.create(
                model=MODEL,
                messages=[
                    {"role": "system", "content": SYSTEM[0]["text"]},
                    {"role": "user", "content": "hello"},
                ],
                max_tokens=2,
            )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        cached = answer.usage.prompt_tokens_details.cached_tokens
        reported.append((answer.usage.prompt_tokens, cached or 0))
        await settled(running.app)
    totals = [total for total, _ in reported]
    assert totals[0] == totals[1] == totals[2]
    assert [read for _, read in reported][1:] == [reported[1][1]] * 2
    assert reported[0][1] == 0 < reported[1][1]
    replica = running.app.router.replicas[0].id
    assert sample(running, f'kvproxy_prompt_tokens_total{{replica="{replica}"}}') == sum(totals)
    counted = sample(
        running, f'kvproxy_cached_tokens_total{{replica="{replica}",source="reported"}}'
    )
    assert counted == sum(read for _, read in reported)
