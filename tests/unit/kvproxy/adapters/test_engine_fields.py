import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from kvproxy.adapters.engine_fields import EngineFields, declaring
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica
from loadgen.emulator.app import _OPENAPI
from tests.support.makers import make_replica
from tests.support.proxies import eventually
from tests.support.shared import shared_path

FIELD, PATHS = "return_token_ids", ("/v1/chat/completions", "/v1/completions")


class Page:
    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, json.dumps(_OPENAPI).encode(), 0
        self.keys: list[str | None] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += request.path == "/openapi.json"
        self.keys.append(request.headers.get("authorization"))
        return web.Response(status=self.status, body=self.body)


@asynccontextmanager
async def asking(page: Page) -> AsyncIterator[tuple[EngineFields, Replica]]:
    runner = web.ServerRunner(web.Server(page.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    replica = make_replica("r", url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    fields = EngineFields(
        [replica], FIELD, PATHS, interval_s=0.005, timeout_s=5.0, api_keys={"r": "secret"}
    )
    try:
        await fields.start()
        yield fields, replica
    finally:
        await fields.close()
        await runner.cleanup()


async def test_a_replica_is_asked_over_tls_as_for_all_else() -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    runner = web.ServerRunner(web.Server(Page().answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    replica = make_replica("r", url=f"https://127.0.0.1:{runner.addresses[0][1]}")
    for tls, knows in ((None, False), (trusting, True)):
        fields = EngineFields(
            [replica], FIELD, PATHS, interval_s=5.0, timeout_s=5.0, api_keys={}, tls=tls
        )
        await fields.start()
        assert fields.knows(replica, PATHS[0]) is knows
        await fields.close()
    await runner.cleanup()


async def test_a_replica_is_asked_once() -> None:
    page = Page()
    async with asking(page) as (fields, replica):
        assert all(fields.knows(replica, path) for path in PATHS)
        assert not fields.knows(replica, "/v1/messages")
        assert not fields.knows(make_replica("other"), PATHS[0])
        assert (page.asked, page.keys) == (1, ["Bearer secret"])


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (200, b"<html>"), (200, b"[]"), (200, b"x" * (5 * 2**20))]
)
async def test_without_a_page_nothing_is_known(status: int, body: bytes) -> None:
    page = Page()
    page.status, page.body = status, body
    async with asking(page) as (fields, replica):
        assert not fields.knows(replica, PATHS[0])


async def test_one_that_was_away_is_asked_again() -> None:
    page = Page()
    async with asking(page) as (fields, replica):
        replica.life.health = Health.EJECTED
        await eventually(lambda: not fields.knows(replica, PATHS[0]))
        replica.life.health = Health.READY
        await eventually(lambda: fields.knows(replica, PATHS[0]))
        assert page.asked == 2


async def test_one_that_refused_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    page = Page()
    async with asking(page) as (fields, replica):
        with caplog.at_level(logging.WARNING):
            fields.refused(replica)
            fields.refused(replica)
        assert not fields.knows(replica, PATHS[0])
        assert [each.getMessage() for each in caplog.records] == [
            "replica r refused a request with return_token_ids"
        ]


def test_the_page_of_a_real_engine() -> None:
    page = shared_path("vllm-samples", "http", "openapi.body").read_bytes()
    assert declaring(page, FIELD, [*PATHS, "/v1/messages", "/none"]) == frozenset(PATHS)
    assert declaring(page, "no_such_field", PATHS) == frozenset()


@pytest.mark.parametrize("path", [{}, {"post": {}}, {"post": {"requestBody": {"content": {}}}}])
def test_paths_without_a_body_declare_nothing(path: object) -> None:
    assert declaring(json.dumps({"paths": {PATHS[0]: path}}).encode(), FIELD, PATHS) == frozenset()


async def test_one_that_went_is_not_remembered() -> None:
    async with asking(Page()) as (fields, replica):
        fields.refused(replica)
        fields.forget(replica)
        # Another engine may come under its name.
        await eventually(lambda: fields.knows(replica, PATHS[0]))
