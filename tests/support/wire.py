"""HTTP/1.1 by hand: what a library would tidy up is sent and read as it is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

RawHeaders = list[tuple[bytes, bytes]]

# Those that a proxy replaces or that belong to one connection.
OF_ONE_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)


@dataclass(frozen=True)
class WireAnswer:
    """`complete`: the body ended as its framing said, not because the connection did."""

    status: int
    headers: RawHeaders
    body: bytes
    complete: bool

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key.lower() == name]
        return values[-1] if values else None


async def read_headers(reader: asyncio.StreamReader) -> tuple[bytes, RawHeaders]:
    """The first line and the headers. IncompleteReadError at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name, value.strip(b" \t")))
    return first, headers


async def read_body(reader: asyncio.StreamReader, headers: RawHeaders, *, to_end: bool) -> bytes:
    """The body as framed; without framing all up to the end of the connection if `to_end`."""
    named = {name.lower(): value for name, value in headers}
    if named.get(b"transfer-encoding", b"").lower() == b"chunked":
        return b"".join([chunk async for chunk in _chunks(reader)])
    if b"content-length" in named:
        return await reader.readexactly(int(named[b"content-length"]))
    return await reader.read() if to_end else b""


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> WireAnswer:
    first, headers = await read_headers(reader)
    while first.startswith(b"HTTP/1.1 100"):
        first, headers = await read_headers(reader)
    status = int(first.split(b" ")[1])
    if method == "HEAD" or status in (204, 304):
        return WireAnswer(status, headers, b"", complete=True)
    body = bytearray()
    try:
        body += await read_body(reader, headers, to_end=True)
    except asyncio.IncompleteReadError as error:
        return WireAnswer(status, headers, error.partial, complete=False)
    except ConnectionResetError:
        return WireAnswer(status, headers, bytes(body), complete=False)
    return WireAnswer(status, headers, bytes(body), complete=True)


@asynccontextmanager
async def connected(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**26)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(
    method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """Bytes of a request; with a body it says its length and, unless given, that it is JSON."""
    lines = [f"{method} {target} HTTP/1.1", "host: proxy.test"]
    names = {name.lower() for name, _ in headers}
    if body is not None and "content-type" not in names:
        lines.append("content-type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


async def ask(url: str, raw: bytes) -> WireAnswer:
    """Send bytes on a connection of their own and read one answer."""
    async with connected(url) as (reader, writer):
        writer.write(raw)
        return await read_answer(reader, raw.split(b" ", 1)[0].decode("latin-1"))


def post(body: bytes, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return request("POST", path, named, body)


def end_to_end(headers: RawHeaders) -> RawHeaders:
    """Headers without those of one hop, names in lower case, in a stable order."""
    kept = [(name.lower(), value) for name, value in headers]
    return sorted(pair for pair in kept if pair[0] not in OF_ONE_HOP)
