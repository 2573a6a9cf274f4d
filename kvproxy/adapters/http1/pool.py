"""Connections to replicas: kept while they are fresh, never capped, newest first.

An engine closes an idle connection after a few seconds (vLLM: 5) and a request may cross that
close on the wire. So an idle connection is dropped before that.
"""

import asyncio
import errno
import ssl
from collections import deque
from urllib.parse import urlsplit

from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.link import Link
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError

# Too many open files, or no memory for a socket.
_NO_ROOM_HERE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Origin:
    """Where a replica's URL leads: what is connected to, and what its requests say."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname, url
        self.name = parts.hostname
        https = parts.scheme == "https"
        self.tls = tls or ssl.create_default_context() if https else None
        self.port = parts.port or (443 if self.tls else 80)
        self.host = parts.netloc.rpartition("@")[2].encode()
        self.prefix = parts.path.rstrip("/")


class Pool:
    """The connections to one replica."""

    def __init__(
        self,
        replica: str,
        origin: Origin,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        keepalive_s: float,
        deadlines: Deadlines,
        turns: Turns | None = None,
    ) -> None:
        self.origin = origin
        self._replica = replica
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._keepalive_s = keepalive_s
        self._deadlines = deadlines
        self._turns = turns
        # The longest idle first.
        self._idle: deque[Link] = deque()
        self._closed = False

    def close(self) -> None:
        """Nothing is kept from now on; what is in use is closed after it."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def idle(self, *, fresh: bool = False) -> Link | None:
        """One that waits for a request; None if there is none or `fresh` forbids it."""
        oldest = asyncio.get_running_loop().time() - self._keepalive_s
        while self._idle and not fresh:
            link = self._idle.pop()
            if link.idle_since > oldest and not link.closing:
                link.deadline = float("inf")
                return link
            link.close()
        return None

    def give_back(self, link: Link) -> None:
        """Kept for the next request if the answer was read to its end, closed otherwise."""
        if not self._closed and link.rest():
            link.deadline = link.idle_since + self._keepalive_s
            # Those that ended meanwhile: nobody takes them from below as long as there are newer.
            while self._idle and self._idle[0].closing:
                self._idle.popleft()
            self._idle.append(link)
        else:
            link.close()

    async def connect(self) -> Link:
        """Raises ProxyError upstream_unreachable, or overloaded for what is no fault of the
        replica's."""
        loop, origin = asyncio.get_running_loop(), self.origin
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, link = await loop.create_connection(
                    lambda: Link(self._replica, self._idle_timeout_s, self._deadlines, self._turns),
                    origin.name,
                    origin.port,
                    ssl=origin.tls,
                )
        except (OSError, TimeoutError) as error:
            if error.errno in _NO_ROOM_HERE:
                ours = f"kvproxy has no room for another connection ({error.strerror})."
                raise ProxyError("overloaded", ours, retry_after_s=1.0) from error
            kind = type(error).__name__
            raise ProxyError(
                "upstream_unreachable",
                f"Replica {self._replica} cannot be reached ({kind}).",
                retry_after_s=1.0,
            ) from error
        return link
