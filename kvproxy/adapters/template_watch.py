"""Asks replicas, off the request's path, what their templates print of the traits that bodies have.

Each is asked once about each, and again after it was away: what comes back may be another version.
"""

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import aiohttp

from kvproxy.background import keep
from kvproxy.core.replica import Replica
from kvproxy.core.tokenise import Question
from kvproxy.core.unprinted import Unprinted, conversation

log = logging.getLogger("kvproxy.tokens")

TokensOf = Callable[[Replica, Question], Awaitable["array[int]"]]
# A replica that does not answer so often cannot say.
_TRIES = 3
# What is asked for at the start is waited for so long.
_START_S = 5.0


class TemplateWatch:
    """Tells `unprinted`. It looks for replicas that came every `interval_s`, and at once when a
    trait is met."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        unprinted: Unprinted,
        tokens_of: TokensOf,
        *,
        interval_s: float,
    ) -> None:
        self._replicas = replicas
        self._unprinted = unprinted
        self._tokens_of = tokens_of
        self._interval_s = interval_s
        self._met = asyncio.Event()
        self._looked = asyncio.Event()
        self._failed: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        unprinted.wake = self._met.set

    async def start(self) -> None:
        """Returns when every replica that is up was asked once, or is too slow to wait for."""
        if not self._unprinted.asking:
            return
        self._task = keep("templates", self._watch)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), _START_S)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self._met.clear()
            await self._look()
            self._looked.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._met.wait(), self._interval_s)

    async def _look(self) -> None:
        here = {each.id for each in self._replicas}
        self._failed = {name: times for name, times in self._failed.items() if name in here}
        await asyncio.gather(*(self._ask(each) for each in self._replicas if each.up))
        before = self._unprinted.traits
        self._unprinted.settle([each.id for each in self._replicas if each.up])
        for trait in self._unprinted.traits - before:
            log.info("templates do not print %s: it counts no more", _named(trait))
        # Those that made room for others are not wanted any more.
        for trait in (before - self._unprinted.traits) & self._unprinted.wanted.keys():
            log.warning("a template prints %s: it counts again", _named(trait))

    async def _ask(self, replica: Replica) -> None:
        traits = self._unprinted.unasked(replica.id)
        if not traits:
            return
        model = replica.models[0] if replica.models else ""
        try:
            plain = {
                thinks: await self._tokens(replica, conversation(model, thinks=thinks))
                for thinks in {"\0" in trait for trait in traits}
            }
            for trait in traits:
                # A value may decide about thoughts alone.
                without = plain[thinks := "\0" in trait]
                found = without and await self._tokens(
                    replica, conversation(model, trait, thinks=thinks)
                )
                self._unprinted.told(replica.id, trait, printed=not found or without != found)
        except (aiohttp.ClientError, TimeoutError):
            failed = self._failed[replica.id] = self._failed.get(replica.id, 0) + 1
            if failed < _TRIES:
                return
            for trait in self._unprinted.unasked(replica.id):
                self._unprinted.told(replica.id, trait, printed=True)
        self._failed.pop(replica.id, None)

    async def _tokens(self, replica: Replica, body: bytes | None) -> "array[int] | None":
        """None where it has no /tokenize, or refuses such a conversation."""
        if body is None:
            return None
        try:
            return await self._tokens_of(replica, Question("/tokenize", body))
        except ValueError as error:
            log.debug("what the template of %s prints cannot be told: %s", replica.id, error)
            return None


def _named(trait: str) -> str:
    """Without what clients wrote."""
    name, _, value = trait.partition("\0")
    return f"{name} (a value of {len(value)} characters)" if value else name
