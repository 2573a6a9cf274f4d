import logging

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kvproxy.adapters.kv_bootstrap import KvBootstrap
from kvproxy.core.disagg.connectors import Peer
from tests.support.makers import make_replica
from tests.unit.kvproxy.adapters.test_kv_discovery import in_parts

PAGE = {"0": {"engine_id": "engine-a"}, "1": {"engine_id": "engine-b"}}


async def asked(page: object, status: int = 200) -> Peer:
    async def query(_request: web.Request) -> web.Response:
        return web.json_response(page, status=status)

    app = web.Application()
    app.router.add_get("/query", query)
    async with TestServer(app) as server:
        assert server.port is not None
        return await looked_up(server.port)


async def looked_up(port: int) -> Peer:
    replica = make_replica("r0")
    replica.peer = Peer("127.0.0.1", port)
    bootstrap = KvBootstrap([replica, make_replica("r1")], timeout_s=5.0)
    await bootstrap.start()
    await bootstrap.close()
    return replica.peer


async def test_the_lowest_rank_is_named() -> None:
    assert (await asked(PAGE)).engine_id == "engine-a"


async def test_a_page_may_come_in_parts() -> None:
    async def query(request: web.Request) -> web.StreamResponse:
        return await in_parts(request, orjson.dumps(PAGE))

    app = web.Application()
    app.router.add_get("/query", query)
    async with TestServer(app) as server:
        assert server.port is not None
        assert (await looked_up(server.port)).engine_id == "engine-a"


@pytest.mark.parametrize(
    ("page", "status"),
    [({}, 200), ([], 200), ({"0": {}}, 200), ({"0": {"engine_id": 7}}, 200), (PAGE, 503)],
)
async def test_a_page_that_names_nobody(
    page: object, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert (await asked(page, status)).engine_id == ""
    assert "replica r0 cannot prefill for others" in caplog.text


async def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    assert (await looked_up(1)).engine_id == ""
    assert "cannot prefill for others" in caplog.text
