"""Where each conversation lives: session key -> replica, bounded and forgotten when idle."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from heapq import merge
from math import inf

from msgspec import Struct

# The parts of an Identity, or where proxies share bindings a digest of them.
SessionKey = tuple[str, str, str, str] | bytes


class Home(Struct, frozen=True, gc=False):
    """`retention_s`: for how long its client asked to be remembered, at least."""

    replica: str
    last_use: float
    prompt_tokens: int
    retention_s: float = 0.0


class Affinity:
    """At most `max_sessions` bindings, each forgotten `idle_s` seconds after its last use, or later
    if its client said so."""

    def __init__(self, max_sessions: int, idle_s: float) -> None:
        assert max_sessions > 0
        self.max_sessions = max_sessions
        self._idle_s = idle_s
        self._homes: dict[SessionKey, Home] = {}
        # The same by how long they live unused, which is one of few times: the last used last.
        self._usual: OrderedDict[SessionKey, Home] = OrderedDict()
        self._queues = {idle_s: self._usual}
        # Nobody was idle for too long before then.
        self._due = inf
        self._sessions: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._homes)

    def latest(self) -> Iterator[tuple[SessionKey, Home]]:
        """The last used first."""
        queues = [reversed(queue.items()) for queue in self._queues.values()]
        return merge(*queues, key=lambda each: each[1].last_use, reverse=True)

    def home(self, key: SessionKey, now: float) -> Home | None:
        home = self._homes.get(key)
        return home if home is not None and self._lives(home, now) else None

    def bind(
        self,
        key: SessionKey,
        replica: str,
        prompt_tokens: int,
        now: float,
        retention_s: float = 0.0,
    ) -> Home | None:
        """The session's latest turn of `prompt_tokens` went to `replica`; where it lived so far."""
        homes, sessions, idle_s = self._homes, self._sessions, self._idle_s
        before = homes.get(key)
        home = homes[key] = Home(replica, now, prompt_tokens, retention_s)
        queue = self._usual if retention_s <= idle_s else self._queue(retention_s)
        queue[key] = home
        if before is None:
            sessions[replica] += 1
            if len(homes) > self.max_sessions:
                self._expire(now)
        else:
            queue.move_to_end(key)
            if before.retention_s != retention_s:
                was = self._queue(before.retention_s)
                if was is not queue:
                    del was[key]
            if before.replica != replica:
                sessions[before.replica] -= 1
                sessions[replica] += 1
        due = self._due
        if now > due:
            self._expire(now)
        elif now + idle_s < due:
            self._due = now + idle_s
        if before is None or now - before.last_use <= idle_s:
            return before
        return before if self._lives(before, now) else None

    def forget(self, key: SessionKey) -> None:
        """Its next turn may go anywhere: what tied it to its replica is gone."""
        home = self._homes.pop(key, None)
        if home is not None:
            self._sessions[home.replica] -= 1
            del self._queue(home.retention_s)[key]

    def forget_replica(self, replica: str) -> None:
        for key in [key for key, home in self._homes.items() if home.replica == replica]:
            self.forget(key)
        self._sessions.pop(replica, None)

    def sessions(self, replica: str) -> int:
        return self._sessions[replica]

    def _queue(self, retention_s: float) -> OrderedDict[SessionKey, Home]:
        """Of those that live as long."""
        if retention_s <= self._idle_s:
            return self._usual
        return self._queues.setdefault(retention_s, OrderedDict())

    def _expire(self, now: float) -> None:
        """Whoever has just come lives, so somebody always does."""
        self._due = inf
        for life_s, queue in self._queues.items():
            while (oldest := _oldest(queue)) is not None:
                key, home = oldest
                if self._lives(home, now):
                    self._due = min(self._due, home.last_use + life_s)
                    break
                self.forget(key)
        while len(self._homes) > self.max_sessions:
            firsts = [first for queue in self._queues.values() if (first := _oldest(queue))]
            self.forget(min(firsts, key=lambda first: first[1].last_use)[0])

    def _lives(self, home: Home, now: float) -> bool:
        idle_s = now - home.last_use
        return idle_s <= self._idle_s or idle_s <= home.retention_s


def _oldest(queue: OrderedDict[SessionKey, Home]) -> tuple[SessionKey, Home] | None:
    return next(iter(queue.items()), None)
