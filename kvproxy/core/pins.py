"""Conversations that an operator ties to a replica, whatever they would cost elsewhere."""

from collections.abc import Iterator

from kvproxy.core.affinity import SessionKey
from kvproxy.core.errors import ProxyError
from kvproxy.core.replica import Replica

_PINS_MAX = 10_000

# A session id as clients send it, which stands for all agents of it, or one conversation.
Pinned = str | SessionKey


class Pins:
    """What is tied to which replica. A pin holds only while its replica can be used; where both a
    conversation and its session are tied, the conversation's own pin counts."""

    def __init__(self) -> None:
        self._replica_of: dict[Pinned, str] = {}

    def __len__(self) -> int:
        return len(self._replica_of)

    def __iter__(self) -> Iterator[tuple[Pinned, str]]:
        """The last tied first."""
        return reversed(self._replica_of.items())

    def pin(self, what: Pinned, replica: str) -> None:
        """Raises ProxyError overloaded when there are too many."""
        if what not in self._replica_of and len(self) >= _PINS_MAX:
            raise ProxyError("overloaded", f"{_PINS_MAX} conversations are pinned already.")
        self._replica_of[what] = replica

    def unpin(self, what: Pinned) -> bool:
        """Whether it was pinned, itself or with its session."""
        tied = self.tied(what)
        return tied is not None and self._replica_of.pop(tied[0], None) is not None

    def tied(self, what: Pinned) -> tuple[Pinned, str] | None:
        """What the pin is of, and the replica; None if there is none."""
        if what in self._replica_of:
            return what, self._replica_of[what]
        # A key that is a digest tells nothing of its session.
        session = what[2] if isinstance(what, tuple) else ""
        return (session, self._replica_of[session]) if session in self._replica_of else None

    def of(self, replica: str) -> list[Pinned]:
        """What is tied to `replica`."""
        return [what for what, tied in self._replica_of.items() if tied == replica]

    def forget_replica(self, replica: str) -> None:
        for what in self.of(replica):
            del self._replica_of[what]

    def narrow(self, session: str, key: SessionKey, candidates: list[Replica]) -> list[Replica]:
        """Only the replica that the conversation `key` of `session` is tied to, if it is among
        them."""
        tied = self._replica_of.get(key) or self._replica_of.get(session)
        if tied is None:
            return candidates
        return [replica for replica in candidates if replica.id == tied] or candidates
