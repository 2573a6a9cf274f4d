"""Each difference two bodies can have, on a real engine: what it costs directly and behind us."""

from collections import Counter
from typing import NamedTuple

import orjson
import pytest

from tests.support.proxies import Running, eventually, settled
from tests.support.realstack.differences import (
    DIFFERENCES,
    Difference,
    Kind,
    base,
    changed,
    written,
)
from tests.support.realstack.engine import BLOCK_TOKENS, Engine
from tests.support.realstack.patience import WITHIN_S, patient
from tests.support.wire import ask, post

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]


class Seen(NamedTuple):
    """Of the second of two bodies; `predicted` is None where nobody predicted."""

    status: int
    prompt: int = 0
    cached: int = 0
    predicted: int | None = None


async def _ask(url: str, body: bytes) -> Seen:
    got = await ask(url, post(body, x_kvproxy_decision="1"))
    if got.status != 200:
        return Seen(got.status)
    usage = orjson.loads(got.body)["usage"]
    decision = got.header(b"x-kvproxy-decision")
    predicted = orjson.loads(decision)["predicted_cached_tokens"] if decision else None
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Seen(200, usage["prompt_tokens"], cached, predicted)


async def _met(running: Running) -> None:
    """Until the engine has said what its template prints of what only some templates do: such
    differences were met before, in other conversations."""
    unprinted = running.app.sources.unprinted
    for number, difference in enumerate(DIFFERENCES, len(DIFFERENCES)):
        if difference.kind is Kind.TEMPLATE:
            await _ask(running.url, changed(number, difference))
    await eventually(lambda: unprinted.traits == set(unprinted.wanted), WITHIN_S)
    assert len(unprinted.traits) >= 6


async def _announced(running: Running, body: bytes) -> Seen:
    """Asks through kvproxy what it was never asked before, until it was told of all its blocks."""
    chains = running.app.router.holdings.chains
    made = chains.made
    seen = await _ask(running.url, body)
    await eventually(lambda: chains.made > made, WITHIN_S)
    await settled(running.app)
    return seen


def _row(difference: Difference, first: Seen, direct: Seen, through: Seen) -> str:
    off = "" if through.predicted is None else f"{through.predicted - through.cached:+}"
    figures = f"{first.prompt:6} {direct.cached:6} {through.cached:7} {off:>5}"
    return f"{difference.name:32} {difference.kind.name:8} {figures}"


def _wrong(difference: Difference, first: Seen, direct: Seen, through: Seen) -> str:
    """What of a row is not as it must be; "" if all is."""
    kind, full = difference.kind, first.prompt // BLOCK_TOKENS * BLOCK_TOKENS
    if direct.status != through.status or (kind is Kind.REFUSED) != (direct.status == 400):
        return f"{difference.name}: {direct.status} directly, {through.status} through"
    if kind is Kind.REFUSED:
        return ""
    assert through.predicted is not None
    if kind is Kind.HEALED and not direct.cached < through.cached == full:
        return f"{difference.name}: not healed"
    if kind is not Kind.HEALED and through[1:3] != direct[1:3]:
        return f"{difference.name}: another prompt than directly"
    if kind in (Kind.UNSEEN, Kind.TEMPLATE) and through.cached < full - BLOCK_TOKENS:
        return f"{difference.name}: no full hit"
    if abs(through.predicted - through.cached) > BLOCK_TOKENS:
        return f"{difference.name}: predicted {through.predicted}, reported {through.cached}"
    return ""


async def test_what_differs_is_healed_or_costs_what_it_costs_directly(
    engines: list[Engine],
) -> None:
    ours, direct = engines
    wrong, offs = [], Counter[int]()
    print("\ndifference                       kind     prompt direct through  off")
    asked = {"events": {"enabled": "on"}, "tokens": {"ask_templates": True}}
    async with patient([ours.url], **asked) as running:
        await eventually(
            lambda: all(each.kv_events for each in running.app.router.replicas), WITHIN_S
        )
        await _met(running)
        for number, difference in enumerate(DIFFERENCES):
            first, second = written(base(number)), changed(number, difference)
            await _ask(direct.url, first)
            alone = await _ask(direct.url, second)
            before = await _announced(running, first)
            through = await _ask(running.url, second)
            await settled(running.app)
            print(_row(difference, before, alone, through))
            wrong.append(_wrong(difference, before, alone, through))
            if through.predicted is not None:
                offs[through.predicted - through.cached] += 1
    within = sum(rows for off, rows in offs.items() if abs(off) <= BLOCK_TOKENS)
    print(f"\nwithin a block: {within} of {offs.total()} answered")
    print(f"rows by tokens off: {dict(sorted(offs.items()))}")
    assert [each for each in wrong if each] == []
