"""Telling the store: bindings, first spellings, prefixes and loads, many in one round trip."""

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvproxy.adapters.store.link import FAILURES, Command, Link
from kvproxy.adapters.store.outbox import Outbox
from kvproxy.adapters.store.scripts import COMMIT, SPELL, Names, sha
from kvproxy.core.bindings import Bindings, Owed
from kvproxy.core.representatives import First
from kvproxy.core.shared_words import (
    Bound,
    Lessons,
    Loads,
    Mark,
    Spelt,
    Told,
    WordError,
    bound_bytes,
    bound_from,
    lessons_bytes,
    loads_bytes,
    spelt_bytes,
    told_head,
)
from kvproxy.core.types import Learned

HEARTBEAT_S = 1.0
_TICK_S = 0.05
_RETRY_S = 0.5
_BATCH = 128
_COMMIT, _SPELL = sha(COMMIT), sha(SPELL)
_PREFIX = struct.Struct("<QId")
log = logging.getLogger("kvproxy.store")


@dataclass(frozen=True, slots=True)
class Terms:
    """How long the store keeps things, in milliseconds, and how many of them."""

    names: Names
    binding_ms: int
    spelling_ms: int
    spellings_max: int
    prefixes_max: int


@dataclass(slots=True)
class Counts:
    taken: int = 0
    refused: int = 0
    failed: int = 0


class Writer:
    """put_…() return at once. `heard` is told what the store made of what it was sent."""

    def __init__(
        self,
        link: Link,
        terms: Terms,
        bindings: Bindings,
        loads: Callable[[float], Loads],
        heard: Callable[[Told | Spelt], None],
    ) -> None:
        self._link = link
        self._terms = terms
        self._known = bindings
        self._loads = loads
        self._heard = heard
        self._work = asyncio.Event()
        self._bound: Outbox[bytes, Owed] = Outbox(10 * _BATCH)
        self._spelt: Outbox[tuple[bytes, bytes], First] = Outbox(terms.spellings_max)
        self._prefixes: Outbox[bytes, None] = Outbox(terms.prefixes_max)
        self._lessons: deque[Learned] = deque(maxlen=_BATCH)
        self._last_loads: Loads | None = None
        self._told_at = 0.0
        self.counts = Counts()

    def put_lesson(self, lesson: Learned) -> None:
        """Worth telling while it is fresh; never worth keeping."""
        self._lessons.append(lesson)
        self._work.set()

    @property
    def waiting(self) -> int:
        return len(self._bound) + len(self._spelt) + len(self._prefixes)

    @property
    def dropped(self) -> int:
        return self._bound.dropped + self._spelt.dropped + self._prefixes.dropped

    def room_for(self, sessions: int) -> None:
        """So many bindings may be owed while the store is away."""
        self._bound = Outbox(max(sessions, _BATCH))

    def put_binding(self, key: bytes, owed: Owed) -> None:
        self._bound.put(key, owed)
        bound = owed.bound
        if bound.marks:
            # The shortest mark may be that of a head which many conversations have.
            self._prefixes.put(prefix_bytes(bound.replica, bound.marks[0], bound.process), None)
        self._work.set()

    def put_spelling(self, first: First) -> None:
        self._spelt.put((first.scope, first.digest), first)
        self._work.set()

    async def run(self) -> None:
        """For ever: what waits is sent as soon as the round trip before it is done."""
        while True:
            try:
                if not self._link.up:
                    await self._link.open()
                await self._send()
            except FAILURES as error:
                self.counts.failed += 1
                self._link.went_down(repr(error))
                await asyncio.sleep(_RETRY_S)
                continue
            self._work.clear()
            if not self.waiting:
                try:
                    async with asyncio.timeout(_TICK_S):
                        await self._work.wait()
                except TimeoutError:
                    pass

    async def _send(self) -> None:
        bound, spelt = self._bound.take(_BATCH), self._spelt.take(_BATCH)
        prefixes = self._prefixes.take(_BATCH)
        now = time.monotonic()
        commands = [self._commit(key, each, now) for key, each in bound]
        commands += [self._spell(first) for _, first in spelt]
        commands += self._note_prefixes([member for member, _ in prefixes])
        commands += self._tell_loads(now)
        commands += self._tell_lessons()
        if not commands:
            return
        try:
            answers = await self._link.send(commands)
            self._raise_lost(answers)
        except BaseException:
            self._bound.give_back(bound)
            self._spelt.give_back(spelt)
            self._prefixes.give_back(prefixes)
            raise
        for (key, owed), answer in zip(bound, answers, strict=False):
            self._committed(key, owed.bound, answer)
        for (_, first), answer in zip(spelt, answers[len(bound) :], strict=False):
            if isinstance(answer, bytes):
                self._heard(Spelt(first.scope, first.digest, answer))

    def _raise_lost(self, answers: list[Any]) -> None:
        """A store that was restarted knows no scripts: all is sent again once it does."""
        for answer in answers:
            if isinstance(answer, FAILURES):
                raise answer

    def _committed(self, key: bytes, sent: Bound, answer: Any) -> None:
        try:
            version = int(answer[0])
            kept = bound_from(answer[1]) if len(answer) > 1 else None
        except (WordError, ValueError, TypeError, IndexError) as error:
            log.warning("the store answered what no proxy wrote: %s", error)
            return
        if kept is None:
            self.counts.taken += 1
        else:
            self.counts.refused += 1
        for told in self._known.decided(key, sent, version, kept):
            self._heard(told)

    def _commit(self, key: bytes, owed: Owed, now: float) -> Command:
        names, age_ms = self._terms.names, round(1000 * (now - owed.at))
        values = (owed.version, owed.writer, self._known.origin, bound_bytes(owed.bound), age_ms)
        told = (self._terms.binding_ms, names.channel, told_head(key))
        return ("EVALSHA", _COMMIT, 1, names.binding(key), *values, *told)

    def _spell(self, first: First) -> Command:
        terms, names = self._terms, self._terms.names
        keys = (names.spelling(first.scope, first.digest), names.spellings)
        kept = (first.spelling, terms.spelling_ms, int(time.time()), terms.spellings_max)
        return ("EVALSHA", _SPELL, 2, *keys, *kept, names.channel, spelt_bytes(Spelt(*first)))

    def _note_prefixes(self, members: list[bytes]) -> list[Command]:
        if not members:
            return []
        key, now = self._terms.names.prefixes, int(time.time())
        scored = [part for member in members for part in (now, member)]
        trim = ("ZREMRANGEBYRANK", key, 0, -self._terms.prefixes_max - 1)
        return [("ZADD", key, *scored), trim]

    def _tell_loads(self, now: float) -> list[Command]:
        """When they changed, and often enough to be known to be there."""
        loads = self._loads(now)
        if loads == self._last_loads and now - self._told_at < HEARTBEAT_S:
            return []
        self._last_loads, self._told_at = loads, now
        return [("PUBLISH", self._terms.names.channel, loads_bytes(loads))]

    def _tell_lessons(self) -> list[Command]:
        if not self._lessons:
            return []
        lessons = Lessons(self._known.origin, tuple(self._lessons))
        self._lessons.clear()
        return [("PUBLISH", self._terms.names.channel, lessons_bytes(lessons))]


def prefix_bytes(replica: str, mark: Mark, process: float) -> bytes:
    """A mark of what `replica` was sent; `process`: see Bound."""
    return _PREFIX.pack(mark.hash, mark.blocks, process) + replica.encode()


def prefix_from(member: bytes) -> tuple[str, Mark, float]:
    """Raises WordError."""
    try:
        digest, blocks, process = _PREFIX.unpack_from(member)
        return member[_PREFIX.size :].decode(), Mark(blocks, digest), process
    except (struct.error, UnicodeDecodeError) as error:
        raise WordError(str(error)) from None
