"""The connection to the store: whether it is there, and what it takes in one round trip."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from kvproxy.adapters.store.scripts import ACQUIRE, COMMIT, SPELL

# A store that answers no question in time this often in a row is left alone until it is well.
_LATE_MAX = 3
_CONNECTIONS_MAX = 16
_READY_CONNECTIONS = 4
_SOCKET_TIMEOUT_S = 1.0

FAILURES = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)
Command = tuple[Any, ...]
log = logging.getLogger("kvproxy.store")


@dataclass(frozen=True, slots=True)
class Address:
    """`url` is redis://, rediss:// or unix://, without credentials."""

    url: str
    username: str | None = None
    password: str | None = None


async def end(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel them and wait until they are done. A command that is cut off may end in an error of
    its connection instead, which a task that lives with those takes for one: so once may be too
    little."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)


class Link:
    """`up` says whether questions are worth asking; `changed` is told when that changes."""

    def __init__(self, address: Address, changed: Callable[[bool], None]) -> None:
        pool = BlockingConnectionPool.from_url(
            address.url,
            max_connections=_CONNECTIONS_MAX,
            timeout=_SOCKET_TIMEOUT_S,
            username=address.username,
            password=address.password,
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis(connection_pool=pool)
        self._shown = address.url
        self._changed = changed
        self._late = 0
        self._asked: set[asyncio.Future[Any]] = set()
        self.up = False

    async def close(self) -> None:
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self._client.aclose(close_connection_pool=True)

    async def ask(self, command: Command, deadline_s: float) -> Any:
        """One command, of which the answer is worth nothing later than that; raises FAILURES.

        A late one is waited for all the same, since cutting it off would cost its connection.
        """
        task = asyncio.ensure_future(self._run(*command))
        self._asked.add(task)
        task.add_done_callback(self._answered)
        try:
            await asyncio.wait({task}, timeout=deadline_s)
            if not task.done():
                raise TimeoutError
            answer = task.result()
        except NoScriptError:
            self.went_down("it has lost its scripts")
            raise
        except FAILURES as error:
            self._late += 1
            if self._late >= _LATE_MAX or not isinstance(error, TimeoutError):
                self.went_down(f"{_LATE_MAX} questions late" if not str(error) else str(error))
            raise
        self._late = 0
        return answer

    def _answered(self, task: "asyncio.Future[Any]") -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()

    async def _run(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """All in one round trip; an answer may be an exception. Raises FAILURES."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def open(self) -> None:
        """Ready the store for commands; it is up from then on. Raises FAILURES."""
        if not self.up:
            # Those made to the server as it was before.
            await self._client.connection_pool.disconnect(inuse_connections=False)
        for script in (ACQUIRE, COMMIT, SPELL):
            await self._run("SCRIPT LOAD", script)
        # Questions have no time to make connections.
        await asyncio.gather(*(self._run("PING") for _ in range(_READY_CONNECTIONS)))
        self._late = 0
        if not self.up:
            self.up = True
            log.info("store %s is there", self._shown)
            self._changed(True)

    def went_down(self, why: str) -> None:
        if self.up:
            self.up = False
            log.error(
                "store %s is not there (%s): placing by own knowledge and rendezvous",
                self._shown,
                why,
            )
            self._changed(False)

    def listener(self) -> PubSub:
        return self._client.pubsub(ignore_subscribe_messages=True)
