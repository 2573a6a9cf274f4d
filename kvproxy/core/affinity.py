"""Where each conversation lives: session key -> replica, bounded and forgotten when idle."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
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
        self._homes: OrderedDict[SessionKey, Home] = OrderedDict()
        # Nobody was idle for too long before then.
        self._due = inf
        self._sessions: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._homes)

    def latest(self) -> Iterator[tuple[SessionKey, Home]]:
        """The last used first."""
        return reversed(self._homes.items())

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
        homes, sessions = self._homes, self._sessions
        before = homes.pop(key, None)
        homes[key] = Home(replica, now, prompt_tokens, retention_s)
        if before is None:
            sessions[replica] += 1
            if len(homes) > self.max_sessions:
                self._expire(now)
        elif before.replica != replica:
            sessions[before.replica] -= 1
            sessions[replica] += 1
        if now > self._due:
            self._expire(now)
        self._due = min(self._due, now + self._idle_s)
        return before if before is not None and self._lives(before, now) else None

    def forget(self, key: SessionKey) -> None:
        """Its next turn may go anywhere: what tied it to its replica is gone."""
        self._unbind(key)

    def forget_replica(self, replica: str) -> None:
        for key in [key for key, home in self._homes.items() if home.replica == replica]:
            self._unbind(key)
        self._sessions.pop(replica, None)

    def sessions(self, replica: str) -> int:
        return self._sessions[replica]

    def _expire(self, now: float) -> None:
        """Whoever has just come lives, so somebody always does."""
        homes = self._homes
        while len(homes) > self.max_sessions or not self._lives(next(iter(homes.values())), now):
            _, oldest = homes.popitem(last=False)
            self._sessions[oldest.replica] -= 1
        first = next(iter(homes.values()))
        self._due = first.last_use + max(self._idle_s, first.retention_s)

    def _lives(self, home: Home, now: float) -> bool:
        idle_s = now - home.last_use
        return idle_s <= self._idle_s or idle_s <= home.retention_s

    def _unbind(self, key: SessionKey) -> None:
        home = self._homes.pop(key, None)
        if home is not None:
            self._sessions[home.replica] -= 1
