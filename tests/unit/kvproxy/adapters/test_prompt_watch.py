"""The watch against a directory in memory."""

import logging
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest

from kvproxy.adapters import prompt_watch
from kvproxy.adapters.prompt_watch import Prompt, PromptWatch, Request
from kvproxy.core.event_source import names_of
from kvproxy.core.holdings import Holdings
from kvproxy.core.lmcache import Instance, Keys, Lookup
from kvproxy.core.loadable import Loadable
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.tokenise import NoPageError, Question
from kvproxy.core.types import Chain, Tier
from tests.support.makers import make_chain, make_replica
from tests.support.proxies import eventually

KEYS = Keys(b"abcdefgh", 4, ({"model_name": "/m"},))


class Directory:
    """`held` tokens of every prompt in DRAM of node-1."""

    def __init__(self) -> None:
        self.heard = True
        self.held = 512
        self.instances: dict[str, Instance] = {}
        self.lookups: list[tuple[list[int], str, str]] = []
        self.agains = 0

    async def lookup(self, token_ids: Sequence[int], model: str, salt: str) -> Lookup | None:
        self.lookups.append((list(token_ids), model, salt))
        return self._found()

    async def again(self, keys: Keys) -> Lookup | None:
        assert keys is KEYS
        self.agains += 1
        return self._found()

    def _found(self) -> Lookup | None:
        return Lookup({"node-1": {Tier.DRAM: self.held}}, 1, KEYS) if self.heard else None


async def tokens_of(replica: Replica, question: Question) -> "array[int]":
    text = orjson.loads(question.body)["prompt"]
    if text == "refused":
        raise ValueError("/tokenize answered 404")
    return array("I", range(int(text)))


@asynccontextmanager
async def watching(
    directory: Directory, prompts_max: int = 10
) -> AsyncIterator[tuple[PromptWatch, Loadable]]:
    loadable = Loadable(prompts_max)
    holdings = Holdings(Ruler(10), PrefixIndex(2**20), TokenChains(2**20), loadable)
    watch = PromptWatch(
        holdings, directory, tokens_of, {"r": "h"}, named=[("node-1", "r")], interval_s=0.001
    )
    watch.start()
    try:
        yield watch, loadable
    finally:
        await watch.close()


def prompt(chain: Chain, text: str = "600") -> Prompt:
    request = Request("/v1/completions", orjson.dumps({"prompt": text}))
    return Prompt(make_replica("r"), "/m", "salt", chain, 600, request)


def holds(loadable: Loadable, chain: Chain, tokens: int) -> Callable[[], bool]:
    def check() -> bool:
        told = loadable.find(chain)
        return told is not None and told.by_replica == {"r": {Tier.DRAM: tokens}}

    return check


async def test_what_servers_hold_of_an_answered_prompt_is_asked_and_asked_again() -> None:
    directory, chain = Directory(), make_chain("x" * 4000)
    async with watching(directory) as (watch, loadable):
        watch.answered(prompt(chain))
        await eventually(holds(loadable, chain, 512))
        assert directory.lookups == [(list(range(600)), "/m", "salt")]
        directory.held = 256
        await eventually(holds(loadable, chain, 256))
        assert len(directory.lookups) == 1, "by name from then on"


async def test_the_next_turn_takes_the_place_of_the_one_before() -> None:
    directory = Directory()
    first, second = make_chain("x" * 4000), make_chain("x" * 4000, "y" * 900)
    async with watching(directory) as (watch, loadable):
        watch.answered(prompt(first))
        await eventually(holds(loadable, first, 512))
        watch.answered(prompt(second))
        await eventually(lambda: len(directory.lookups) == 2 and loadable.find(first) is None)
        assert holds(loadable, second, 512)()
        assert len(loadable) == 1


async def test_who_falls_silent_is_not_quoted_any_more() -> None:
    directory, chain = Directory(), make_chain("x" * 4000)
    async with watching(directory) as (watch, loadable):
        watch.answered(prompt(chain))
        await eventually(holds(loadable, chain, 512))
        directory.heard = False
        await eventually(lambda: loadable.find(chain) is None)
        directory.heard = True
        await eventually(holds(loadable, chain, 512))


async def test_prompts_that_were_pushed_out_are_not_asked_about_any_more() -> None:
    directory = Directory()
    chains = [make_chain(f"{number}" * 4000) for number in range(3)]
    async with watching(directory, prompts_max=2) as (watch, loadable):
        for chain in chains:
            watch.answered(prompt(chain))
        await eventually(holds(loadable, chains[2], 512))
        seen = directory.agains
        await eventually(lambda: directory.agains > seen + 10)
        assert loadable.find(chains[0]) is None
        assert len(watch._asked) == 2


async def test_who_left_is_not_remembered_however_many_come_at_once() -> None:
    directory, remembered = Directory(), list[int]()
    async with watching(directory, prompts_max=2) as (watch, _):
        lookup = directory.lookup

        async def watched(token_ids: Sequence[int], model: str, salt: str) -> Lookup | None:
            remembered.append(len(watch._asked))
            return await lookup(token_ids, model, salt)

        directory.lookup = watched  # type: ignore[method-assign]
        for number in range(60):
            watch.answered(prompt(make_chain(f"{number:03} " * 1000)))
        await eventually(lambda: len(directory.lookups) == 60)
        assert max(remembered) <= 2


async def test_a_replica_that_counts_other_tokens_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = Directory()
    with caplog.at_level(logging.WARNING):
        async with watching(directory) as (watch, loadable):
            for text in ("599", "refused", "601"):
                watch.answered(prompt(make_chain(text * 900), text))
            await eventually(lambda: watch.counts.unlike == 3)
            assert len(loadable) == 0
    assert directory.lookups == []
    [said] = [record.message for record in caplog.records]
    assert said.startswith("replica r does not tell the tokens of a prompt (599 tokens")


async def test_a_page_that_is_missing_is_seldom_asked_for() -> None:
    """It is asked with whole prompts."""
    asked, there = list[str](), False

    async def asks(replica: Replica, question: Question) -> "array[int]":
        asked.append(replica.id)
        if not there:
            raise NoPageError("/tokenize answered 404")
        return array("I", range(600))

    directory = Directory()
    async with watching(directory) as (watch, _):
        watch._tokens_of = asks

        async def answered(count: int) -> None:
            for _ in range(count):
                watch.answered(prompt(make_chain("x" * 900)))
                await eventually(lambda: not watch._pending)
            await eventually(lambda: watch.counts.unlike == seen)

        seen = 40
        await answered(40)
        assert len(asked) == 1
        there, seen = True, 64
        await answered(24)
        assert len(asked) == 1
        await answered(1)
        await eventually(lambda: len(directory.lookups) == 1)
        assert len(asked) == 2
        await answered(2)
        await eventually(lambda: len(directory.lookups) == 3)
        assert not watch._missing


async def test_names_in_slices_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_watch, "_SLICE_BLOCKS", 3)
    for count in (0, 1, 15, 16, 47, 48, 49, 100, 600):
        tokens = array("I", range(count))
        assert await prompt_watch._named(tokens, 16) == names_of(tokens, 16)
