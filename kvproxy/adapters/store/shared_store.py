"""What this proxy tells the others through the store, and what it takes from them.

Every binding, first spelling and load is passed on to all proxies as it is made, so a request waits
for the store only when its conversation was never heard of, one round trip and no longer than the
deadline. Without the store each proxy goes by what it knows; on return it tells what it did.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from kvproxy.adapters.store.hearing import Hearing
from kvproxy.adapters.store.link import FAILURES, Address, Command, Link, end
from kvproxy.adapters.store.scripts import ACQUIRE, Names, sha
from kvproxy.adapters.store.writer import HEARTBEAT_S, Terms, Writer
from kvproxy.background import keep
from kvproxy.core import peer_knowledge
from kvproxy.core.bindings import Bindings
from kvproxy.core.errors import ProxyError
from kvproxy.core.heard import Heard
from kvproxy.core.peer_loads import PeerLoads, own_loads
from kvproxy.core.representatives import First, Representatives
from kvproxy.core.router import Placement, Router
from kvproxy.core.shared_words import (
    Bound,
    Lessons,
    Loads,
    Mark,
    Told,
    Word,
    WordError,
    bound_bytes,
    bound_from,
    marks_of,
    session_key,
)
from kvproxy.core.types import Chain, Identity

_HOLD_MS = 10_000
_START_S = 2.0
# Spellings live this long in the store, and are told again well before.
_SPELLING_S = 86_400.0
_RETELL_S = _SPELLING_S / 4
# What is told again in one go.
_AT_ONCE = 256
_SPELLING_BYTES_MAX = 256 * 2**10
_MARKS_A_SESSION = 8
_ACQUIRE = sha(ACQUIRE)
log = logging.getLogger("kvproxy.store")


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`deadline_s` bounds what a request waits for the store. Counts are of entries."""

    namespace: str
    deadline_s: float
    idle_s: float
    sessions_max: int
    spellings_max: int
    prefixes_max: int


class SharedStore:
    """One of the proxies of a fleet, called `origin` among them; implements proxy.Peers. `took` is
    told the seconds of every round trip that a request waited for."""

    def __init__(
        self,
        origin: str,
        address: Address,
        limits: StoreLimits,
        *,
        router: Router,
        representatives: Representatives | None,
        took: Callable[[float], None],
    ) -> None:
        self.origin = origin
        self._limits = limits
        self.names = names = Names(limits.namespace)
        self._router = router
        self._representatives = representatives
        self._took = took
        self.link = Link(address, self._link_changed)
        self.bindings = Bindings(origin, limits.sessions_max, limits.idle_s)
        self.heard = Heard(_MARKS_A_SESSION * limits.sessions_max)
        self.loads = PeerLoads(3 * HEARTBEAT_S)
        self.hearing = Hearing(self.link, names, self._told, self._sent, self.bindings.deaf)
        terms = Terms(
            names,
            round(limits.idle_s * 1000),
            round(_SPELLING_S * 1000),
            limits.spellings_max,
            limits.prefixes_max,
        )
        self.writer = Writer(self.link, terms, self.bindings, self._own_loads, self._told)
        self.writer.room_for(limits.sessions_max)
        self._came_back = asyncio.Event()
        self.questions: Counter[str] = Counter()
        self.respelled = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def recall(self, identity: Identity, chain: Chain) -> None:
        now = time.monotonic()
        if identity.session:
            key = session_key(identity, self._limits.namespace)
            if self.bindings.knows(key, now):
                self.questions["known"] += 1
            else:
                await self._ask(key, identity, chain, now)
        found = self.heard.take(chain.hashes)
        if found:
            replicas = {replica.id: replica for replica in self._router.replicas}
            for name in found.keys() & replicas.keys():
                replica, sent = replicas[name], found[name]
                if sent.is_held(replica):
                    there = chain.until(sent.blocks)
                    peer_knowledge.heard(self._router, replica, identity.model, there, now)

    def placed(self, placement: Placement) -> None:
        placing = placement.placing
        identity, replica = placing.identity, placing.replica
        if identity.session:
            key = session_key(identity, self._limits.namespace)
            marks, process = marks_of(placing.chain), replica.process_began or 0.0
            bound = Bound(self.origin, replica.id, placing.prompt_tokens, marks, process)
            self.writer.put_binding(key, self.bindings.placed(key, bound, placement.at))

    async def _ask(self, key: bytes, identity: Identity, chain: Chain, now: float) -> None:
        """Take the conversation, or learn who has it."""
        outcome = "skipped"
        bound = self._proposed(identity, chain, now) if self.link.up else None
        if bound is not None:
            try:
                found = await self.link.ask(self._acquire(key, bound), self._limits.deadline_s)
                if found is None:
                    outcome = "new"
                    self.bindings.told(key, 0, bound, now)
                else:
                    outcome = "found"
                    self._told(Told(key, int(found[0]), bound_from(found[1])))
            except TimeoutError:
                outcome = "late"
            except (*FAILURES, WordError, ValueError, TypeError) as error:
                outcome = "failed"
                log.debug("a question came to nothing: %r", error)
            self._took(time.monotonic() - now)
        self.questions[outcome] += 1
        if not self.link.up and key not in self.bindings:
            peer_knowledge.presume(self._router, identity, chain, now)

    def _proposed(self, identity: Identity, chain: Chain, now: float) -> Bound | None:
        """Where the turn would go if it went now; None where nobody can take it, which whoever
        places it tells its client."""
        try:
            decided = self._router.decide(identity, chain, now)
        except ProxyError:
            return None
        return Bound(self.origin, decided.replica.id, decided.prompt_tokens, ())

    def _acquire(self, key: bytes, bound: Bound) -> Command:
        values = (bound.origin, bound_bytes(bound), _HOLD_MS)
        return ("EVALSHA", _ACQUIRE, 1, self.names.binding(key), *values)

    def _told(self, message: Word) -> None:
        now = time.monotonic()
        if isinstance(message, Told):
            bound = message.bound
            if self.bindings.told(message.key, message.version, bound, now):
                self._router.bind(message.key, bound.replica, bound.tokens, now)
                if bound.origin != self.origin:
                    self.heard.tell(bound.replica, bound.marks, now, bound.process)
        elif isinstance(message, Loads):
            if message.origin != self.origin:
                self.loads.told(message, now)
            self.loads.apply(self._router.replicas, now)
        elif isinstance(message, Lessons):
            if message.origin != self.origin:
                replicas = {replica.id: replica for replica in self._router.replicas}
                for lesson in message.lessons:
                    peer_knowledge.taught(self._router, replicas, lesson)
        elif self._representatives is not None:
            self.respelled += self._representatives.adopt(First(*message))

    def _sent(self, replica: str, mark: Mark, process: float) -> None:
        self.heard.tell(replica, (mark,), time.monotonic(), process)

    def _own_loads(self, now: float) -> Loads:
        return own_loads(self.origin, self._router.replicas, now)

    def _spell(self, first: First) -> None:
        if len(first.spelling) <= _SPELLING_BYTES_MAX:
            self.writer.put_spelling(first)

    def _link_changed(self, up: bool) -> None:
        if up:
            self._came_back.set()

    async def _retelling(self) -> None:
        """A store that comes back may have lost everything, and forgets spellings by and by: it is
        told again, a few at a time, for requests go between them."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETELL_S):
                    await self._came_back.wait()
            if self._came_back.is_set():
                self._came_back.clear()
                for number, (key, owed) in enumerate(self.bindings.retold(), 1):
                    self.writer.put_binding(key, owed)
                    if number % _AT_ONCE == 0:
                        await asyncio.sleep(0)
            for number, first in enumerate(list(self._representatives or ()), 1):
                self._spell(first)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def _ageing(self) -> None:
        """What peers had under way counts no longer once they, or the store, have gone silent."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.loads.apply(self._router.replicas, time.monotonic())

    async def start(self) -> None:
        """Returns when what the others know is known, or soon: without the store, or with a slow
        one, the proxy serves all the same."""
        if self._representatives is not None:
            self._representatives.tell = self._spell
        self._router.teach = self.writer.put_lesson
        try:
            await self.link.open()
        except FAILURES as error:
            log.error("the store cannot be reached (%r): placing by own knowledge", error)
        self._tasks = [
            keep("store_writing", self.writer.run),
            keep("store_hearing", self.hearing.run),
            keep("store_retelling", self._retelling),
            keep("store_ageing", self._ageing),
        ]
        if self.link.up:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_START_S):
                    await self.hearing.caught_up.wait()

    async def close(self) -> None:
        await end(self._tasks)
        await self.link.close()
