"""The listener: accepts connections, runs one task a request, drains."""

import asyncio
import heapq
import inspect
import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.edge import NOBODY, Edge
from kvproxy.adapters.http1.exchange import ClientExchange, error_headers
from kvproxy.adapters.http1.heads import answer_head
from kvproxy.adapters.http1.incoming import Limits
from kvproxy.adapters.http1.known import KnownHeads
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError, openai_body
from kvproxy.proxy import Exchange

log = logging.getLogger("kvproxy.http")

_COMMANDS = "/admin/"
_PREFLIGHT = "access-control-request-method"
# Connections the kernel may hold until they are accepted.
_BACKLOG = 4096
# How long clients may take to see the end of a cut answer.
_FLUSH_S = 1.0
# What shakes hands is no connection yet that is counted.
_HANDSHAKE_MAX_S = 10.0
_UNBEGUN = inspect.CORO_CREATED
# That clients are turned away is said once in so long.
_SAY_AGAIN_S = 60.0
# Looking for connections that can give way looks at all of them, so it is done for many at once.
_GIVE_WAY_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of kvproxy's own. `location`: where else to look, with a status that says so."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    location: str = ""


# kvproxy's own pages, by path, given the query; everything else belongs to the replicas.
Route = Callable[[str], Awaitable[Page]]
# Those that depend on who asks; what else stands under _COMMANDS, and requests that are no GET.
Command = Callable[[Exchange], Awaitable[Page]]
# Raises ProxyError when whoever sent these headers may not see that page.
Guard = Callable[[str, Mapping[str, str]], None]
Handler = Callable[[Exchange], Awaitable[None]]


class ListenError(Exception):
    """An address is taken, or not ours."""


class _TooMany(asyncio.Protocol):
    """A connection beyond the limit is told so at once instead of waiting for nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        error = ProxyError(
            "overloaded", "Too many connections (server.max_connections).", retry_after_s=1.0
        )
        body = openai_body(error)
        framing = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        answer = answer_head(429, [*error_headers(error, "-"), *framing]) + body
        cast(asyncio.Transport, transport).write(answer)
        transport.close()


class HttpServer:
    """Serves `routes` and what is `personal` itself, and gives every other request to `handler`."""

    def __init__(
        self,
        handler: Handler,
        routes: Mapping[str, Route],
        limits: Limits,
        guard: Guard,
        command: Command | None = None,
        *,
        personal: Mapping[str, Command] | None = None,
        tls: ssl.SSLContext | None = None,
        edge: Edge = NOBODY,
    ) -> None:
        self.edge = edge
        self._tls = tls
        self._handler = handler
        self._command = command
        self._guard = guard
        own = {path: _by_query(route) for path, route in routes.items()}
        self._routes: Mapping[str, Command] = own | dict(personal or {})
        self.limits = limits
        self.heads = KnownHeads()
        self.turns = Turns()
        self.deadlines = Deadlines(min(limits.body_timeout_s, limits.keepalive_timeout_s))
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self.url = ""
        self._listener: asyncio.Server | None = None
        self._running: dict[ClientExchange, asyncio.Task[None]] = {}
        self._cut: ProxyError | None = None
        self._alone: asyncio.Future[None] | None = None
        self._said_at = -math.inf
        # Told why somebody was not heard: requests are counted by whoever handles them.
        self.turned_away: Callable[[str], None] = lambda why: None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> str:
        """Listen; returns the URL, with the port the system chose for port 0. `reuse_port`: others
        of our processes listen there too.

        Raises OSError when the address is taken or not ours.
        """

        def accept() -> asyncio.Protocol:
            full = len(self.connections) >= self.limits.max_connections
            return ClientConnection(self) if not full or self._make_room() else self._refuse()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            accept,
            host,
            port,
            backlog=_BACKLOG,
            reuse_port=reuse_port,
            ssl=self._tls,
            ssl_handshake_timeout=min(_HANDSHAKE_MAX_S, self.limits.body_timeout_s)
            if self._tls
            else None,
        )
        self.deadlines.start()
        bound = self._listener.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}"
        return self.url

    def _refuse(self) -> asyncio.Protocol:
        self.turned_away("overloaded")
        now = asyncio.get_running_loop().time()
        if now >= self._said_at + _SAY_AGAIN_S:
            self._said_at = now
            log.error(
                "connections are refused: on each of %d a request is under way "
                "(server.max_connections)",
                self.limits.max_connections,
            )
        return _TooMany()

    def _make_room(self) -> bool:
        """Whether connections without a whole request gave way, the longest idle first: else
        nobody could be served as long as somebody keeps enough of them open."""
        idle = [each for each in self.connections if each.gives_way]
        count = max(1, int(self.limits.max_connections * _GIVE_WAY_SHARE))
        for each in heapq.nsmallest(count, idle, key=lambda connection: connection.deadline):
            each.give_way()
            self.turned_away("gave_way")
        return bool(idle)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def joined(self, connection: ClientConnection) -> None:
        self.connections.add(connection)
        self.deadlines.members.add(connection)

    def left(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self.deadlines.members.discard(connection)
        if self._alone is not None and not self.connections and not self._alone.done():
            self._alone.set_result(None)

    def begin(self, exchange: ClientExchange, connection: ClientConnection) -> None:
        run = self._run(exchange, connection)
        self._running[exchange] = asyncio.get_running_loop().create_task(run)

    def cancel(self, exchange: ClientExchange) -> None:
        task = self._running.get(exchange)
        if task is None:
            return
        task.cancel()
        coroutine = task.get_coro()
        if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == _UNBEGUN:
            # It will not run, not even to its end.
            del self._running[exchange]

    async def _run(self, exchange: ClientExchange, connection: ClientConnection) -> None:
        try:
            own = exchange.method in ("GET", "HEAD")
            route = self._routes.get(exchange.path) if own else None
            if exchange.method == "OPTIONS" and _PREFLIGHT in exchange.header:
                await exchange.accept()
                exchange.answer(204, b"", self.edge.preflight(exchange.header))
            elif route is not None:
                self._guard(exchange.path, exchange.header)
                await exchange.accept()
                page = await route(exchange)
                exchange.answer(page.status, page.body, _kind(page))
            elif self._command is not None and exchange.path.startswith(_COMMANDS):
                self._guard(exchange.path, exchange.header)
                page = await self._command(exchange)
                exchange.answer(page.status, page.body, _kind(page))
            else:
                await self._handler(exchange)
        except ProxyError as error:
            exchange.refuse(error)
        except asyncio.CancelledError:
            if self._cut is None:
                raise
            exchange.refuse(self._cut)
        except Exception:
            log.exception("request %s failed", exchange.request_id)
            exchange.refuse(ProxyError("internal", "kvproxy failed; see its log."))
        finally:
            del self._running[exchange]
            connection.answered(exchange)

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let answers end for `grace_s`, then cut them with an error event."""
        assert self._listener is not None
        self._listener.close()
        self.draining = True
        for connection in list(self.connections):
            connection.hurry()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        # Those whose head was on its way begin meanwhile.
        while self._running and (left_s := until - loop.time()) > 0:
            await asyncio.wait(list(self._running.values()), timeout=left_s)
        self._cut = ProxyError(
            "draining", "kvproxy is shutting down; send the request again.", retry_after_s=1.0
        )
        cut = list(self._running.values())
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=5.0)
        await self._flushed()
        self.deadlines.stop()

    async def _flushed(self) -> None:
        """Until clients have seen the end of their answers, or had the time to."""
        if self.connections:
            self._alone = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._alone], timeout=_FLUSH_S)
        for connection in list(self.connections):
            connection.reset()


async def listen(server: HttpServer, host: str, port: int, *, reuse_port: bool = False) -> str:
    """The URL that is listened on; raises ListenError."""
    try:
        return await server.start(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _by_query(route: Route) -> Command:
    async def page(exchange: Exchange) -> Page:
        return await route(exchange.target.partition("?")[2])

    return page


def _kind(page: Page) -> list[tuple[bytes, bytes]]:
    kind = [(b"content-type", page.content_type.encode())]
    return [*kind, (b"location", page.location.encode())] if page.location else kind
