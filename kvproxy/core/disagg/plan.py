"""What the router knows of moving KV between its replicas."""

from collections.abc import Mapping, Sequence

from kvproxy.core.disagg.choice import Choice, Terms, choose
from kvproxy.core.disagg.connectors import Peer
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match


class Disagg:
    """`peers` is where each replica's connector listens, by replica id: who is not among them moves
    nothing."""

    def __init__(self, terms: Terms, peers: Mapping[str, Peer], rate: TransferRate) -> None:
        self.terms = terms
        self.peers = dict(peers)
        self.rate = rate

    def able(self, replicas: Sequence[Replica]) -> list[Replica]:
        return [replica for replica in replicas if replica.id in self.peers]

    def choose(
        self,
        asked: Asked,
        candidates: Sequence[Replica],
        matches: Sequence[Match],
        prefillers: Sequence[tuple[Replica, Match]],
        whole: Choice,
    ) -> Choice:
        """The best way to answer, which may be `whole`."""
        if candidates[whole.candidate].id not in self.peers or not prefillers:
            return whole
        return choose(
            asked,
            candidates=candidates,
            matches=matches,
            prefillers=prefillers,
            whole=whole,
            terms=self.terms,
            tok_s=self.rate.tok_s,
        )
