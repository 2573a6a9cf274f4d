"""Where each conversation lives: session key -> replica, bounded and forgotten when idle."""

from collections import Counter, OrderedDict
from collections.abc import Iterator

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
        self.max_sessions = max_sessions
        self._idle_s = idle_s
        self._homes: OrderedDict[SessionKey, Home] = OrderedDict()
        self._committed: Counter[str] = Counter()
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
    ) -> None:
        """The session's latest turn of `prompt_tokens` went to `replica`."""
        before = self._homes.pop(key, None)
        self._homes[key] = Home(replica, now, prompt_tokens, retention_s)
        if before is not None and before.replica == replica:
            self._committed[replica] += prompt_tokens - before.prompt_tokens
        else:
            if before is not None:
                self._uncount(before)
            self._committed[replica] += prompt_tokens
            self._sessions[replica] += 1
        while self._homes:
            oldest, home = next(iter(self._homes.items()))
            if len(self._homes) <= self.max_sessions and self._lives(home, now):
                break
            self._unbind(oldest)

    def forget(self, key: SessionKey) -> None:
        """Its next turn may go anywhere: what tied it to its replica is gone."""
        self._unbind(key)

    def forget_replica(self, replica: str) -> None:
        for key in [key for key, home in self._homes.items() if home.replica == replica]:
            self._unbind(key)
        for counter in (self._committed, self._sessions):
            counter.pop(replica, None)

    def committed_tokens(self, replica: str) -> int:
        """KV that the sessions living on `replica` would like to find there, in tokens."""
        return self._committed[replica]

    def sessions(self, replica: str) -> int:
        return self._sessions[replica]

    def _lives(self, home: Home, now: float) -> bool:
        return now - home.last_use <= max(self._idle_s, home.retention_s)

    def _unbind(self, key: SessionKey) -> None:
        home = self._homes.pop(key, None)
        if home is not None:
            self._uncount(home)

    def _uncount(self, home: Home) -> None:
        self._committed[home.replica] -= home.prompt_tokens
        self._sessions[home.replica] -= 1
