"""Predicted against reported cached tokens on real engines whose caches are too small."""

import pytest

from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.realstack.engine import Engine
from tests.support.realstack.figures import hit_rate, report, within_a_block
from tests.support.realstack.replay import Asked, replay
from tests.support.realstack.shapes import Shape, shapes

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

SEED = 1
AT_A_TIME = 6
REQUESTS = 300


def _workload() -> list[Shape]:
    """Twice as many tokens as both caches hold; those that are alive at a time just fit."""
    chosen, source = shapes(
        divide_by=10, prompt_max=12_000, steps_max=14, requests=REQUESTS, seed=SEED
    )
    steps = sum(len(shape.steps) for shape in chosen)
    print(f"\n{len(chosen)} {source} conversations, {steps} requests, seed {SEED}")
    assert steps >= 200
    return chosen


async def _replay(
    running: Running, workload: list[Shape], *, echo_live: bool = True
) -> list[Asked]:
    asked = await replay(running.url, workload, at_a_time=AT_A_TIME, echo_live=echo_live, seed=SEED)
    await settled(running.app)
    return asked


def _evicted(running: Running) -> int:
    """Tokens that kvproxy believes to have been evicted."""
    return sum(each.hbm.evicted for each in running.app.router.replicas)


@pytest.mark.parametrize("echo_live", [True, False], ids=["answers-echoed", "answers-invented"])
async def test_own_history_predicts_nine_of_ten(engines: list[Engine], echo_live: bool) -> None:
    workload = _workload()
    urls = [engine.url for engine in engines]
    async with proxied(urls, events={"enabled": "off"}) as running:
        asked = await _replay(running, workload, echo_live=echo_live)
        evicted = _evicted(running)
    print(report(f"own history alone, {evicted} tokens believed evicted", asked))
    assert evicted > 0, "the caches were never too small: the test shows nothing"
    assert within_a_block(asked) >= 0.90


async def test_events_predict_all_but_a_few(engines: list[Engine]) -> None:
    workload = _workload()
    async with proxied([each.url for each in engines], events={"enabled": "on"}) as running:
        await eventually(lambda: all(each.kv_events for each in running.app.router.replicas))
        asked = await _replay(running, workload)
    print(report("with KV events", asked))
    assert within_a_block(asked) >= 0.98


async def test_hits_more_than_round_robin(engines: list[Engine]) -> None:
    workload = _workload()
    urls = [engine.url for engine in engines]
    rates = {}
    for policy in ("round_robin", "seconds"):
        for engine in engines:
            await engine.reset_cache()
        async with proxied(urls, policy={"name": policy}) as running:
            asked = await _replay(running, workload)
        print(report(policy, asked))
        rates[policy] = hit_rate(asked)
    assert rates["seconds"] > rates["round_robin"]
