import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from loadgen.hopping import HoppingWire, wire_to
from loadgen.wire import Endpoint, WireError


@asynccontextmanager
async def named(name: str) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def asked(wire: HoppingWire) -> str:
    parts: list[bytes] = []
    await wire.exchange("GET", "/", {}, b"", lambda _, data: parts.append(data))
    return b"".join(parts).decode()


async def test_every_request_goes_to_the_next_and_past_those_that_are_gone() -> None:
    async with named("a") as a, named("c") as c:
        async with named("b") as b:
            wire = HoppingWire([Endpoint(url) for url in (a, b, c)])
            assert [await asked(wire) for _ in range(4)] == ["a", "b", "c", "a"]
        assert [await asked(wire) for _ in range(4)] == ["c", "c", "a", "c"]
        assert wire.passed_over == 2
    with pytest.raises(WireError):
        await asked(wire)
    wire.close()
    await asyncio.sleep(0)


def test_one_endpoint_needs_no_hopping() -> None:
    assert not isinstance(wire_to("http://h:1", ()), HoppingWire)
    assert isinstance(wire_to("http://h:1", ("http://h:2",)), HoppingWire)
