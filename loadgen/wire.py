"""A lean HTTP/1.1 client that knows when bytes left and when they came.

Each exchange reports the time of the write, of the moment the kernel had taken all of it, of the
first byte back, and of every piece of the body. There is no cap on connections; a kept-alive one
is used again.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 10.0
IDLE_MAX = 4096
# A kept-alive connection that is lost this soon may have been closed before the request came.
STALE_S = 1.0

OnBody = Callable[[float, bytes], None]


class WireError(Exception):
    """The exchange failed below HTTP; `kind` is connect, disconnect or bad_http."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Exchange:
    """One request and its answer; times are seconds of the monotonic clock, 0 = not reached."""

    on_body: OnBody
    sent: float = 0.0
    written: float = 0.0
    first_byte: float = 0.0
    end: float = 0.0
    bytes_per_s: float | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def unsized(self) -> bool:
        """Nothing but the end of the connection ends this answer."""
        sized = "content-length" in self.headers or "transfer-encoding" in self.headers
        return self.status >= 200 and not sized


class Endpoint:
    """Where requests go: a base URL such as http://host:port or https://host/prefix."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http(s) URL")
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._netloc = parts.netloc.rpartition("@")[2]

    def head(self, method: str, path: str, headers: dict[str, str], length: int) -> bytes:
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Wire:
    """Exchanges with one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[_Connection] = []

    async def exchange(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        on_body: OnBody,
        *,
        bytes_per_s: float | None = None,
    ) -> Exchange:
        """Send and receive one message, the answer read no faster than `bytes_per_s`. Raises
        WireError, and what `on_body` raises; then, or cancelled, the connection is closed."""
        head = self._endpoint.head(method, path, headers, len(body))
        while True:
            connection, reused = await self._connection()
            exchange = Exchange(on_body, bytes_per_s=bytes_per_s)
            try:
                await connection.run(exchange, head, body)
            except WireError:
                # Later the server had the request, and losing it is a failure of its own.
                soon = time.monotonic() - exchange.sent < STALE_S
                if reused and soon and not exchange.first_byte:
                    continue
                raise
            if connection.usable and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
            else:
                connection.close()
            return exchange

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> "tuple[_Connection, bool]":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection, True
        loop = asyncio.get_running_loop()
        target = self._endpoint
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_connection(
                    _Connection, target.host, target.port, ssl=target.tls
                )
        except TimeoutError as error:
            raise WireError("connect", f"no connection in {CONNECT_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise WireError("connect", str(error)) from error
        return made, False


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time; also the parser's callbacks."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self._now = 0.0
        self._paused: asyncio.TimerHandle | None = None
        self.usable = True

    async def run(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        assert self._transport is not None, "run before the connection was made"
        self._exchange = exchange
        self._done = asyncio.get_running_loop().create_future()
        exchange.sent = time.monotonic()
        # One call, so that the paused state after it says whether all of it is with the kernel.
        self._transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:
            self._transport.write(body)
        if not self._transport.get_write_buffer_size():
            exchange.written = time.monotonic()
        try:
            await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._exchange = self._done = None
            self._read_on()

    def _pause(self, seconds: float) -> None:
        """A reader that takes so long for what has come: the kernel's buffer fills meanwhile."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._paused = asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)

    def resume_writing(self) -> None:
        if self._exchange is not None and not self._exchange.written:
            self._exchange.written = time.monotonic()

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:  # bytes after the answer: not a peer to reuse
            self.close()
            return
        self._now = time.monotonic()
        if not self._exchange.first_byte:
            self._exchange.first_byte = self._now
        if self._exchange.bytes_per_s is not None:
            self._pause(len(data) / self._exchange.bytes_per_s)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._fail(WireError("bad_http", str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self._exchange
        if exc is None and exchange is not None and exchange.unsized:
            self._now = time.monotonic()
            self._ended(exchange)
        self._fail(WireError("disconnect", str(exc or "the server closed the connection")))

    def _fail(self, error: BaseException) -> None:
        self.usable = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    # ---- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is not None:
            self._exchange.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.on_body(self._now, data)

    def on_message_complete(self) -> None:
        if self._exchange is None or self._exchange.status < 200:
            return
        self.usable = self._parser.should_keep_alive()
        if self.usable:
            self._parser = httptools.HttpResponseParser(self)
        self._ended(self._exchange)

    def _ended(self, exchange: Exchange) -> None:
        exchange.end = self._now
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
