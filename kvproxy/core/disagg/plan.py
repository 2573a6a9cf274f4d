"""What the router knows of moving KV between its replicas."""

from collections.abc import Sequence

from kvproxy.core.disagg.choice import Choice, Terms, choose
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match


class Disagg:
    """Replicas without a `peer` move nothing."""

    def __init__(self, terms: Terms, rate: TransferRate) -> None:
        self.terms = terms
        self.rate = rate

    def choose(
        self,
        asked: Asked,
        candidates: Sequence[Replica],
        matches: Sequence[Match],
        prefillers: Sequence[tuple[Replica, Match]],
        whole: Choice,
    ) -> Choice:
        """The best way to answer, which may be `whole`."""
        if candidates[whole.candidate].peer is None or not prefillers:
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
