"""The listener on a real socket, with a handler that the test writes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from kvproxy.adapters.http1.incoming import Limits
from kvproxy.adapters.http1.listener import Handler, HttpServer, Page
from kvproxy.core.errors import ProxyError
from kvproxy.core.pieces import whole
from kvproxy.core.router import Placement
from kvproxy.proxy import Exchange
from tests.support.makers import make_router

JSON = ((b"Content-Type", b"application/json"),)


def placement() -> Placement:
    return make_router(1).place_anywhere(0.0)


async def page(_query: str) -> Page:
    return Page(b"own page\n", "text/plain")


def guard(path: str, header: Mapping[str, str]) -> None:
    if "x-banned" in header:
        raise ProxyError("unauthorized", "no")


@asynccontextmanager
async def listening(
    handler: Handler,
    *,
    max_body: int = 1000,
    body_timeout_s: float = 30.0,
    keepalive_timeout_s: float = 30.0,
    max_connections: int = 100,
) -> AsyncIterator[tuple[HttpServer, str]]:
    limits = Limits(max_body, 8192, body_timeout_s, keepalive_timeout_s, max_connections)
    server = HttpServer(handler, {"/own": page}, limits, guard)
    url = await server.start("127.0.0.1", 0)
    try:
        yield server, url
    finally:
        await server.drain(0.0)


async def echo(exchange: Exchange) -> None:
    body = whole(await exchange.accept())
    exchange.start(200, JSON, placement())
    exchange.send(body)
    exchange.end()
