"""One request out of a connection's bytes. No IO: bytes in, head and body parts out.

llhttp reads the head and chunked bodies, in its strict mode. It never sees a byte behind the
message: heads and chunked bodies end at an empty line, so they are fed up to the next one; a body
of stated length is counted and kept as it was received.
"""

from dataclasses import dataclass

import httptools

from kvproxy.core.errors import ProxyError
from kvproxy.core.headers import LOWERED, by_name

_EMPTY_LINE = b"\r\n\r\n"
# As many as vLLM takes (h11_max_header_count).
_HEADERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request; seconds and bytes."""

    max_body_bytes: int
    max_header_bytes: int
    body_timeout_s: float
    keepalive_timeout_s: float
    max_connections: int


class Incoming:
    """`head_read` and `whole` tell how far it is; `refusal` why its body will not be taken."""

    def __init__(self, limits: Limits) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.header: dict[str, str] = {}
        self.method = ""
        self.target = b""
        self.keep_alive = False
        self.http10 = False
        self.head_read = False
        self.whole = False
        self.refusal: ProxyError | None = None
        self.parts: list[bytes] = []
        self._limits = limits
        # It refers back to this object: dropped at the end, or only the collector would find both.
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        # What is still to come of a body of stated length; -1 where none is stated.
        self._left = -1
        self._size = 0
        # Bytes fed since the last one of a body: heads, chunk extensions and trailers are bounded.
        self._overhead = 0
        self._seam = b""

    def abandon(self) -> None:
        """Nothing more of it will come."""
        self._parser = None

    def feed(self, data: bytes) -> bytes:
        """Takes what belongs to this request; returns what is behind it.

        Raises ProxyError bad_request, head_too_large, body_too_large: nothing can be read after it.
        """
        while data and not self.whole:
            if self._left < 0:
                end = self._end(data)
                self._parse(data, end)
            else:
                end = min(self._left, len(data))
                self.parts.append(data if end == len(data) else data[:end])
                self._left -= end
                self.whole = not self._left
            data = b"" if end == len(data) else data[end:]
        if self.whole:
            self._parser = None
        return data

    def _end(self, data: bytes) -> int:
        """Where the next empty line ends, which may have begun in what was fed before."""
        seam, self._seam = self._seam, b""
        if seam:
            across = (seam + data[:3]).find(_EMPTY_LINE)
            if across >= 0:
                return across + len(_EMPTY_LINE) - len(seam)
        found = data.find(_EMPTY_LINE)
        if found >= 0:
            return found + len(_EMPTY_LINE)
        self._seam = (seam + data[-3:])[-3:]
        return len(data)

    def _parse(self, data: bytes, end: int) -> None:
        assert self._parser is not None
        self._overhead += end
        try:
            self._parser.feed_data(data if end == len(data) else memoryview(data)[:end])
        except httptools.HttpParserUpgrade:
            # Upgrades are not taken: the request is answered as if it had not asked.
            self.keep_alive = False
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from error
        except httptools.HttpParserError as error:
            raise _bad(str(error)) from error
        if self._overhead > self._limits.max_header_bytes:
            limit = f"{self._limits.max_header_bytes} bytes (server.max_header_bytes)"
            raise ProxyError("head_too_large", f"The request's head is larger than {limit}.")
        if self.refusal is not None:
            raise self.refusal.anew()

    # What llhttp calls.

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers belong to this hop.
        if not self.head_read:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.head_read = True
        parser = self._parser
        assert parser is not None
        self.method = parser.get_method().decode()
        self.keep_alive = parser.should_keep_alive()
        self.header = by_name(self.headers)
        version = parser.get_http_version()
        self.http10 = version == "1.0"
        self.refusal = self._fault(version, upgrade=parser.should_upgrade())
        if "content-length" in self.header and self.refusal is None:
            self._left = int(self.header["content-length"])

    def on_body(self, part: bytes) -> None:
        self._overhead = 0
        self._size += len(part)
        self.parts.append(part)
        if self._size > self._limits.max_body_bytes:
            self.refusal = self._too_large()

    def on_message_complete(self) -> None:
        self.whole = self._left <= 0

    def _fault(self, version: str, *, upgrade: bool) -> ProxyError | None:
        """What llhttp lets pass and a proxy must not: two servers might read it differently."""
        header = self.header
        coding = header.get("transfer-encoding", "chunked").lower()
        if version not in ("1.0", "1.1"):
            return _bad(f"Version {version} is not supported")
        if len(header) < len(self.headers) and self._repeats(b"host", b"content-type"):
            return _bad("Host and Content-Type must not be repeated")
        if "host" not in header and not self.http10:
            return _bad("There is no Host header")
        if coding != "chunked" or (self.http10 and "transfer-encoding" in header):
            return _bad("The only transfer coding is chunked, of HTTP/1.1")
        if upgrade and "transfer-encoding" in header:
            return _bad("A request for another protocol cannot be chunked")
        path = self.target.startswith((b"/", b"http://", b"https://")) or self.target == b"*"
        # Engines cut a fragment off: they would serve another path than the one checked here.
        if not path or b"#" in self.target:
            return _bad("The target must be a path without a fragment")
        if len(self.headers) > _HEADERS_MAX:
            return ProxyError("head_too_large", f"There are more than {_HEADERS_MAX} headers.")
        if int(header.get("content-length", "0")) > self._limits.max_body_bytes:
            return self._too_large()
        return None

    def _repeats(self, *names: bytes) -> bool:
        given = [LOWERED[name] for name, _ in self.headers]
        return any(given.count(name) > 1 for name in names)

    def _too_large(self) -> ProxyError:
        limit = f"{self._limits.max_body_bytes} bytes (server.max_body_bytes)"
        return ProxyError("body_too_large", f"The body is larger than {limit}.")


def _bad(why: str) -> ProxyError:
    return ProxyError("bad_request", f"The request is not proper HTTP/1.1: {why}.")
