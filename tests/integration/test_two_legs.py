"""Prompts computed on one replica and answered on another, with engines that check every field."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest

from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.proxies import eventually, proxied, settled

CONNECTORS = ["nixl", "mooncake", "lmcache", "sglang", "p2p_nccl", "offloading"]
WORDS = "word " * 8000
CHAT = {"messages": [{"role": "user", "content": WORDS}]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**CHAT, "max_tokens": 9, "max_completion_tokens": 8, "min_tokens": 2},
    "/v1/completions": {"prompt": WORDS, "max_tokens": 8},
    "/v1/messages": {**CHAT, "max_tokens": 8},
    "/v1/responses": {"input": WORDS, "max_output_tokens": 8},
}


class World(NamedTuple):
    fleet: Fleet
    app: App
    url: str


def outcomes(app: App) -> dict[str, int]:
    assert app.legs is not None
    return dict(app.legs.outcomes)


@asynccontextmanager
async def world(
    connector: str, mode: str = "always", n: int = 2, *, hand_on_tokens: bool = False
) -> AsyncIterator[World]:
    """The first replica computes for the others."""
    engine = EmulatorSettings(model="m", time_scale=50.0, kv_connector=connector)
    fleet = Fleet(engine, n)
    await fleet.start()
    replicas = [
        {"url": url, "role": "decode" if at else "prefill", "kv_port": urlsplit(url).port}
        for at, url in enumerate(fleet.urls)
    ]
    disagg = {"connector": connector, "mode": mode, "min_tokens": 1024}
    disagg["hand_on_tokens"] = hand_on_tokens
    try:
        async with proxied([], replicas=replicas, disagg=disagg) as (app, url):
            yield World(fleet, app, url)
            await settled(app)
    finally:
        await fleet.stop()


async def ask(url: str, path: str, **changes: Any) -> tuple[int, bytes, dict[str, Any]]:
    body = {"model": "m", **BODIES[path], **changes}
    headers = {"x-session-id": "s", "x-kvproxy-decision": "1"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(url + path, json=body, headers=headers) as response,
    ):
        answer = await response.read()
        decision = orjson.loads(response.headers.get("x-kvproxy-decision", "{}"))
        return response.status, answer, decision


@pytest.mark.parametrize("connector", [name for name in CONNECTORS if name != "offloading"])
@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_both_legs_are_as_the_engine_wants_them(
    connector: str, path: str, stream: bool
) -> None:
    async with world(connector) as (fleet, app, url):
        options = {"stream": True} if stream else {}
        if stream and path in ("/v1/chat/completions", "/v1/completions"):
            options["stream_options"] = {"include_usage": True}  # type: ignore[assignment]
        status, answer, decision = await ask(url, path, **options)
        assert status == 200, answer
        assert answer.startswith((b"event:", b"data:")) is stream
        assert decision["replica"] == urlsplit(fleet.urls[1]).netloc
        assert decision["kv_from"] == urlsplit(fleet.urls[0]).netloc
        assert outcomes(app) == {"remote": 1}
        assert (fleet.ledger.loaded, fleet.ledger.expired, fleet.ledger.granted) == (1, 0, {})
        first, second = (listener.replica for listener in fleet.listeners)
        assert first is not None
        assert second is not None
        computed = second.gauges().prompt_tokens - second.gauges().cached_prompt_tokens
        assert computed < 64, "the answering replica loads what the other computed"
        assert first.gauges().kv_usage == 0, "and that one holds it no longer"


async def test_answers_are_those_of_a_plain_request() -> None:
    answers = []
    for mode in ("never", "always"):
        async with world("nixl", mode) as (_, _, url):
            status, answer, _ = await ask(url, "/v1/chat/completions", stream=True, temperature=0)
            assert status == 200
            deltas = [
                orjson.loads(line[6:])["choices"][0]["delta"]
                for line in answer.split(b"\n\n")
                if b'"delta"' in line
            ]
            # How tokens share chunks is the clock's.
            answers.append("".join(delta.get("content", "") for delta in deltas))
    assert answers[0]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_the_prompt_may_be_rendered_once(path: str) -> None:
    """The second leg is told the tokens, and reads no longer what the first one read."""
    async with world("nixl", hand_on_tokens=True) as (fleet, app, url):
        status, answer, _ = await ask(url, path)
        assert status == 200, answer
        assert outcomes(app) == {"remote": 1}
        assert fleet.ledger.loaded == 1


async def test_legs_of_two_lengths_kill_an_engine() -> None:
    """Why both are made of the same bytes: what vLLM does is what the emulator does."""
    async with world("nixl") as (fleet, _, _):
        params: dict[str, Any] = {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        }
        path, first = "/v1/completions", {"prompt": "short", "max_tokens": 1}
        status, answer, _ = await ask(fleet.urls[0], path, **first, kv_transfer_params=params)
        assert status == 200, answer
        params = orjson.loads(answer)["kv_transfer_params"]
        status, answer, _ = await ask(fleet.urls[1], path, kv_transfer_params=params)
        assert status == 500
        assert b"EngineCore encountered an issue" in answer


async def test_short_misses_stay_where_they_are() -> None:
    async with world("nixl") as (_, app, url):
        await ask(url, "/v1/chat/completions")
        messages = [*CHAT["messages"], {"role": "assistant", "content": "yes"}]
        messages.append({"role": "user", "content": "and then?"})
        status, _, decision = await ask(url, "/v1/chat/completions", messages=messages)
        assert status == 200
        assert "kv_from" not in decision
        assert decision["predicted_cached_tokens"] > 5000
        assert outcomes(app) == {"remote": 1}


@pytest.mark.parametrize("connector", ["nixl", "mooncake", "sglang"])
async def test_a_prompt_that_is_not_computed_elsewhere_is_computed_where_it_is_answered(
    connector: str,
) -> None:
    async with world(connector) as (fleet, app, url):
        async with aiohttp.ClientSession() as client:
            fail = {"count": 1, "status": 500}
            async with client.post(f"{fleet.urls[0]}/emulator/fail", json=fail) as response:
                assert response.status == 200
        status, answer, _ = await ask(url, "/v1/chat/completions")
        assert status == 200, answer
        assert outcomes(app) == {"prefill_refused": 1}
        assert app.router.replicas[1].load.in_flight == 0


async def test_a_prefiller_that_is_gone_costs_nobody_an_answer() -> None:
    async with world("nixl") as (fleet, app, url):
        await fleet.listeners[0].crash(abrupt=True)
        status, answer, _ = await ask(url, "/v1/chat/completions")
        assert status == 200, answer
        assert set(outcomes(app)) <= {"prefill_upstream_unreachable", "prefill_upstream_lost"}


async def test_what_was_computed_is_used_by_the_next_attempt() -> None:
    """The replica that should have answered is gone by then: another one loads the same KV."""
    async with world("nixl", n=3) as (fleet, app, url):
        chosen = asyncio.create_task(ask(url, "/v1/chat/completions"))
        await eventually(lambda: any(r.load.in_flight for r in app.router.replicas[1:]))
        busy = next(at for at in (1, 2) if app.router.replicas[at].load.in_flight)
        await fleet.listeners[busy].crash(abrupt=True)
        status, answer, _ = await chosen
        assert status == 200, answer
        assert outcomes(app) == {"remote": 1, "reused": 1}
        assert fleet.ledger.loaded == 1


@pytest.mark.parametrize("connector", ["nixl", "mooncake"])
async def test_a_client_that_leaves_between_the_legs_leaves_nothing(connector: str) -> None:
    async with world(connector) as (fleet, app, url):
        going = asyncio.create_task(ask(url, "/v1/chat/completions"))
        await eventually(lambda: app.router.replicas[0].load.in_flight == 1)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await settled(app)
        assert outcomes(app) == {}
        first = fleet.listeners[0].replica
        assert first is not None
        await eventually(lambda: first.gauges().kv_usage == 0)


async def test_an_idle_replica_pulls_from_a_warm_one() -> None:
    """Offloading's symmetric pull: the warm replica is busy, its prefix is read all the same."""
    engine = EmulatorSettings(model="m", time_scale=5.0, kv_connector="offloading")
    fleet = Fleet(engine, 2)
    await fleet.start()
    replicas = [{"url": url, "kv_port": urlsplit(url).port} for url in fleet.urls]
    disagg = {"connector": "offloading", "min_tokens": 1024}
    score = {"move_margin_s": 0.1, "prefill_tok_s": 50_000}
    try:
        async with proxied([], replicas=replicas, disagg=disagg, score=score) as (app, url):
            _, _, warm = await ask(url, "/v1/chat/completions")
            home = next(r for r in app.router.replicas if r.id == warm["replica"])
            hold = home.load.reserve(home.id, 30.0, time.monotonic())
            status, answer, decision = await ask(url, "/v1/chat/completions")
            home.load.release(hold, time.monotonic())
            assert status == 200, answer
            assert decision["kv_from"] == warm["replica"] != decision["replica"]
            assert outcomes(app) == {"pull": 1}
            await settled(app)
    finally:
        await fleet.stop()
