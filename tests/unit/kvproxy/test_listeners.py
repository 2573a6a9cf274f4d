import pytest

from kvproxy.adapters.http1.listener import HttpServer, ListenError, Page, listen
from kvproxy.listeners import servers
from kvproxy.proxy import Exchange
from kvproxy.settings.model import Settings
from tests.support.listeners import echo, guard, page
from tests.support.wire import ask, post, request


async def command(exchange: Exchange) -> Page:
    return Page(b"done")


def made(listen_on: str = "") -> tuple[HttpServer, HttpServer | None]:
    settings = Settings.model_validate({"replicas": ["http://a:1"], "admin": {"listen": listen_on}})
    pages, operated = {"/own": page}, {"/metrics": page}
    return servers(
        settings,
        echo,
        pages,
        operated,
        personal={"/mine": command},
        guard=guard,
        command=command,
        tls=None,
    )


async def test_one_listener_serves_everybody_unless_operators_have_their_own() -> None:
    server, none = made()
    assert none is None
    url = await listen(server, "127.0.0.1", 0)
    for got in (request("GET", "/own"), request("GET", "/metrics"), post(b"{}", "/admin/x")):
        assert (await ask(url, got)).status == 200
    await server.drain(0.0)


async def test_two_listeners_share_nothing_but_pages() -> None:
    server, operators = made("127.0.0.1:0")
    assert operators is not None
    url, theirs = await listen(server, "127.0.0.1", 0), await listen(operators, "127.0.0.1", 0)
    statuses = [
        [(await ask(at, raw)).status for at in (url, theirs)]
        for raw in (
            request("GET", "/own"),
            request("GET", "/mine"),
            request("GET", "/metrics"),
            post(b"{}", "/admin/x"),
            post(b"{}"),
        )
    ]
    # What is no page of that listener goes on to a replica, for clients alone.
    assert statuses == [[200, 200], [200, 200], [200, 200], [404, 200], [200, 404]]
    for each in (server, operators):
        await each.drain(0.0)


async def test_an_address_that_is_taken_is_named() -> None:
    server, other = made()[0], made()[0]
    url = await listen(server, "127.0.0.1", 0)
    with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1"):
        await listen(other, "127.0.0.1", int(url.rpartition(":")[2]))
    await server.drain(0.0)
