"""Conversations that share a prefix, replayed closed loop under several policies: what the engines
report as cached, beside what a cache without limit would have had."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import aiohttp
import orjson

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import proxied, settled

CONVERSATIONS, TURNS = 12, 10
SYSTEM_TOKENS, FIRST_TOKENS, TURN_TOKENS, BYTES_PER_TOKEN = 1000, 8000, 1000, 4
SPEED = 10.0
BLOCK = 16
ENGINE = EmulatorSettings(
    model="m", hbm_tokens=2_000_000, prefill_tok_s=10_000, block_size=BLOCK, time_scale=SPEED
)
# The proxy lives in real time: engine seconds divided by the engine's speed. What a busy machine
# adds to that is no reason to move, hence a margin of more than one engine second.
SCORE = {"prefill_tok_s": int(10_000 * SPEED), "move_margin_s": 0.5, "base_s": 0.001}


@dataclass
class Run:
    """What one replay brought, in tokens; `off` are distances of prediction and report."""

    prompt: int = 0
    cached: int = 0
    off: list[int] = field(default_factory=list)
    by_replica: Counter[str] = field(default_factory=Counter)

    @property
    def hit_rate(self) -> float:
        """Percent of all prompt tokens."""
        return 100.0 * self.cached / self.prompt

    @property
    def largest_share(self) -> float:
        return max(self.by_replica.values()) / self.prompt


def prompts() -> list[list[bytes]]:
    """Bodies by conversation and turn: the same in every run, whatever is answered."""
    random = Random(1)

    def text(tokens: int) -> str:
        return random.randbytes(tokens * BYTES_PER_TOKEN // 2).hex()

    system = {"role": "system", "content": text(SYSTEM_TOKENS)}
    conversations = []
    for _ in range(CONVERSATIONS):
        messages = [system, {"role": "user", "content": text(FIRST_TOKENS)}]
        bodies = []
        for _ in range(TURNS):
            bodies.append(orjson.dumps({"model": "m", "max_tokens": 4, "messages": messages}))
            messages += [
                {"role": "assistant", "content": text(TURN_TOKENS // 2)},
                {"role": "user", "content": text(TURN_TOKENS // 2)},
            ]
        conversations.append(bodies)
    return conversations


async def replay(url: str) -> Run:
    """First turns one after another, as people arrive; then all conversations at once."""
    run = Run()

    async def turn(number: int, body: bytes) -> None:
        headers = {"content-type": "application/json", "x-kvproxy-decision": "1"}
        headers["x-session-id"] = f"conversation {number}"
        async with client.post(url, data=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            usage = orjson.loads(await response.read())["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            run.prompt += usage["prompt_tokens"]
            run.cached += cached
            run.by_replica[response.headers.get("x-kvproxy-replica", "")] += usage["prompt_tokens"]
            decision = orjson.loads(response.headers.get("x-kvproxy-decision", "{}"))
            run.off.append(abs(decision.get("predicted_cached_tokens", cached) - cached))

    async def rest(number: int, bodies: list[bytes]) -> None:
        for body in bodies:
            await turn(number, body)

    async with aiohttp.ClientSession() as client:
        conversations = prompts()
        for number, bodies in enumerate(conversations):
            await turn(number, bodies[0])
        await asyncio.gather(*(rest(n, bodies[1:]) for n, bodies in enumerate(conversations)))
    return run


async def under(policy: str) -> Run:
    async with (
        emulated(ENGINE, n=4) as urls,
        proxied(urls, policy={"name": policy}, score=SCORE) as (app, url),
    ):
        run = await replay(f"{url}/v1/chat/completions")
        await settled(app)
    shares = sorted((count / run.prompt for count in run.by_replica.values()), reverse=True)
    print(policy, f"hit rate {run.hit_rate:.2f} %, shares {[round(share, 2) for share in shares]}")
    return run


async def infinite_cache() -> Run:
    """One engine that forgets nothing sees everything."""
    async with emulated(ENGINE) as [engine]:
        run = await replay(f"{engine}/v1/chat/completions")
    print(f"infinite cache {run.hit_rate:.2f} %")
    return run


async def test_conversations_find_their_cache() -> None:
    bound, seconds, round_robin = [
        await infinite_cache(), await under("seconds"), await under("round_robin")
    ]  # fmt: skip
    assert len(seconds.off) == CONVERSATIONS * TURNS
    assert seconds.hit_rate >= bound.hit_rate - 1.0
    assert seconds.hit_rate >= round_robin.hit_rate + 20.0
    assert seconds.largest_share < 0.5
    assert max(round_robin.by_replica.values()) < 0.3 * round_robin.prompt


async def test_what_is_cached_is_known_beforehand() -> None:
    run = await under("seconds")
    right = sum(off <= BLOCK for off in run.off)
    print(f"{right} of {len(run.off)} within a block, worst {max(run.off)} tokens")
    assert right >= 0.99 * len(run.off)


async def test_the_longest_prefix_draws_everybody_to_one_replica() -> None:
    run = await under("longest_prefix")
    assert run.largest_share > 0.8
