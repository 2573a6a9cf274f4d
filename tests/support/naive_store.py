"""The store's two steps on bindings (see kvproxy/adapters/store/scripts.py) in plain words, and the
proxies of a fleet around it, without sockets: messages arrive when the test says so."""

from collections import deque
from dataclasses import dataclass, field

from kvproxy.core.bindings import Bindings, Owed
from kvproxy.core.shared_words import Bound, Told


@dataclass
class Kept:
    version: int
    writer: str
    bound: Bound
    placed_ms: float | None


@dataclass
class NaiveStore:
    """`ahead_ms`: its clock, against the test's."""

    kept: dict[bytes, Kept] = field(default_factory=dict)
    listeners: list["NaiveProxy"] = field(default_factory=list)
    ahead_ms: float = 0.0
    up: bool = True

    def acquire(self, key: bytes, bound: Bound) -> Kept | None:
        """What is there already."""
        found = self.kept.get(key)
        if found is None:
            self.kept[key] = Kept(0, bound.origin, bound, None)
        return found

    def commit(self, key: bytes, owed: Owed, age_ms: float, now_ms: float) -> tuple[int, Kept]:
        """(version, what stays)."""
        origin, placed_ms = owed.bound.origin, now_ms + self.ahead_ms - age_ms
        there = self.kept.get(key)
        version = max(owed.version, there.version if there is not None else 0)
        if there is not None:
            own = there.writer == origin
            follows = (there.version, there.writer) == (owed.version, owed.writer)
            if not own and not follows and (there.placed_ms or 0.0) > placed_ms:
                there.version = version
                return version, there
        self.kept[key] = made = Kept(version + 1, origin, owed.bound, placed_ms)
        for proxy in self.listeners:
            proxy.inbox.append(Told(key, version + 1, owed.bound))
        return version + 1, made


class NaiveProxy:
    """Keeps homes by the words that Bindings calls news, as SharedStore does."""

    def __init__(self, name: str, store: NaiveStore) -> None:
        self.name, self.store = name, store
        self.bindings = Bindings(name, 1000, 1e9)
        self.homes: dict[bytes, str] = {}
        self.inbox: deque[Told] = deque()
        self.outbox: dict[bytes, Owed] = {}
        self.reaches = True
        self.hear()

    @property
    def connected(self) -> bool:
        return self.reaches and self.store.up

    def recall(self, key: bytes, otherwise: str, now_s: float) -> str:
        """Where the conversation lives, as far as can be known when its turn comes."""
        if not self.bindings.knows(key, now_s) and self.connected:
            proposed = Bound(self.name, self.homes.get(key, otherwise), 0, ())
            found = self.store.acquire(key, proposed)
            if found is None:
                self.bindings.told(key, 0, proposed, now_s)
            else:
                self._told(Told(key, found.version, found.bound), now_s)
        return self.homes.get(key, otherwise)

    def placed(self, key: bytes, replica: str, tokens: int, now_s: float) -> None:
        self.homes[key] = replica
        bound = Bound(self.name, replica, tokens, ())
        self.outbox[key] = self.bindings.placed(key, bound, now_s)

    def tell(self, now_s: float) -> None:
        """All that it owes the store."""
        while self.outbox and self.connected:
            key = next(iter(self.outbox))
            owed = self.outbox.pop(key)
            age_ms = 1000 * (now_s - owed.at)
            version, kept = self.store.commit(key, owed, age_ms, 1000 * now_s)
            refused = None if kept.bound is owed.bound else kept.bound
            for told in self.bindings.decided(key, owed.bound, version, refused):
                self._told(told, now_s)

    def listen(self, now_s: float, most: int = 10**9) -> None:
        while self.inbox and most:
            self._told(self.inbox.popleft(), now_s)
            most -= 1

    def lost(self) -> None:
        """Its connections are cut."""
        self.inbox.clear()
        if self in self.store.listeners:
            self.store.listeners.remove(self)

    def hear(self) -> None:
        """It listens again."""
        if self not in self.store.listeners:
            self.store.listeners.append(self)
            self.bindings.deaf()

    def retell(self) -> None:
        """The store is there again."""
        self.outbox.update(self.bindings.retold())

    def _told(self, told: Told, now_s: float) -> None:
        if self.bindings.told(told.key, told.version, told.bound, now_s):
            self.homes[told.key] = told.bound.replica
