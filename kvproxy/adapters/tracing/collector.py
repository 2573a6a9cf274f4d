"""A collector that takes OTLP over HTTP: messages go out, and again where that may help."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from kvproxy.adapters.tracing.outbox import Taken
from kvproxy.core.spent import spent

# What the protocol says to try again; anything else is final.
_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_DELAY_S = 0.25
_ANSWER_BYTES_MAX = 64 * 2**10
_SAID_MAX = 200


@dataclass(slots=True)
class Collector:
    """`read` understands what it says with a 200. `timeout_s` bounds all tries of one message."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float
    tls: ssl.SSLContext
    read: Callable[[bytes], Taken]
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    async def post(self, body: bytes) -> Taken:
        """Never raises for what the collector or the network does."""
        loop = asyncio.get_running_loop()
        until, delay_s = loop.time() + self.timeout_s, _FIRST_DELAY_S
        why = ""
        while True:
            try:
                async with asyncio.timeout_at(until):
                    taken, why, asked_s = await self._try(body)
                    if taken is not None:
                        return taken
            except TimeoutError:
                return Taken(None, why or f"no answer within {self.timeout_s:g} s")
            except (aiohttp.ClientError, OSError) as error:
                why, asked_s = str(error) or type(error).__name__, None
                spent(error)
            wait_s = delay_s if asked_s is None else asked_s
            if loop.time() + wait_s >= until:
                return Taken(None, why)
            await asyncio.sleep(wait_s)
            delay_s *= 2

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _try(self, body: bytes) -> tuple[Taken | None, str, float | None]:
        """What became of it, or None, why it failed, and after how long to try again if told."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=2, ssl=self.tls)
            self._session = aiohttp.ClientSession(connector=connector)
        async with self._session.post(
            self.url, data=body, headers=self.headers, allow_redirects=False
        ) as answer:
            said = await answer.content.read(_ANSWER_BYTES_MAX)
            if answer.status == 200:
                return self.read(said), "", None
            text = said[:_SAID_MAX].decode("ascii", "replace")
            shown = "".join(each for each in text if each.isprintable())
            why = f"it answers {answer.status} {shown}".strip()
            if answer.status not in _AGAIN:
                return Taken(None, why), why, None
            return None, why, _seconds(answer.headers.get("retry-after", ""))


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
