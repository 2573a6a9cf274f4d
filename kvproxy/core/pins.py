"""Conversations that an operator ties to a replica, whatever they would cost elsewhere."""

from kvproxy.core.errors import ProxyError
from kvproxy.core.replica import Replica

_PINS_MAX = 10_000


class Pins:
    """Session ids as clients send them, and the replica each is tied to. A pin holds for all agents
    of a session, and only while its replica can be used."""

    def __init__(self) -> None:
        self._replica_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._replica_of)

    def pin(self, session: str, replica: str) -> None:
        """Raises ProxyError overloaded when there are too many."""
        if session not in self._replica_of and len(self) >= _PINS_MAX:
            raise ProxyError("overloaded", f"{_PINS_MAX} conversations are pinned already.")
        self._replica_of[session] = replica

    def unpin(self, session: str) -> bool:
        """Whether it was pinned."""
        return self._replica_of.pop(session, None) is not None

    def of(self, replica: str) -> list[str]:
        """Sessions that are tied to `replica`."""
        return [session for session, tied in self._replica_of.items() if tied == replica]

    def forget_replica(self, replica: str) -> None:
        for session in self.of(replica):
            del self._replica_of[session]

    def narrow(self, session: str, candidates: list[Replica]) -> list[Replica]:
        """Only the replica that `session` is tied to, if it is among them."""
        tied = self._replica_of.get(session)
        if tied is None:
            return candidates
        return [replica for replica in candidates if replica.id == tied] or candidates
