"""One request out of a connection's bytes. No IO: bytes in, head and body parts out.

llhttp reads the head and chunked bodies, in its strict mode. It never sees a byte behind the
message: heads and chunked bodies end at an empty line, so they are fed up to the next one; a body
of stated length is counted and kept as it was received.
"""

import re
from dataclasses import dataclass, replace

import httptools

from kvproxy.adapters.http1.edge import FORWARDED
from kvproxy.adapters.http1.known import (
    LASTING_BYTES_MAX,
    LASTING_HEADERS_MAX,
    Head,
    KnownHeads,
)
from kvproxy.core.access import path_of
from kvproxy.core.errors import ProxyError
from kvproxy.core.headers import LOWERED, by_name, request_id_of
from kvproxy.core.pieces import BYTES_MIN, Body, Hashing, received
from kvproxy.core.upgrade import asks_for_websocket

_EMPTY_LINE = b"\r\n\r\n"
# So many parts of a body may lie loose: each has its own object, which for a chunk of two bytes is
# more than twenty times as large.
_LOOSE_MAX = 1024
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
    """`head` is there once it is read, and `whole` tells of the body; `refusal` why that will not
    be taken."""

    head: Head | None = None
    whole = False
    refusal: ProxyError | None = None
    # It refers back to this object: dropped at the end, or only the collector would find both.
    _parser: httptools.HttpRequestParser | None = None
    _target = b""
    _lasting = False
    # What is still to come of a body of stated length; -1 where none is stated.
    _left = -1
    # Of a large one.
    _hashing: Hashing | None = None
    _size = 0
    # Bytes fed, in all and since the last one of a body: heads, chunk extensions and trailers are
    # bounded, and how small chunks may be.
    _fed = _overhead = 0
    # Parts in front that are joined already.
    _joined = 0
    _seam = b""

    def __init__(self, limits: Limits, known: KnownHeads) -> None:
        self.parts: list[bytes | memoryview] = []
        self._limits = limits
        self._known = known

    def abandon(self) -> None:
        """Nothing more of it will come."""
        self._parser = None

    def feed(self, data: bytes) -> bytes:
        """Takes what belongs to this request; returns what is behind it.

        Raises ProxyError bad_request, head_too_large, body_too_large: nothing can be read after it.
        """
        at, size = 0, len(data)
        while at < size and not self.whole:
            if self._left < 0:
                end = self._end(data, at)
                self._read(data, at, end)
            else:
                end = min(at + self._left, size)
                # What is cut out of a part is not copied before the body is joined, if ever.
                part = data if end - at == size else memoryview(data)[at:end]
                self.parts.append(part)
                if self._left >= BYTES_MIN and self._hashing is None:
                    self._hashing = Hashing()
                if self._hashing is not None:
                    self._hashing.add(part)
                self._left -= end - at
                self.whole = not self._left
            at = end
        if self.whole:
            self._parser = None
        return data[at:]

    def body(self) -> Body:
        """Of a whole request, once. It is not copied where it came alone or is large."""
        parts, self.parts = self.parts, []
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        hashing = self._hashing
        return received(parts, hashing) if hashing is not None else b"".join(parts)

    def begun(self) -> Head:
        """What is known of a request whose head will not be read."""
        target = _origin_form(self._target.decode("latin-1"))
        return Head("", target, target.partition("?")[0], (), {}, "", keep_alive=False)

    def _read(self, data: bytes, at: int, end: int) -> None:
        """A head, or what there is of it, or chunks."""
        if self._parser is not None:
            self._parse(data, at, end)
        elif end > self._limits.max_header_bytes or not self._recall(data, end):
            self._begin(data, end)
        if self.refusal is not None:
            raise self.refusal.anew()

    def _recall(self, data: bytes, end: int) -> bool:
        """Whether this is a head that was read before: then it need not be read."""
        found = self._known.find(data, end)
        if found is None:
            return False
        self.head, self._left = found
        self.whole = not self._left
        if self._left > self._limits.max_body_bytes:
            self.refusal = self._too_large()
        return True

    def _begin(self, data: bytes, end: int) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)
        self._parse(data, 0, end)
        if self._lasting and self.head is not None and self.refusal is None:
            self._known.add(data, end, self.head)

    def _end(self, data: bytes, at: int) -> int:
        """Where the next empty line ends, which may have begun in what was fed before."""
        seam, self._seam = self._seam, b""
        if seam:
            across = (seam + data[:3]).find(_EMPTY_LINE)
            if across >= 0:
                return across + len(_EMPTY_LINE) - len(seam)
        found = data.find(_EMPTY_LINE, at)
        if found >= 0:
            return found + len(_EMPTY_LINE)
        self._seam = (seam + data[max(at, len(data) - 3) :])[-3:]
        return len(data)

    def _parse(self, data: bytes, at: int, end: int) -> None:
        assert self._parser is not None
        self._overhead += end - at
        self._fed += end - at
        try:
            self._parser.feed_data(data if end - at == len(data) else memoryview(data)[at:end])
        except httptools.HttpParserUpgrade:
            # Upgrades are not taken: the request is answered as if it had not asked.
            assert self.head is not None
            self.head = replace(self.head, keep_alive=False)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from error
        except httptools.HttpParserError as error:
            raise _bad(str(error)) from error
        if self._overhead > self._limits.max_header_bytes:
            limit = f"{self._limits.max_header_bytes} bytes (server.max_header_bytes)"
            raise ProxyError("head_too_large", f"The request's head is larger than {limit}.")
        most = 2 * self._size + self._limits.max_header_bytes
        if self._fed > most and self.refusal is None:
            raise _bad("There is more framing than body: send larger chunks")

    # What llhttp calls.

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers belong to this hop.
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, header = self._parser, by_name(self._headers)
        assert parser is not None
        version, upgrade = parser.get_http_version(), parser.should_upgrade()
        self.refusal = self._fault(header, version, upgrade=upgrade)
        if "content-length" in header and self.refusal is None:
            self._left = int(header["content-length"])
        few = len(self._headers) <= LASTING_HEADERS_MAX and self._overhead <= LASTING_BYTES_MAX
        self._lasting = few and self._left >= 0 and "upgrade" not in header and not upgrade
        self.head = self._said(parser, header, http10=version == "1.0")

    def _said(
        self, parser: httptools.HttpRequestParser, header: dict[str, str], *, http10: bool
    ) -> Head:
        method = parser.get_method().decode()
        asked = "upgrade" in header and not http10
        tunnels = asked and asks_for_websocket(method, self._headers, header)
        header.pop("content-length", None)
        headers = [pair for pair in self._headers if LOWERED[pair[0]] != b"content-length"]
        target = _origin_form(self._target.decode("latin-1"))
        return Head(
            method,
            target,
            path_of(target),
            tuple(headers) if self._lasting else headers,
            header,
            request_id_of(header.get("x-request-id", "")),
            keep_alive=parser.should_keep_alive(),
            http10=http10,
            claims=not FORWARDED.isdisjoint(header),
            tunnels=tunnels,
        )

    def on_body(self, part: bytes) -> None:
        self._overhead = 0
        self._size += len(part)
        parts = self.parts
        parts.append(part)
        if len(parts) - self._joined > _LOOSE_MAX:
            parts[self._joined :] = [b"".join(parts[self._joined :])]
            self._joined += 1
        if self._size > self._limits.max_body_bytes:
            self.refusal = self._too_large()

    def on_message_complete(self) -> None:
        self.whole = self._left <= 0

    def _fault(self, header: dict[str, str], version: str, *, upgrade: bool) -> ProxyError | None:
        """What llhttp lets pass and a proxy must not: two servers might read it differently."""
        http10 = version == "1.0"
        coding = header.get("transfer-encoding", "chunked").lower()
        if version not in ("1.0", "1.1"):
            return _bad(f"Version {version} is not supported")
        if len(header) < len(self._headers) and self._repeats(b"host", b"content-type"):
            return _bad("Host and Content-Type must not be repeated")
        if "host" not in header and not http10:
            return _bad("There is no Host header")
        if coding != "chunked" or (http10 and "transfer-encoding" in header):
            return _bad("The only transfer coding is chunked, of HTTP/1.1")
        if upgrade and "transfer-encoding" in header:
            return _bad("A request for another protocol cannot be chunked")
        path = self._target.startswith((b"/", b"http://", b"https://")) or self._target == b"*"
        # Engines cut a fragment off: they would serve another path than the one checked here.
        if not path or b"#" in self._target:
            return _bad("The target must be a path without a fragment")
        if len(self._headers) > _HEADERS_MAX:
            return ProxyError("head_too_large", f"There are more than {_HEADERS_MAX} headers.")
        if int(header.get("content-length", "0")) > self._limits.max_body_bytes:
            return self._too_large()
        return None

    def _repeats(self, *names: bytes) -> bool:
        given = [LOWERED[name] for name, _ in self._headers]
        return any(given.count(name) > 1 for name in names)

    def _too_large(self) -> ProxyError:
        limit = f"{self._limits.max_body_bytes} bytes (server.max_body_bytes)"
        return ProxyError("body_too_large", f"The body is larger than {limit}.")


def _bad(why: str) -> ProxyError:
    return ProxyError("bad_request", f"The request is not proper HTTP/1.1: {why}.")


def _origin_form(target: str) -> str:
    """Path and query of a request target; clients of forward proxies send whole URLs."""
    if target.startswith("/"):
        return target
    _, _, after_scheme = target.partition("://")
    slash = re.search(r"[/?]", after_scheme)
    found = after_scheme[slash.start() :] if slash else ""
    return found if found.startswith("/") else "/" + found
