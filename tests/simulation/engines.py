"""Engines that fail on schedule, seen from the proxy's side of the wire."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from kvproxy.core.errors import ProxyError
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement
from kvproxy.proxy import Headers

PREFILL_TOK_S = 2000.0
ITL_S = 0.05


@dataclass(eq=False)
class Engine:
    """One engine's condition. `refuses`: a status that it answers everything with."""

    alive: bool = True
    stalled: bool = False
    refuses: int = 0
    work: float = 0.0
    began: float = 0.0
    running: int = 0
    attempts: list["Attempt"] = field(default_factory=list)

    def crash(self) -> None:
        self.alive = False
        for attempt in list(self.attempts):
            attempt.broke.set()

    def restart(self, now: float) -> None:
        if not self.alive:
            self.alive, self.stalled, self.refuses, self.began = True, False, 0, now

    def stall(self) -> None:
        self.stalled = self.alive


@dataclass(eq=False)
class Attempt:
    """A request inside an engine, until it answers or breaks."""

    engine: Engine
    broke: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, seconds: float) -> None:
        """Takes so long, for ever in a stalled engine; raises ConnectionError when it breaks."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            left = end - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(0.0, left) if not self.engine.stalled else 1.0):
                    await self.broke.wait()
            except TimeoutError:
                if not self.engine.stalled:
                    self.engine.work += 1
                    return
            else:
                raise ConnectionError


@dataclass
class Answering:
    attempt: Attempt
    tokens: int
    status: int = 200
    headers: Headers = ()

    async def relay(self, feed: Callable[[bytes], None], exchange: object) -> None:
        if self.status != 200:
            feed(b"{}")
            return
        try:
            for _ in range(self.tokens):
                feed(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
                await self.attempt.work(ITL_S)
            feed(b"data: [DONE]\n\n")
        except ConnectionError:
            raise ProxyError("upstream_broke", "it crashed") from None


class Wire:
    """The upstream port in front of the engines."""

    def __init__(self, engines: dict[str, Engine], random: Random) -> None:
        self.engines = engines
        self._random = random

    def abandon(self, replica: Replica) -> None:
        for attempt in list(self.engines[replica.id].attempts):
            attempt.broke.set()

    @asynccontextmanager
    async def open(
        self, placement: Placement, exchange: object, body: bytes
    ) -> AsyncIterator[Answering]:
        engine = self.engines[placement.replica.id]
        await asyncio.sleep(0.001)
        if not engine.alive:
            raise ProxyError("upstream_unreachable", "refused", retry_after_s=1.0)
        attempt = Attempt(engine)
        engine.attempts.append(attempt)
        engine.running += 1
        try:
            if not engine.refuses:
                miss = placement.placing.prompt_tokens - placement.placing.match.tokens
                try:
                    await attempt.work(max(1, miss) / PREFILL_TOK_S)
                except ConnectionError:
                    raise ProxyError("upstream_lost", "it crashed", retry_after_s=1.0) from None
            tokens = self._random.randint(1, 60)
            yield Answering(attempt, tokens, engine.refuses or 200)
        finally:
            engine.attempts.remove(attempt)
            engine.running -= 1
