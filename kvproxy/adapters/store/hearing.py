"""Hearing what other proxies tell, and catching up on what was told before."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio.client import PubSub

from kvproxy.adapters.store.link import FAILURES, Command, Link
from kvproxy.adapters.store.scripts import Names
from kvproxy.adapters.store.writer import HEARTBEAT_S, prefix_from
from kvproxy.core.shared_words import Mark, Spelt, Word, WordError, message_from

_RETRY_S = 0.5
# Own heartbeats come back too, so silence means that the connection is dead.
_SILENCE_MAX_S = 4 * HEARTBEAT_S
_PAGE = 256

log = logging.getLogger("kvproxy.store")


class Hearing:
    """`told` and `sent` are called in the loop; `deaf` each time that messages may have been
    missed, before what was told meanwhile is caught up on."""

    def __init__(
        self,
        link: Link,
        names: Names,
        told: Callable[[Word], None],
        sent: Callable[[str, Mark, float], None],
        deaf: Callable[[], None],
    ) -> None:
        self._link = link
        self._names = names
        self._told = told
        self._sent = sent
        self._deaf = deaf
        self.hears = False
        self.messages = 0
        self.refused = 0
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                async with self._subscribed() as listener:
                    self._deaf()
                    await self._catch_up()
                    self.hears = True
                    self.caught_up.set()
                    await self._listen(listener)
            except FAILURES as error:
                log.log(logging.WARNING if self.hears else logging.DEBUG, "deaf: %r", error)
            finally:
                self.hears = False
            await asyncio.sleep(_RETRY_S)

    @contextlib.asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        listener = self._link.listener()
        try:
            await listener.subscribe(self._names.channel)
            yield listener
        finally:
            with contextlib.suppress(*FAILURES):
                await listener.aclose()  # type: ignore[no-untyped-call]

    async def _listen(self, listener: PubSub) -> None:
        heard_at = time.monotonic()
        while time.monotonic() - heard_at <= _SILENCE_MAX_S:
            message = await listener.get_message(timeout=HEARTBEAT_S)
            if message is not None:
                heard_at = time.monotonic()
                self._hear(message["data"])
        raise TimeoutError("nothing was heard, not even this proxy's own word")

    def _hear(self, data: object) -> None:
        self.messages += 1
        try:
            if not isinstance(data, bytes):
                raise WordError("no bytes")
            self._told(message_from(data))
        except WordError as error:
            self.refused += 1
            log.debug("a message was refused: %s", error)

    async def _catch_up(self) -> None:
        """Spellings and prefixes, the latest used last; bindings are asked for one by one."""
        names, send = self._names, self._answers
        everything = [("ZRANGE", names.spellings, 0, -1), ("ZRANGE", names.prefixes, 0, -1)]
        keys, members = await send(everything)
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            [spellings] = await send([("MGET", *page)])
            for key, spelling in zip(page, spellings, strict=True):
                if spelling is not None:
                    self._spelt(key, spelling)
        for member in members:
            with contextlib.suppress(WordError):
                self._sent(*prefix_from(member))

    async def _answers(self, commands: Sequence[Command]) -> list[Any]:
        """Raises FAILURES, also where the store refuses: it may be loading what it had."""
        answers = await self._link.send(commands)
        for answer in answers:
            if isinstance(answer, FAILURES):
                raise answer
        return answers

    def _spelt(self, key: bytes, spelling: bytes) -> None:
        try:
            _, scope, digest = key.rsplit(b":", 2)
            spelt = Spelt(bytes.fromhex(scope.decode()), bytes.fromhex(digest.decode()), spelling)
        except ValueError:
            self.refused += 1
            return
        self._told(spelt)
