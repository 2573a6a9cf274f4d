"""The session graph: the prompts that grow side by side under one session id.

A coding agent's session holds its main conversation, those of its sub-agents, and short calls for
titles and the like. Each is a thread, told apart by the agent the client names and otherwise by
what it shares with the last prompt of a known one.
"""

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.breaks import BRANCHING, HARMLESS, Break, Cause, compare, shared_segments
from kvproxy.core.items import HEAD_KINDS, kind_of
from kvproxy.core.lru import ByteLru
from kvproxy.core.types import Chain, Identity

_THREADS_MAX = 16
_BLOCK_BYTES, _ITEM_BYTES, _THREAD_BYTES, _SESSION_BYTES = 14, 8, 550, 450

_SessionKey = tuple[str, str]


class Thread(Struct, frozen=True):
    """`number` counts from 0 within the session; the parent is the thread it branched off;
    `replica` is where its last turn went, once that is known."""

    number: int
    agent: str
    parent: int | None
    turns: int
    chain: Chain
    replica: str = ""


class Step(Struct, frozen=True):
    """One turn in the graph. `before` is the thread as it was, None for a new one; `broke` is what
    became of its prompt."""

    thread: Thread
    before: Thread | None
    broke: Break | None

    @property
    def cause(self) -> Cause | None:
        """Why cached tokens were lost; None where none were."""
        return None if self.broke is None or self.broke.cause in HARMLESS else self.broke.cause


class Threads:
    def __init__(self, max_bytes: int) -> None:
        self._sessions: ByteLru[_SessionKey, list[Thread]] = ByteLru(max_bytes)

    def __len__(self) -> int:
        return len(self._sessions)

    def follow(self, identity: Identity, chain: Chain) -> Step | None:
        """Where the turn belongs; None without a session or a prompt that is understood."""
        if not identity.session or not len(chain.hashes):
            return None
        key = (identity.tenant, identity.session)
        threads = self._sessions.pop(key) or []
        step = _step(threads, identity.agent, chain)
        kept, size = [step.thread], _SESSION_BYTES + _size(step.thread)
        if threads and (len(threads) > 1 or threads[0].number != step.thread.number):
            kept += [each for each in threads if each.number != step.thread.number]
            del kept[_THREADS_MAX:]
            size += sum(map(_size, kept[1:]))
        self._sessions.put(key, kept, size)
        return step

    def went(self, identity: Identity, thread: Thread, replica: str) -> None:
        """The turn of `thread` was answered by `replica`."""
        if thread.replica == replica:
            return
        threads = self._sessions.get((identity.tenant, identity.session)) or []
        for index, each in enumerate(threads):
            if each is thread:
                threads[index] = replace(thread, replica=replica)


def _step(threads: list[Thread], agent: str, chain: Chain) -> Step:
    if len(threads) == 1 and threads[0].agent == agent:
        best: Thread | None = threads[0]
    else:
        best = _nearest([thread for thread in threads if thread.agent == agent], chain)
    broke = compare(best.chain, chain) if best is not None else None
    if best is not None and broke is not None and broke.cause is Cause.GROWN:
        return Step(_next(best, chain), best, broke)
    number = 1 + max([thread.number for thread in threads], default=-1)
    if best is None or broke is None or broke.cause is Cause.SIDE_CALL:
        near = _nearest(threads, chain)
        parent = near.number if near is not None else None
        return Step(Thread(number, agent, parent, 1, chain), None, None)
    if broke.cause in BRANCHING:
        return Step(Thread(number, agent, best.number, best.turns + 1, chain), best, broke)
    return Step(_next(best, chain), best, broke)


def _next(thread: Thread, chain: Chain) -> Thread:
    return replace(thread, turns=thread.turns + 1, chain=chain)


def _nearest(threads: list[Thread], now: Chain) -> Thread | None:
    """Of most segments shared at the beginning, then of most messages shared anywhere; the newest
    comes first and wins among equals."""
    if len(threads) < 2:
        return threads[0] if threads else None
    shared = [shared_segments(thread.chain, now) for thread in threads]
    most = max(shared)
    if shared.count(most) == 1:
        return threads[shared.index(most)]
    equals = [thread for thread, count in zip(threads, shared, strict=True) if count == most]
    return max(equals, key=lambda thread: _messages_shared(thread.chain, now))


def _messages_shared(before: Chain, now: Chain) -> int:
    history = {item for item in before.items if kind_of(item) not in HEAD_KINDS}
    return len(history.intersection(now.items))


def _size(thread: Thread) -> int:
    chain = thread.chain
    return _THREAD_BYTES + _BLOCK_BYTES * len(chain.hashes) + _ITEM_BYTES * len(chain.items)
