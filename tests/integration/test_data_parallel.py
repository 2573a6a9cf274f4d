"""One replica of two data-parallel ranks: each announces at a port of its own, and a turn is sent
to the rank that holds its conversation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from kvproxy.core.token_chain import TokenChains
from loadgen.emulator.publisher import KvPublisher
from tests.support.proxies import eventually, proxied, settled

BLOCK, PROMPT_TOKENS = 16, 64
# Asked again soon where a busy machine kept an answer.
EVENTS = {"discover_s": 0.05, "idle_s": 0.1, "replay_timeout_s": 10.0}
WITHIN_S = 30.0
METRICS = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1\n'


class Replica:
    """Answers every prompt as one of PROMPT_TOKENS; `rank` computes it unless a rank is asked."""

    def __init__(self, publishers: list[KvPublisher]) -> None:
        self.publishers = publishers
        self.rank = 0
        self.asked: list[str | None] = []
        self.url = ""
        self._made = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/v1/chat/completions":
            return self._chat(request)
        if request.path == "/kv_event_sources":
            sources = {
                str(rank): {
                    "enable_kv_cache_events": True,
                    "publisher": "zmq",
                    "endpoint": f"tcp://*:{each.port}",
                    "replay_endpoint": f"tcp://*:{each.replay_port}",
                    "topic": "",
                }
                for rank, each in enumerate(self.publishers)
            }
            return web.json_response(sources)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        return web.Response(text=METRICS if request.path == "/metrics" else "")

    def _chat(self, request: web.BaseRequest) -> web.Response:
        asked = request.headers.get("x-data-parallel-rank")
        self.asked.append(asked)
        rank = self.rank if asked is None else int(asked)
        cached = PROMPT_TOKENS if asked is not None else 0
        if not cached:
            self._store(rank, request.headers["x-session-id"])
        usage = {
            "prompt_tokens": PROMPT_TOKENS + 1,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return web.json_response({"choices": [], "usage": usage})

    def _store(self, rank: int, session: str) -> None:
        self._made += 1
        count = PROMPT_TOKENS // BLOCK
        stored = {
            "type": "BlockStored",
            "block_hashes": [100 * self._made + index for index in range(1, count + 1)],
            "parent_block_hash": None,
            "token_ids": [1000 * self._made + index for index in range(PROMPT_TOKENS)],
            "block_size": BLOCK,
            "medium": "GPU",
            "session_id": session,
        }
        self.publishers[rank].publish([stored])


@asynccontextmanager
async def replica_of_two() -> AsyncIterator[Replica]:
    publishers = [KvPublisher(topic="", buffer_steps=100) for _ in range(2)]
    for publisher in publishers:
        await publisher.start("127.0.0.1")
    replica = Replica(publishers)
    runner = web.ServerRunner(web.Server(replica.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    replica.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield replica
    finally:
        await runner.cleanup()
        for publisher in publishers:
            await publisher.close()


def _more_than(chains: TokenChains, made: int) -> bool:
    return chains.made > made


def body(conversation: int, turns: int) -> dict[str, Any]:
    texts = [f"conversation {conversation} " * 20, "Yes.", "And then?"]
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]
    return {"model": "m", "messages": messages[:turns]}


@pytest.mark.parametrize("first", [0, 1])
async def test_a_turn_goes_to_the_rank_that_holds_its_conversation(first: int) -> None:
    async with (
        replica_of_two() as replica,
        proxied([replica.url], events=EVENTS) as (app, url),
        aiohttp.ClientSession() as client,
    ):

        async def ask(conversation: int, turns: int) -> None:
            sent = body(conversation, turns)
            async with client.post(f"{url}/v1/chat/completions", json=sent) as answer:
                assert answer.status == 200, orjson.loads(await answer.read())

        holdings, [known] = app.router.holdings, app.router.replicas
        # The streams are heard once something was said.
        for rank, publisher in enumerate(replica.publishers):
            publisher.publish([])
            assert rank in {source.rank for source in app.sources.feed.sources}
        await eventually(lambda: known.kv_events, WITHIN_S)
        for conversation in range(2):
            replica.rank = (first + conversation) % 2
            made = holdings.chains.made
            await ask(conversation, 1)
            await eventually(partial(_more_than, holdings.chains, made), WITHIN_S)
        assert holdings.index.ranks(known.id) == 2
        for conversation in range(2):
            await ask(conversation, 3)
        assert replica.asked == [None, None, str(first), str((first + 1) % 2)]
        await settled(app)
