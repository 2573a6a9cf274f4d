"""Conversations that go on by the id of a response: where it is kept, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import proxied, settled

MODEL = "emu"
REPLICAS = 4
BLOCK = 16
TEXT = "some words of a task " * 200


@pytest.fixture
async def service() -> AsyncIterator[tuple[AsyncOpenAI, App]]:
    settings = EmulatorSettings(model=MODEL, time_scale=50.0, responses_stored=100)
    async with emulated(settings, n=REPLICAS) as urls, proxied(urls) as (app, url):
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-a", max_retries=0) as client:
            yield client, app
        await settled(app)


async def turn(client: AsyncOpenAI, text: str, previous: str | None) -> tuple[str, str]:
    """Its id, and the replica that gave it."""
    raw = await client.responses.with_raw_response.create(
        model=MODEL, input=text, previous_response_id=previous, max_output_tokens=4
    )
    return raw.parse().id, raw.headers["x-kvproxy-replica"]


async def test_conversations_by_id_go_on_where_they_began(
    service: tuple[AsyncOpenAI, App],
) -> None:
    client, app = service

    async def converse(number: int) -> set[str]:
        previous, homes = None, set()
        for step in range(5):
            previous, replica = await turn(client, f"{number} {step} {TEXT}", previous)
            homes.add(replica)
        return homes

    homes = await asyncio.gather(*(converse(number) for number in range(8)))
    assert [len(each) for each in homes] == [1] * 8
    assert len(set.union(*homes)) > 1, "there was no choice to make"
    assert len(app.router.affinity) == 8


async def test_what_is_cached_of_them_is_known_beforehand(
    service: tuple[AsyncOpenAI, App],
) -> None:
    client, app = service
    previous, _ = await turn(client, TEXT, None)
    sent = 1000
    for step in range(4):
        raw = await client.responses.with_raw_response.create(
            model=MODEL, input=f"{step} {TEXT}", previous_response_id=previous,
            max_output_tokens=4, extra_headers={"x-kvproxy-decision": "1"},
        )  # fmt: skip
        answer = raw.parse()
        previous = answer.id
        usage = answer.usage
        assert usage is not None
        assert usage.input_tokens_details.cached_tokens > 0.9 * sent
        sent = usage.input_tokens
        decision = orjson.loads(raw.headers["x-kvproxy-decision"])
        predicted = decision["predicted_cached_tokens"]
        assert abs(predicted - usage.input_tokens_details.cached_tokens) <= 2 * BLOCK
        assert decision["prompt_tokens"] == pytest.approx(sent, rel=0.1)
    sizes = [replica.hbm.size for replica in app.router.replicas]
    # One conversation is held once, not once a turn.
    assert sum(sizes) < 1.3 * usage.input_tokens


async def test_streams_too_and_by_other_calls(service: tuple[AsyncOpenAI, App]) -> None:
    client, _ = service
    async with await client.responses.create(
        model=MODEL, input=TEXT, stream=True, max_output_tokens=4
    ) as stream:
        events = [event async for event in stream]
    made = events[0].response.id  # type: ignore[union-attr]
    for _ in range(REPLICAS):
        assert (await client.responses.retrieve(made)).id == made
    _, replica = await turn(client, "and now?", made)
    raw = await client.responses.with_raw_response.retrieve(made)
    assert raw.headers["x-kvproxy-replica"] == replica


async def test_what_nobody_knows_is_said_by_an_engine(service: tuple[AsyncOpenAI, App]) -> None:
    client, app = service
    with pytest.raises(openai.NotFoundError, match="resp_none"):
        await turn(client, "go on", "resp_none")
    made, _ = await turn(client, TEXT, None)
    other = client.with_options(api_key="sk-b")
    with pytest.raises(openai.NotFoundError, match=made):
        await turn(other, "go on", made)
    with pytest.raises(openai.NotFoundError, match=made):
        await other.responses.retrieve(made)
    page = app.metrics.page().decode()
    assert 'kvproxy_response_pins_total{outcome="unknown"} 1.0' in page


async def test_a_replica_that_is_gone_takes_its_responses_along(
    service: tuple[AsyncOpenAI, App],
) -> None:
    client, app = service
    made, replica = await turn(client, TEXT, None)
    app.router.remove(next(each for each in app.router.replicas if each.id == replica))
    with pytest.raises(openai.NotFoundError, match=made):
        await turn(client, "go on", made)
    assert 'kvproxy_response_pins_total{outcome="gone"} 1.0' in app.metrics.page().decode()
