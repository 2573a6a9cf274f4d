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


async def acquire(client: Redis, origin: str) -> Any:
    return await client.eval(ACQUIRE, 1, "k", origin, f"d-{origin}", 10_000)


async def commit(
    client: Redis, origin: str, knew: tuple[int, str] = (0, ""), ago_ms: int = 0, ms: int = 60_000
) -> Any:
    args = (*knew, origin, f"d-{origin}", ago_ms, ms, "ch", b"head")
    return await client.eval(COMMIT, 1, "k", *args)


async def test_the_first_holds_and_commits_and_others_follow() -> None:
    async with store() as client:
        assert await acquire(client, "a") is None
        assert await acquire(client, "b") == [b"0", b"d-a"]
        assert 0 < await client.pttl("k") <= 10_000
        assert await commit(client, "a", (0, "a")) == [b"1"]
        assert await client.pttl("k") > 10_000
        assert await acquire(client, "b") == [b"1", b"d-a"]


async def test_of_turns_placed_unknown_to_each_other_the_later_stays_whoever_comes_first() -> None:
    async with store() as client:
        assert await commit(client, "a", ago_ms=5000) == [b"1"]
        assert await commit(client, "b", ago_ms=9000) == [b"1", b"d-a"]
        assert await commit(client, "b", ago_ms=2000) == [b"2"]
        assert await commit(client, "a", (1, "a"), ago_ms=4000) == [b"2", b"d-b"]
        # A hold is no turn.
        await client.delete("k")
        await acquire(client, "a")
        assert await commit(client, "b", ago_ms=9000) == [b"1"]


async def test_who_knew_the_word_follows_it_whatever_the_clocks_say() -> None:
    async with store() as client:
        assert await commit(client, "a") == [b"1"]
        assert await commit(client, "b", (1, "a"), ago_ms=60_000) == [b"2"]
        assert await commit(client, "b", (1, "a"), ago_ms=90_000) == [b"3"]
        await client.hincrbyfloat("k", "t", 3_600_000)
        assert await commit(client, "a", (3, "b")) == [b"4"]


async def test_a_store_that_forgot_counts_on_and_takes_no_old_word_for_known() -> None:
    async with store() as client:
        assert await commit(client, "b", (7, "x"), ago_ms=1000) == [b"8"]
        # It knew an eighth word, but of another origin.
        assert await commit(client, "a", (8, "y"), ago_ms=2000) == [b"8", b"d-b"]
        # What stays is told as the newest, so that nobody takes it for an old word.
        assert await commit(client, "a", (20, "y"), ago_ms=2000) == [b"20", b"d-b"]
        assert await commit(client, "c", (20, "b"), ago_ms=9000) == [b"21"]


async def test_a_commit_is_passed_on() -> None:
    async with store() as client, client.pubsub() as listener:
        await listener.subscribe("ch")
        await listener.get_message(timeout=5)
        await commit(client, "a")
        message = await listener.get_message(timeout=5)
        assert message["data"] == b"head1 d-a"


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
