"""The listener: one aiohttp low-level server, one Exchange per request.

A client that goes away cancels its handler at once, also while it waits for a first token, so the
upstream request is closed and the hold released with it.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from aiohttp import web
from multidict import CIMultiDict

from kvproxy.core.dialects import dialect_of, errors_of
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.errors import ProxyError, openai_body
from kvproxy.core.explain import describe
from kvproxy.core.headers import end_to_end, text
from kvproxy.core.router import Placement
from kvproxy.proxy import Exchange, Headers

log = logging.getLogger("kvproxy.http")
# What aiohttp says about malformed requests quotes them, prompts included.
_wire_log = logging.getLogger("kvproxy.http.wire")
_wire_log.addFilter(lambda record: False)

# A request id is repeated to replicas, clients and logs: anything else would be a way in.
_REQUEST_ID = re.compile(r"[!-~]{1,256}")

# Connections the kernel may hold until they are accepted.
_BACKLOG = 4096

# kvproxy's own pages, by path; everything else belongs to the replicas.
Route = Callable[[], Awaitable[web.Response]]
Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request; seconds and bytes."""

    max_body_bytes: int
    max_header_bytes: int
    body_timeout_s: float
    keepalive_timeout_s: float
    max_connections: int


class _TooMany(asyncio.Protocol):
    """A connection beyond the limit is told so at once instead of waiting for nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        error = ProxyError("overloaded", "Too many connections (server.max_connections).")
        body = openai_body(error)
        head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        transport.write(head.encode() + body)
        transport.close()


class HttpServer:
    """Serves `routes` itself and gives every other request to `handler`."""

    def __init__(self, handler: Handler, routes: Mapping[str, Route], limits: Limits) -> None:
        self._handler = handler
        self._routes = routes
        self._limits = limits
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._running: dict[asyncio.Task[object], AiohttpExchange] = {}
        self._cut: ProxyError | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the URL, with the port the system chose for port 0.

        Raises OSError when the address is taken or not ours.
        """
        self._http = http = web.Server(
            self._handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            logger=_wire_log,
            keepalive_timeout=self._limits.keepalive_timeout_s,
            max_field_size=self._limits.max_header_bytes,
            max_line_size=self._limits.max_header_bytes,
        )

        def accept() -> asyncio.Protocol:
            full = len(http.connections) >= self._limits.max_connections
            return _TooMany() if full else http()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(accept, host, port, backlog=_BACKLOG)
        bound = self._listener.sockets[0].getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}"

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def drain(self, grace_s: float) -> None:
        """Stop accepting, let answers end for `grace_s`, then cut them with an error event."""
        assert self._listener is not None and self._http is not None
        self._listener.close()
        self._http.pre_shutdown()
        if self._running:
            await asyncio.wait(list(self._running), timeout=grace_s)
        self._cut = ProxyError("draining", "kvproxy is shutting down; send the request again.")
        cut = list(self._running)
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut, timeout=5.0)
        await self._http.shutdown(1.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get(request.path) if request.method in ("GET", "HEAD") else None
        if route is not None:
            return await route()
        exchange = AiohttpExchange(request, self._limits)
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = exchange
        try:
            await self._handler(exchange)
        except ProxyError as error:
            return await exchange.refuse(error)
        except asyncio.CancelledError:
            if self._cut is None or request.transport is None or request.transport.is_closing():
                raise
            task.uncancel()
            return await exchange.refuse(self._cut)
        except ConnectionError:
            raise
        except Exception:
            log.exception("request %s failed", exchange.request_id)
            return await exchange.refuse(ProxyError("internal", "kvproxy failed; see its log."))
        finally:
            del self._running[task]
        return exchange.response


class AiohttpExchange:
    """One request and its answer on an aiohttp connection."""

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self._response: web.StreamResponse | None = None
        self.method = request.method
        self.target = _origin_form(request.raw_path)
        self.path = request.path
        self.raw_headers: Headers = request.raw_headers
        self.header: Mapping[str, str] = {
            text(name).lower(): text(value) for name, value in request.raw_headers
        }
        given = self.header.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        self.ended = False
        self._sent_last = b""

    @property
    def response(self) -> web.StreamResponse:
        assert self._response is not None
        return self._response

    @property
    def started(self) -> bool:
        return self._response is not None

    async def accept(self) -> bytes:
        if not self._request.can_read_body:
            return b""
        limit = self._limits.max_body_bytes
        too_large = ProxyError(
            "body_too_large", f"The body is larger than {limit} bytes (server.max_body_bytes)."
        )
        if (self._request.content_length or 0) > limit:
            raise too_large
        if self.header.get("expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in self._request.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        raise too_large
        except TimeoutError as error:
            waited = f"{self._limits.body_timeout_s:g} s (server.body_timeout_s)"
            raise ProxyError("request_timeout", f"The body did not arrive in {waited}.") from error
        except web.RequestPayloadError as error:
            raise ProxyError("request_incomplete", f"The body is incomplete: {error}") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def start(self, status: int, headers: Headers, placement: Placement) -> None:
        kept = CIMultiDict(end_to_end(headers))
        kept["x-request-id"] = self.request_id
        kept["x-kvproxy-replica"] = placement.replica.id
        if self.header.get("x-kvproxy-decision"):
            kept["x-kvproxy-decision"] = describe(placement).decode()
        self._response = _Relayed(status=status, headers=kept)
        await self._response.prepare(self._request)

    async def send(self, chunk: bytes) -> None:
        assert self._response is not None
        await self._response.write(chunk)
        self._sent_last = (self._sent_last + chunk[-4:])[-4:]

    async def end(self) -> None:
        assert self._response is not None
        self.ended = True
        await self._response.write_eof()

    async def refuse(self, error: ProxyError) -> web.StreamResponse:
        """Answer with the error in the client's dialect, or cut a started answer short."""
        if self._response is not None:
            await self._cut_short(dialect_of(self.method, self.path), error)
            return self._response
        body = errors_of(self.path).error_body(error)
        headers = {"x-request-id": self.request_id, "x-kvproxy-error-code": error.code}
        if error.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        response = web.Response(
            status=error.status, body=body, headers=headers, content_type="application/json"
        )
        if error.code in ("body_too_large", "request_timeout", "request_incomplete"):
            # What is left of the body is not worth reading.
            response.force_close()
        return response

    async def _cut_short(self, dialect: Dialect | None, error: ProxyError) -> None:
        """A stream ends with an event its client notices; anything else just breaks off, so that
        half an answer is never taken for a whole one."""
        assert self._response is not None
        if self.ended:
            return
        headers = self._response.headers
        plain = "content-length" not in headers and "content-encoding" not in headers
        if dialect is not None and plain and self._response.content_type == "text/event-stream":
            # An event that was cut in two is ended first, or it would swallow this one.
            whole = not self._sent_last or self._sent_last.endswith((b"\n\n", b"\r\n\r\n"))
            between = b"" if whole else b"\n\n"
            await self.send(between + dialect.stream_error(error))
            await self.end()
        elif self._request.transport is not None:
            self._request.transport.abort()


class _Relayed(web.StreamResponse):
    """A replica's answer: no header is added that the replica did not send."""

    async def _prepare_headers(self) -> None:
        added = [name for name in ("Content-Type", "Server") if name not in self.headers]
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)


def _origin_form(target: str) -> str:
    """Path and query of a request target; clients of forward proxies send whole URLs."""
    if target.startswith("/"):
        return target
    _, _, after_scheme = target.partition("://")
    slash = re.search(r"[/?]", after_scheme)
    found = after_scheme[slash.start() :] if slash else ""
    return found if found.startswith("/") else "/" + found
