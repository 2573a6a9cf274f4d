"""The steps as a real server takes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from kvproxy.adapters.store.scripts import ACQUIRE, COMMIT, SPELL, Names, sha
from tests.support.valkey import valkey

NAMES = Names("n")


@asynccontextmanager
async def store() -> AsyncIterator[Redis]:
    async with valkey() as server, Redis.from_url(server.url) as client:
        yield client


async def acquire(client: Redis, replica: str, origin: str) -> Any:
    return await client.eval(ACQUIRE, 1, "k", replica, origin, f"d-{origin}", 10_000)


async def commit(client: Redis, version: int, replica: str, origin: str, ms: int = 60_000) -> Any:
    args = (version, replica, origin, f"d-{replica}", ms, "ch", b"head")
    return await client.eval(COMMIT, 1, "k", *args)


async def test_the_first_holds_and_commits_and_others_follow() -> None:
    async with store() as client:
        assert await acquire(client, "r0", "a") is None
        assert await acquire(client, "r1", "b") == [b"0", b"d-a"]
        assert 0 < await client.pttl("k") <= 10_000
        assert await commit(client, 0, "r0", "a") == [b"1"]
        assert await client.pttl("k") > 10_000
        assert await acquire(client, "r1", "b") == [b"1", b"d-r0"]


async def test_only_who_knew_the_last_binding_may_move_it() -> None:
    async with store() as client:
        assert await commit(client, 0, "r0", "a") == [b"1"]
        assert await commit(client, 0, "r1", "b") == [b"1", b"d-r0"]
        assert await commit(client, 1, "r1", "b") == [b"2"]
        assert await commit(client, 1, "r2", "a") == [b"2", b"d-r1"]
        # The same replica is no conflict, and neither is an own word overtaken by another one.
        assert await commit(client, 1, "r1", "a") == [b"3"]
        assert await commit(client, 2, "r3", "a") == [b"4"]


async def test_a_commit_is_passed_on() -> None:
    async with store() as client, client.pubsub() as listener:
        await listener.subscribe("ch")
        await listener.get_message(timeout=5)
        await commit(client, 0, "r0", "a")
        message = await listener.get_message(timeout=5)
        assert message["data"] == b"head1 d-r0"


async def spell(client: Redis, key: str, spelling: str, now: int, most: int = 3) -> Any:
    args = (spelling, 60_000, now, most, "ch", b"message")
    return await client.eval(SPELL, 2, key, "index", *args)


async def test_the_first_spelling_stays_and_all_are_bounded() -> None:
    async with store() as client:
        assert await spell(client, "s1", "first", 1) is None
        assert await spell(client, "s1", "second", 2) == b"first"
        assert await spell(client, "s1", "first", 3) is None
        for number in range(2, 8):
            await spell(client, f"s{number}", "x", 2 + number)
        assert await client.zrange("index", 0, -1) == [b"s5", b"s6", b"s7"]
        assert await client.exists("s1", "s2", "s3", "s4") == 0
        assert await client.exists("s5", "s6", "s7") == 3


def test_keys_have_one_hash_tag_and_no_ids() -> None:
    keys = [NAMES.channel, NAMES.spellings, NAMES.prefixes, NAMES.binding(b"k" * 16)]
    keys.append(NAMES.spelling(b"s" * 8, b"d" * 16))
    assert all(key.startswith(b"{n}:") for key in keys)
    assert len(set(keys)) == 5
    assert len(sha(ACQUIRE)) == 40
