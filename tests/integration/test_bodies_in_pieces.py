"""Large bodies through a whole proxy, cut as sockets may cut them: replicas get the same bytes."""

import asyncio
import json
from itertools import pairwise
from random import Random

import pytest
import uvloop

from tests.benchmark.count import large
from tests.support.unplugged import STREAM_HEAD, Unplugged, Wire, chunk, request, stream_end


async def forwarded(proxy: Unplugged, raw: bytes, random: Random) -> bytes:
    """What a replica is sent, but for its head."""
    cuts = sorted(random.randrange(len(raw)) for _ in range(random.choice([0, 1, 2, 3, 20])))
    for start, end in pairwise([0, *cuts, len(raw)]):
        if start < end:
            proxy.client.data_received(raw[start:end])
            await asyncio.sleep(0)
    for _ in range(50):
        if proxy.asked:
            break
        await asyncio.sleep(0)
    link = proxy.asked.pop()
    wire = link._transport
    assert isinstance(wire, Wire)
    sent = b"".join(wire.written)
    link.data_received(STREAM_HEAD + chunk() + stream_end(len(raw) // 4, 0))
    for _ in range(50):
        if not proxy.app.server.in_flight:
            break
        await asyncio.sleep(0)
    assert not proxy.app.server.in_flight
    head, _, body = sent.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    return body


@pytest.mark.parametrize("seed", range(3))
def test_turns_are_forwarded_as_they_came(seed: int) -> None:
    async def play() -> None:
        random, proxy = Random(seed), Unplugged()
        for turn in range(6):
            for number in range(2):
                body = large(number, turn)
                assert await forwarded(proxy, request(f"c{number}", body), random) == body

    uvloop.run(play())


def with_tool(body: bytes, parameters: str) -> bytes:
    schema = {"type": "object", "properties": {name: {} for name in parameters}}
    tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    return json.dumps({"tools": [tool], **json.loads(body)}).encode()


def test_what_is_spliced_goes_into_the_pieces() -> None:
    async def play() -> None:
        random, proxy = Random(1), Unplugged()
        for turn in range(4):
            body = large(0, turn)
            raw = request("c", with_tool(body, "ba" if turn % 2 else "ab"))
            assert await forwarded(proxy, raw, random) == with_tool(body, "ab")

    uvloop.run(play())
