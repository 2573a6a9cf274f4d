"""Predicted against reported cached tokens on real engines whose caches are too small.

Engines are asked in rounds until the sample tells: see tests/support/realstack/verdict.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.support.proxies import eventually, settled
from tests.support.realstack.budget import OUT_OF_TIME, left_s
from tests.support.realstack.engine import Engine
from tests.support.realstack.figures import hit_rate, report, within_a_block
from tests.support.realstack.fleet import Fleet
from tests.support.realstack.patience import WITHIN_S, patient
from tests.support.realstack.replay import Asked, replay
from tests.support.realstack.shapes import Shape, shapes
from tests.support.realstack.verdict import Verdict, interval, judge

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(1500),
]

AT_A_TIME = 6
ROUND_REQUESTS = 300
REQUESTS_MOST = 1500


class _Round(NamedTuple):
    """`evicted` tokens, as kvproxy believes."""

    asked: list[Asked]
    evicted: int


def _workload(seed: int) -> list[Shape]:
    """Twice as many tokens as both caches hold; those that are alive at a time just fit."""
    chosen, source = shapes(
        divide_by=10, prompt_max=12_000, steps_max=14, requests=ROUND_REQUESTS, seed=seed
    )
    steps = sum(len(shape.steps) for shape in chosen)
    print(f"\n{len(chosen)} {source} conversations, {steps} requests, seed {seed}")
    assert steps >= 200
    return chosen


async def _round(
    engines: list[Engine], seed: int, *, echo_live: bool = True, **sections: Mapping[str, Any]
) -> _Round:
    for engine in engines:
        await engine.reset_cache()
    workload, events = _workload(seed), sections.get("events", {}).get("enabled") == "on"
    async with patient([engine.url for engine in engines], **sections) as running:
        replicas = running.app.router.replicas
        if events:
            await eventually(lambda: all(each.kv_events for each in replicas), WITHIN_S)
        asked = await replay(
            running.url, workload, at_a_time=AT_A_TIME, echo_live=echo_live, seed=seed
        )
        await settled(running.app)
        evicted = sum(each.hbm.evicted for each in replicas)
    return _Round(_named(asked, seed), evicted)


def _named(asked: list[Asked], seed: int) -> list[Asked]:
    """The same recording says other things in another round: it is another conversation."""
    return [each.renamed(f"{each.conversation} {seed}") for each in asked]


async def _meets(
    engines: list[Engine], title: str, bar: float, *, rounds: list[list[Asked]], echo_live: bool,
    **sections: Mapping[str, Any],
) -> None:  # fmt: skip
    """Rounds are added to those that were played already, until they tell."""
    least = 2 * ROUND_REQUESTS
    while True:
        asked = [each for played in rounds for each in played]
        verdict = judge(asked, bar, least=least, most=REQUESTS_MOST)
        if verdict is not Verdict.OPEN or left_s() <= 0:
            break
        played = await _round(engines, 1 + len(rounds), echo_live=echo_live, **sections)
        assert played.evicted > 0, "the caches were never too small: the test shows nothing"
        rounds.append(played.asked)
    print(report(f"{title}, {len(rounds)} rounds", asked))
    low, high = interval(asked)
    print(f"  99 % interval of that share: {low:.1%} to {high:.1%}; asked for: {bar:.0%}")
    if verdict is Verdict.OPEN:
        pytest.skip(f"{OUT_OF_TIME}: {len(asked)} requests do not tell")
    assert verdict is Verdict.MET, f"{within_a_block(asked):.1%} of {len(asked)} requests"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_history(fleet: Fleet) -> list[Asked]:
    """One round by what was sent alone, answers echoed as they came."""
    played = await _round(await fleet.plain(), 1, events={"enabled": "off"})
    assert played.evicted > 0, "the caches were never too small: the test shows nothing"
    return played.asked


async def test_own_history_predicts_nine_of_ten(
    engines: list[Engine], by_history: list[Asked]
) -> None:
    await _meets(
        engines,
        "own history alone",
        0.90,
        rounds=[by_history],
        echo_live=True,
        events={"enabled": "off"},
    )


async def test_own_history_predicts_nine_of_ten_of_invented_answers(engines: list[Engine]) -> None:
    await _meets(
        engines,
        "own history alone, answers invented",
        0.90,
        rounds=[],
        echo_live=False,
        events={"enabled": "off"},
    )


async def test_events_predict_all_but_a_few(engines: list[Engine]) -> None:
    await _meets(
        engines, "with KV events", 0.98, rounds=[], echo_live=True, events={"enabled": "on"}
    )


async def test_hits_more_than_round_robin(engines: list[Engine], by_history: list[Asked]) -> None:
    asked = (await _round(engines, 1, policy={"name": "round_robin"})).asked
    print(report("round_robin", asked))
    assert hit_rate(by_history) > hit_rate(asked)
