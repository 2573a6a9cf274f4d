"""Whole sessions of coding agents whose clients spoil their prefix for nothing: through kvproxy
they hit as if the clients were tidy."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.agents.chat import ChatSession
from tests.support.agents.claude import ClaudeSession
from tests.support.agents.codex import CodexSession
from tests.support.agents.request import AgentRequest
from tests.support.proxies import proxied, settled

BLOCK = 16
SPEED = 20.0
# An engine that does not strip the billing line by itself, as vLLM before 0.32.
ENGINE = EmulatorSettings(
    hbm_tokens=2_000_000, block_size=BLOCK, time_scale=SPEED, keeps_billing=True
)
# The proxy lives in real time: engine seconds divided by the engine's speed.
SCORE = {"prefill_tok_s": int(10_000 * SPEED), "move_margin_s": 0.5, "base_s": 0.001}
SESSIONS: dict[str, Callable[..., Any]] = {
    "claude": ClaudeSession, "codex": CodexSession, "chat": ChatSession
}  # fmt: skip


class Reported(NamedTuple):
    """Tokens of one request as the engine counted them, and as kvproxy thought beforehand."""

    kind: str
    prompt: int
    cached: int
    predicted: int | None


def reported(kind: str, body: bytes, decision: str | None) -> Reported:
    """From the last usage of a stream in any dialect."""
    usage: dict[str, Any] = {}
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            payload = orjson.loads(line[6:])
            usage = payload.get("usage") or payload.get("response", {}).get("usage") or usage
    if "prompt_tokens" in usage:
        prompt, cached = usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
    elif "input_tokens_details" in usage:
        prompt, cached = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
    else:
        cached = usage["cache_read_input_tokens"]
        prompt = cached + usage["input_tokens"] + usage["cache_creation_input_tokens"]
    predicted = orjson.loads(decision).get("predicted_cached_tokens") if decision else None
    return Reported(kind, prompt, cached, predicted)


async def ask(client: aiohttp.ClientSession, url: str, request: AgentRequest) -> Reported | None:
    """None for a request that only counts tokens."""
    headers = request.headers | {"x-kvproxy-decision": "1"}
    async with client.post(url + request.path, data=request.body, headers=headers) as response:
        body = await response.read()
        assert response.status == 200, body
    if request.kind == "count":
        assert orjson.loads(body)["input_tokens"] > 0
        return None
    return reported(request.kind, body, response.headers.get("x-kvproxy-decision"))


async def play(url: str, requests: list[AgentRequest]) -> list[Reported]:
    async with aiohttp.ClientSession() as client:
        answers = [await ask(client, url, request) for request in requests]
    return [answer for answer in answers if answer is not None]


def hit_rate(played: list[Reported]) -> float:
    return 100.0 * sum(each.cached for each in played) / sum(each.prompt for each in played)


async def direct(requests: list[AgentRequest]) -> list[Reported]:
    async with emulated(ENGINE) as [url]:
        return await play(url, requests)


async def through(
    *sessions: list[AgentRequest], replicas: int = 1, policy: str = "seconds"
) -> list[Reported]:
    """All sessions at once."""
    async with (
        emulated(ENGINE, n=replicas) as urls,
        proxied(urls, score=SCORE, policy={"name": policy}) as (app, url),
    ):
        played = await asyncio.gather(*(play(url, session) for session in sessions))
        await settled(app)
    return [each for one in played for each in one]


def counts(played: list[Reported]) -> list[tuple[str, int, int]]:
    return [each[:3] for each in played]


@pytest.mark.parametrize("name", SESSIONS)
async def test_an_untidy_client_hits_like_a_tidy_one(name: str) -> None:
    """Request by request, on one replica: same prompt tokens, same cached tokens."""
    make = SESSIONS[name]
    tidy, untidy = (make(1, tidy=each).requests() for each in (True, False))
    bound, spoilt = await direct(tidy), await direct(untidy)
    healed = await through(untidy)
    print(
        f"\n{name}: {len(bound)} requests {dict(Counter(each.kind for each in bound))}, "
        f"hit rate tidy {hit_rate(bound):.1f} %, untidy {hit_rate(spoilt):.1f} %, "
        f"untidy through kvproxy {hit_rate(healed):.1f} %"
    )
    assert hit_rate(spoilt) < 0.7 * hit_rate(bound), "there is nothing to heal"
    assert counts(await through(tidy)) == counts(bound)
    assert counts(healed) == counts(bound)


@pytest.mark.parametrize("name", SESSIONS)
async def test_what_is_cached_is_known_beforehand(name: str) -> None:
    played = await through(SESSIONS[name](2, tidy=False).requests())
    off = [abs((each.predicted or 0) - each.cached) for each in played]
    print(f"\n{name}: off by {off}")
    assert max(off) <= BLOCK


async def test_sessions_of_all_kinds_at_once_on_a_fleet() -> None:
    """Whatever runs beside it, an untidy session hits at least what a tidy one hits alone."""
    sessions = [(make, seed) for make in SESSIONS.values() for seed in (3, 4)]
    alone = [each for make, seed in sessions
             for each in await direct(make(seed, tidy=True).requests())]  # fmt: skip
    untidy = [make(seed, tidy=False).requests() for make, seed in sessions]
    # A policy that never moves a conversation: how long a busy machine takes is no matter here.
    fleet = await through(*untidy, replicas=3, policy="sticky_least_loaded")
    print(f"\nfleet: {hit_rate(fleet):.2f} %, tidy and alone {hit_rate(alone):.2f} %")
    assert hit_rate(fleet) >= hit_rate(alone) - 0.5
