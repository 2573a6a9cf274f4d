"""Requests that begin together: chunks and first tokens go between them."""

import asyncio
from itertools import count, pairwise
from typing import Any

import pytest

from kvproxy.adapters.http1 import turns
from tests.benchmark.count import small
from tests.support.unplugged import STREAM_HEAD, Unplugged, answer, chunk, eventually, request

REQUESTS = 40
# What 1 ms of CPU allows at once, and one that found nobody before it.
AT_ONCE_MAX = 6


async def test_chunks_go_between_requests_that_begin_together() -> None:
    proxy = Unplugged()
    client = proxy.new_client()
    stream = await proxy.ask(request("stream", small(0, stream=True)), client)
    stream.data_received(STREAM_HEAD)
    await asyncio.sleep(0)
    stream.data_received(chunk())
    assert proxy.app._upstream.turns.streams == 1
    for number in range(REQUESTS):
        proxy.new_client().data_received(request(f"s{number}", small(number)))
    asked = [0]
    while asked[-1] < REQUESTS:
        await asyncio.sleep(0)
        stream.data_received(chunk())
        asked.append(len(proxy.asked))
    began = [after - before for before, after in pairwise(asked)]
    assert max(began) <= AT_ONCE_MAX, began
    for link in proxy.asked:
        link.data_received(answer(230, 0))
    ended = [proxy.app.server.in_flight]
    while ended[-1] > 1:
        await asyncio.sleep(0)
        ended.append(proxy.app.server.in_flight)
    went = [before - after for before, after in pairwise(ended)]
    assert max(went) <= AT_ONCE_MAX, went
    stream.data_received(b"0\r\n\r\n")
    await eventually(lambda: not proxy.app.server.in_flight)
    assert proxy.app._upstream.turns.streams == 0


async def test_first_tokens_go_between_requests_that_begin_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a proxy that was idle: an engine's answer does not wait until all requests are read."""
    # Steps are sized by CPU time, which says what the machine is: here each takes half a step.
    ticks = count()
    monkeypatch.setattr(turns, "thread_time", lambda: next(ticks) * turns._STEP_S / 2)
    proxy = Unplugged()
    clients = [proxy.new_client() for _ in range(REQUESTS)]
    wires: list[Any] = [client._transport for client in clients]
    for number, client in enumerate(clients):
        client.data_received(request(f"s{number}", small(number, stream=True)))
    asked, told = 0, list[int]()
    while asked < REQUESTS:
        await asyncio.sleep(0)
        told.append(sum(bool(wire.written) for wire in wires))
        asked += len(proxy.asked)
        for link in proxy.asked:
            link.data_received(STREAM_HEAD + chunk())
        proxy.asked.clear()
    # All that were asked before the last few turns of the loop.
    assert told[-1] >= REQUESTS - 3 * AT_ONCE_MAX, told
    assert told[len(told) // 2] >= REQUESTS // 4, told
    for link in proxy.links:
        link.data_received(b"0\r\n\r\n")
        await asyncio.sleep(0)
    await eventually(lambda: not proxy.app.server.in_flight)
    assert proxy.app._upstream.turns.streams == 0
