import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from kvproxy.adapters.kv_discovery import KvDiscovery
from kvproxy.core.kv_sources import KvSource
from kvproxy.core.replica import Replica
from tests.support.makers import make_replica
from tests.support.proxies import eventually

CONFIG = {
    "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5700",
    "replay_endpoint": "tcp://*:5800", "topic": "",
}  # fmt: skip


class Pages:
    """An engine's pages; None is 404. And who is listened to because of them."""

    def __init__(self) -> None:
        self.pages: dict[str, object] = {}
        self.followed: list[KvSource] = []
        self.asked: set[str] = set()
        self.url = ""
        self.in_parts = False

    def follow(self, source: KvSource, replica: Replica) -> None:
        if source not in self.followed:
            self.followed.append(source)

    async def forget(self, source: KvSource) -> None:
        self.followed.remove(source)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.add(request.path)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        if self.in_parts:
            return await in_parts(request, orjson.dumps(page))
        return web.Response(body=orjson.dumps(page))


async def in_parts(request: web.Request, page: bytes) -> web.StreamResponse:
    """As a page comes that is larger than a packet."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(page[:10])
    await asyncio.sleep(0.01)
    await response.write(page[10:])
    return response


@asynccontextmanager
async def discovering(
    pages: Pages, *, expected: bool = False, fixed: KvSource | None = None
) -> AsyncIterator[KvDiscovery]:
    app = web.Application()
    app.router.add_get("/{page}", pages.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    discovery = KvDiscovery(
        [make_replica("r", url=url)],
        pages.follow,
        pages.forget,
        fixed={"r": [fixed]} if fixed else {},
        interval_s=0.01,
        timeout_s=5.0,
        expected=expected,
        api_keys={},
    )
    await discovery.start()
    try:
        yield discovery
    finally:
        await discovery.close()
        await runner.cleanup()


async def test_a_page_may_come_in_parts() -> None:
    pages = Pages()
    pages.in_parts = True
    pages.pages["/kv_event_sources"] = {"0": CONFIG}
    async with discovering(pages):
        assert len(pages.followed) == 1


async def test_vllm_is_followed_when_start_returns() -> None:
    pages = Pages()
    pages.pages["/kv_event_sources"] = {"0": CONFIG}
    source = KvSource("r", 0, "tcp://127.0.0.1:5700", "tcp://127.0.0.1:5800", "")
    async with discovering(pages):
        assert pages.followed == [source]


async def test_sglang_is_asked_where_vllm_does_not_answer() -> None:
    pages = Pages()
    events = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557}
    pages.pages["/server_info"] = {"kv_events": events}
    async with discovering(pages):
        assert pages.followed == [KvSource("r", 0, "tcp://127.0.0.1:5557", "", "")]


async def test_an_engine_that_names_no_source_is_asked_for_nothing_dearer() -> None:
    pages = Pages()
    pages.pages = {"/kv_event_sources": {}, "/server_info": {}}
    async with discovering(pages):
        pages.pages["/kv_event_sources"] = {"0": CONFIG}
        await eventually(lambda: bool(pages.followed))
    assert pages.asked == {"/kv_event_sources"}


async def test_sources_that_move_are_followed_there() -> None:
    pages = Pages()
    pages.pages["/kv_event_sources"] = {"0": CONFIG}
    async with discovering(pages):
        pages.pages["/kv_event_sources"] = {"0": CONFIG | {"endpoint": "tcp://*:5900"}}
        await eventually(lambda: [s.endpoint for s in pages.followed] == ["tcp://127.0.0.1:5900"])
        pages.pages["/kv_event_sources"] = {}
        await eventually(lambda: not pages.followed)


async def test_what_is_set_is_not_asked_for() -> None:
    pages = Pages()
    fixed = KvSource("r", 0, "tcp://10.0.0.1:1", "", "kv@")
    async with discovering(pages, fixed=fixed):
        assert pages.followed == [fixed]


@pytest.mark.parametrize(
    ("page", "expected", "said"),
    [
        ({}, True, "--kv-events-config"),
        ({"0": CONFIG | {"endpoint": "tcp://1.2.3.4:5"}}, False, "it connects to"),
        ({}, False, ""),
    ],
)
async def test_what_is_amiss_is_said_once(
    page: object, expected: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pages = Pages()
    pages.pages["/kv_event_sources"] = page
    with caplog.at_level(logging.WARNING, "kvproxy.events"):
        async with discovering(pages, expected=expected) as discovery:
            for replica in discovery._first * 3:
                await discovery._look(replica)
    assert [said in record.getMessage() for record in caplog.records] == ([True] if said else [])
