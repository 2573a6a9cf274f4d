"""The emulator's cache against a real engine's: the same tokens in the same order, and both report
the same cached tokens for every request."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.agents.chat import ChatSession
from tests.support.agents.claude import ClaudeSession
from tests.support.agents.codex import CodexSession
from tests.support.realstack.engine import (
    BATCHED_TOKENS,
    BLOCK_TOKENS,
    CACHE_BLOCKS,
    CONTEXT_TOKENS,
    MODEL,
    SEQUENCES,
    Engine,
)

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]
SEED = 1
VOCABULARY = range(300, 8000)
EMULATED = EmulatorSettings(
    model=MODEL,
    hbm_tokens=(CACHE_BLOCKS - 1) * BLOCK_TOKENS,  # vLLM keeps one block for itself
    block_size=BLOCK_TOKENS,
    max_num_batched_tokens=BATCHED_TOKENS,
    max_num_seqs=SEQUENCES,
    max_model_len=CONTEXT_TOKENS,
    time_scale=100.0,
)


@pytest_asyncio.fixture(loop_scope="session")
async def emulator() -> AsyncIterator[str]:
    async with emulated(EMULATED) as urls:
        yield urls[0]


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(client: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with client.post(url, json=body) as response:
        answer = await response.read()
        assert response.status == 200, answer[:500]
        return orjson.loads(answer)


async def cached(client: aiohttp.ClientSession, url: str, tokens: list[int], **more: Any) -> int:
    body = {"model": MODEL, "prompt": tokens, "temperature": 0, "ignore_eos": True, **more}
    answer = await post(client, f"{url}/v1/completions", body)
    found: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def conversations(random: Random, requests: int) -> list[tuple[list[int], dict[str, Any]]]:
    """Prompts of growing, rewinding and branching conversations, some of them salted, that need
    more than the cache holds."""

    def words(count: int) -> list[int]:
        return random.choices(VOCABULARY, k=count)

    shared = words(700)
    open_ones = [shared + words(random.randrange(200, 3000)) for _ in range(6)]
    found: list[tuple[list[int], dict[str, Any]]] = []
    for _ in range(requests):
        at = random.randrange(len(open_ones))
        prompt = open_ones[at]
        found.append(
            (list(prompt), {"max_tokens": random.choice((1, 8, 33, 70))})
            if random.random() < 0.9
            else (list(prompt), {"max_tokens": 4, "cache_salt": f"s{at}"})
        )
        move = random.random()
        if move < 0.15:
            open_ones[at] = prompt[: random.randrange(1, len(prompt))] + words(50)
        elif move < 0.25:
            open_ones[at] = shared + words(random.randrange(200, 3000))
        else:
            open_ones[at] = prompt + words(random.randrange(1, 900))
        if len(open_ones[at]) > 12_000:
            open_ones[at] = shared + words(500)
    return found


async def test_conversations_that_do_not_fit(
    engines: list[Engine], emulator: str, client: aiohttp.ClientSession
) -> None:
    asked = conversations(Random(SEED), 90)
    real, ours = [], []
    for tokens, more in asked:
        real.append(await cached(client, engines[0].url, tokens, **more))
        ours.append(await cached(client, emulator, tokens, **more))
    total = sum(len(tokens) for tokens, _ in asked)
    print(f"\n{len(asked)} requests, {total} tokens, {sum(real)} cached, seed {SEED}")
    assert 0 < sum(real) < 0.9 * total
    assert ours == real


@pytest.mark.parametrize("make", [ClaudeSession, CodexSession, ChatSession])
async def test_sessions_of_agents(
    engines: list[Engine], emulator: str, client: aiohttp.ClientSession, make: Any
) -> None:
    """The real engine renders and answers in the agent's dialect; the emulator is given the
    tokens."""
    url, real, ours = engines[0].url, [], []
    for request in make(SEED, tidy=True, turns=4, model=MODEL).requests():
        if request.kind == "count":
            continue
        body = orjson.loads(request.body) | {"stream": False}
        body.pop("stream_options", None)
        rendered = await post(client, f"{url}{request.path}/render", body)
        usage = (await post(client, url + request.path, body))["usage"]
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        real.append(details["cached_tokens"] if details else usage["cache_read_input_tokens"])
        ours.append(await cached(client, emulator, rendered["token_ids"], max_tokens=16))
    print(f"\n{make.__name__}: real {real}\nemulated {ours}")
    assert sum(real) > 0
    assert ours == real
