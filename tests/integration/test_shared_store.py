"""Two proxies and a real Valkey: conversations stay where they are, whichever proxy they enter."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis

from kvproxy.adapters.store.shared_store import SharedStore
from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.valkey import Valkey, valkey

ENGINE = EmulatorSettings(model="m", hbm_tokens=500_000, prefill_tok_s=100_000, time_scale=10)
REPLICAS = 4
SETTINGS = {"events": {"enabled": "off"}, "score": {"prefill_tok_s": 1_000_000}}


class Conversation:
    def __init__(self, session: str, seed: int = 0) -> None:
        random = Random(f"{session} {seed}")
        self._text = lambda tokens: random.randbytes(tokens * 2).hex()
        self.session = session
        self.messages = [{"role": "user", "content": self._text(4000)}]
        self.replicas: list[str] = []
        self.cached: list[int] = []
        self.prompts: list[int] = []

    async def turn(self, client: aiohttp.ClientSession, proxy: Running, **more: Any) -> None:
        body = {"model": "m", "max_tokens": 2, "messages": self.messages, **more}
        headers = {"content-type": "application/json", "x-session-id": self.session}
        url = f"{proxy.url}/v1/chat/completions"
        async with client.post(url, data=orjson.dumps(body), headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            self.replicas.append(response.headers["x-kvproxy-replica"])
            self.prompts.append(answer["usage"]["prompt_tokens"])
            self.cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.messages.append({"role": "assistant", "content": "well"})
        self.messages.append({"role": "user", "content": self._text(50)})

    @property
    def missed(self) -> int:
        """Of the last turn."""
        return self.prompts[-1] - self.cached[-1]


@asynccontextmanager
async def fleet(
    server: Valkey, count: int = 2, **store: Any
) -> AsyncIterator[tuple[list[Running], aiohttp.ClientSession]]:
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(emulated(ENGINE, n=REPLICAS))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        asked = {"url": server.url, "deadline_s": 2.0, **store}
        proxies = [
            await stack.enter_async_context(proxied(urls, store=asked, **SETTINGS))
            for _ in range(count)
        ]
        yield proxies, client


def store_of(app: App) -> SharedStore:
    assert app.sharing.store is not None
    return app.sharing.store


async def told(proxies: list[Running]) -> None:
    """Everything that was placed is known to all."""

    async def all_know() -> bool:
        stores = [store_of(proxy.app) for proxy in proxies]
        counts = {(len(s.bindings), len(s._representatives or ())) for s in stores}
        return len(counts) == 1 and not any(store.writer.waiting for store in stores)

    await eventually(all_know)


async def test_turns_that_hop_stay_on_one_replica() -> None:
    async with valkey() as server, fleet(server) as (proxies, client):
        talks = [Conversation(f"talk {number}") for number in range(6)]
        for turn in range(6):
            for number, talk in enumerate(talks):
                await talk.turn(client, proxies[(turn + number) % 2])
            await told(proxies)
        for talk in talks:
            assert len(set(talk.replicas)) == 1, talk.replicas
            assert talk.missed < 200, (talk.cached, talk.prompts)
        assert len({talk.replicas[0] for talk in talks}) > 1
        for proxy in proxies:
            questions = store_of(proxy.app).questions
            assert questions["new"] + questions["known"] == 18, questions
            await settled(proxy.app)


async def test_who_was_not_there_asks_once_and_is_told() -> None:
    async with valkey() as server, fleet(server, 1) as (proxies, client):
        talk = Conversation("talk")
        await talk.turn(client, proxies[0])
        await told(proxies)
        urls = [replica.url for replica in proxies[0].app.router.replicas]
        asked = {"url": server.url, "deadline_s": 2.0}
        async with proxied(urls, store=asked, **SETTINGS) as late:
            for _ in range(3):
                await talk.turn(client, late)
            assert store_of(late.app).questions == {"found": 1, "known": 2}
        assert len(set(talk.replicas)) == 1
        assert talk.missed < 200


async def test_without_the_store_every_request_is_served_and_after_it_all_is_known() -> None:
    async with valkey() as server, fleet(server) as (proxies, client):
        old = [Conversation(f"old {number}") for number in range(4)]
        for talk in old:
            await talk.turn(client, proxies[0])
        await told(proxies)
        await server.kill()
        young = [Conversation(f"young {number}") for number in range(4)]
        for turn in range(3):
            for talk in old + young:
                await talk.turn(client, proxies[turn % 2])
        assert all(len(set(talk.replicas)) == 1 for talk in old + young)
        up = [store_of(proxy.app).link.up for proxy in proxies]
        assert up == [False, False]
        await server.start()
        stores = [store_of(proxy.app) for proxy in proxies]
        await eventually(lambda: all(store.link.up and store.hearing.hears for store in stores))
        await eventually(lambda: not any(store.writer.waiting for store in stores))
        async with Redis.from_url(server.url) as client_of_store:
            keys = await client_of_store.keys("*session:*")
        assert len(keys) == 8
        for talk in old + young:
            await talk.turn(client, proxies[1])
        assert all(len(set(talk.replicas)) == 1 for talk in old + young)


async def test_after_an_outage_a_conversation_is_where_its_latest_turn_ran() -> None:
    async with valkey() as server, fleet(server) as (proxies, client):
        talks = [Conversation(f"talk {number}") for number in range(8)]
        for talk in talks:
            await talk.turn(client, proxies[0])
        await told(proxies)
        await server.kill()
        for turn in range(2):
            for number, talk in enumerate(talks):
                # Both proxies have it in the outage, each on a replica of its own choice.
                proxy = proxies[(number + turn) % 2]
                replica = proxy.app.router.replicas[(number + turn) % REPLICAS]
                proxy.app.table.pin(replica.id, talk.session)
                await talk.turn(client, proxy)
                proxy.app.table.unpin(talk.session)
        assert all(talk.replicas[-1] != talk.replicas[-2] for talk in talks)
        await server.start()
        latest = [talk.replicas[-1] for talk in talks]
        # Whoever was deaf while the other's were written asks for each at its next turn.
        stores = [store_of(proxy.app) for proxy in proxies]
        await eventually(lambda: all(store.link.up and store.hearing.hears for store in stores))
        await eventually(lambda: not any(store.writer.waiting for store in stores))
        for proxy in proxies:
            for talk in talks:
                await talk.turn(client, proxy)
            assert [talk.replicas[-1] for talk in talks] == latest


async def test_a_store_that_hangs_costs_no_more_than_the_deadline() -> None:
    async with valkey() as server, fleet(server, deadline_s=0.05) as (proxies, client):
        server.pause(on=True)
        try:
            for number in range(8):
                await Conversation(f"talk {number}").turn(client, proxies[0])
            questions = store_of(proxies[0].app).questions
            assert questions["late"] + questions["failed"] + questions["skipped"] == 8
            assert questions["late"] <= 3
        finally:
            server.pause(on=False)
        await eventually(lambda: store_of(proxies[0].app).link.up)


TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": parameters}}
    for parameters in (
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}},
        {"properties": {"b": {"type": "number"}, "a": {"type": "string"}}, "type": "object"},
    )
]


async def test_the_first_spelling_is_everybodys() -> None:
    async with valkey() as server, fleet(server) as (proxies, client):
        talk = Conversation("talk")
        await talk.turn(client, proxies[0], tools=TOOLS[:1])
        await told(proxies)
        await talk.turn(client, proxies[1], tools=TOOLS[1:])
        assert talk.missed < 200, (talk.cached, talk.prompts)


async def test_keys_tell_no_ids() -> None:
    async with valkey() as server, fleet(server, 1) as (proxies, client):
        await Conversation("my secret id").turn(client, proxies[0], tools=TOOLS[:1])
        await told(proxies)
        async with Redis.from_url(server.url) as store:
            keys = b" ".join(await store.keys("*"))
            ttls = [await store.pttl(key) for key in await store.keys("*session:*")]
        assert b"secret" not in keys
        assert keys.startswith(b"{kvproxy}:")
        assert all(0 < ttl <= 14_400_000 for ttl in ttls)


async def test_what_peers_have_under_way_counts_as_load() -> None:
    async with valkey() as server, fleet(server) as (proxies, _):
        first, second = proxies
        replica = first.app.router.replicas[0]
        hold = replica.load.reserve(replica.id, 3.0, 0.0)
        there = second.app.router.replicas[0].load
        await eventually(lambda: there.peers_waiting == 1)
        assert there.peers_waiting_s == pytest.approx(3.0, abs=3.0)
        assert there.foreign_waiting == 1
        replica.load.release(hold, 1.0)
        await eventually(lambda: there.foreign_waiting == 0)
