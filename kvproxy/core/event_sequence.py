"""Which batches of a numbered event stream to apply, and when something is missing.

Numbers start at 0 with the engine and grow by one a batch. A publisher drops what a subscriber is
too slow for, so a jump means batches to ask for again; a number that goes back means a new engine,
unless the batch is no newer than what was applied already.
"""

from enum import Enum
from math import inf


class Verdict(Enum):
    """APPLY it; it is OLD; a GAP lies before it; the engine RESTARTed and this is its stream."""

    APPLY = "apply"
    OLD = "old"
    GAP = "gap"
    RESTART = "restart"


class EventSequence:
    """Where one stream stands. `next` is the number expected; `complete` is whether nothing was
    missed since the engine started."""

    def __init__(self) -> None:
        self.next = 0
        self.complete = True
        self._applied_at = -inf

    def judge(self, number: int, at: float) -> Verdict:
        """`at`: the batch's own time, seconds. Changes nothing."""
        if number > self.next:
            return Verdict.GAP
        if number == self.next:
            return Verdict.APPLY
        another = number == self.next - 1 and at != self._applied_at
        return Verdict.RESTART if another or at > self._applied_at else Verdict.OLD

    def applied(self, number: int, at: float) -> None:
        self.next = number + 1
        self._applied_at = max(self._applied_at, at)

    @property
    def replay_from(self) -> int:
        """What to ask a replay for: the last batch applied is wanted again, as proof that the
        engine is still the same."""
        return max(0, self.next - 1)

    def continues(self, number: int, at: float) -> bool:
        """Whether a replay that begins with this batch leaves nothing out."""
        if self.next == 0:
            return number == 0
        return number == self.next - 1 and at == self._applied_at

    def restarted(self) -> None:
        """Another engine, whose numbers start at 0."""
        self.next = 0
        self.complete = True
        self._applied_at = -inf

    def missed(self, number: int) -> None:
        """What lies before `number` is lost for good."""
        self.next = number
        self.complete = number == 0
