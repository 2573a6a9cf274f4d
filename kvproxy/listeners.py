"""The addresses that are listened on: where clients connect, and where operators do if that is
another place.
"""

import ssl
from collections.abc import Mapping
from ipaddress import ip_network
from typing import NoReturn

from kvproxy.adapters.http1.edge import OURS, Edge
from kvproxy.adapters.http1.incoming import Limits
from kvproxy.adapters.http1.listener import Command, Guard, Handler, HttpServer, Route
from kvproxy.core.errors import ProxyError
from kvproxy.core.header_rules import header_rules
from kvproxy.proxy import Exchange
from kvproxy.settings.model import Settings


def servers(
    settings: Settings,
    handle: Handler,
    pages: Mapping[str, Route],
    operated: Mapping[str, Route],
    *,
    personal: Mapping[str, Command],
    guard: Guard,
    command: Command,
    tls: ssl.SSLContext | None,
) -> tuple[HttpServer, HttpServer | None]:
    """`personal` are pages that depend on who asks, `operated` those of operators, and `command`
    takes what they want done."""
    server = settings.server
    limits = Limits(
        server.max_body_bytes,
        server.max_header_bytes,
        server.body_timeout_s,
        server.keepalive_timeout_s,
        server.max_connections,
    )
    edge = edge_of(settings)
    everything = {**pages, **operated}
    if not settings.admin.listen:
        every = HttpServer(
            handle, everything, limits, guard, command, personal=personal, tls=tls, edge=edge
        )
        return every, None
    public = HttpServer(
        handle, pages, limits, guard, _elsewhere, personal=personal, tls=tls, edge=edge
    )
    return public, HttpServer(
        _elsewhere, everything, limits, guard, command, personal=personal, tls=tls
    )


def edge_of(settings: Settings) -> Edge:
    server = settings.server
    networks = tuple(ip_network(network) for network in server.trusted_proxies)
    answers = header_rules(server.drop_headers, without=OURS)
    asked = header_rules(server.drop_headers)
    unsaid = frozenset(name for name in map(str.encode, OURS) if asked.hides(name))
    return Edge(networks, frozenset(server.cors_origins), answers, unsaid)


async def _elsewhere(exchange: Exchange) -> NoReturn:
    raise ProxyError("not_found", f"{exchange.path} is not served at this address.")
