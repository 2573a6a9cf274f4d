"""What a request lost of its cached prefix, and why: before it is sent and after it was answered.

A prompt that left its predecessor is a break, told from both chains. One that did not and found
less than it should was moved, or its blocks were evicted.
"""

from typing import NamedTuple

from kvproxy.core.layout import Place
from kvproxy.core.ruler import Ruler
from kvproxy.core.threads import Step, Threads
from kvproxy.core.turn import Turn
from kvproxy.core.types import Chain, Identity, Usage

MOVED, EVICTED = "moved", "evicted"
# Reported hits are whole blocks of the engine and lengths are estimates: less is no loss.
_LOSS_TOKENS, _LOSS_SHARE = 512, 0.05


class Verdict(NamedTuple):
    """`cause` is one of breaks.Cause, MOVED, EVICTED, or "" when nothing was lost. `kept_tokens`
    of `before_tokens` could be used again; `place` is where the body first differs."""

    cause: str
    before_tokens: int
    kept_tokens: int
    place: Place | None = None

    @property
    def lost_tokens(self) -> int:
        return self.before_tokens - self.kept_tokens if self.cause else 0


NOTHING = Verdict("", 0, 0)


class Stake(NamedTuple):
    """What a turn had to lose before it was answered: of `before_tokens` of the prompt before it,
    which went to `replica`, `shared_tokens` begin this one too. `segment` is where they part."""

    cause: str
    segment: int
    before_tokens: int
    shared_tokens: int
    replica: str


class Diagnosis:
    def __init__(self, ruler: Ruler, max_bytes: int) -> None:
        self._ruler = ruler
        self._threads = Threads(max_bytes)
        self.sessions = self._threads.__len__
        # Before the turn is placed: where it belongs in its session.
        self.follow = self._threads.follow

    def went(self, identity: Identity, step: Step | None, replica: str) -> None:
        """The turn was answered by `replica`."""
        if step is not None:
            self._threads.went(identity, step.thread, replica)

    def stake(self, identity: Identity, chain: Chain, step: Step | None) -> Stake | None:
        """None where nothing came before."""
        if step is None or step.before is None or step.broke is None:
            return None
        before, model, broke = step.before.chain, identity.model, step.broke
        whole = shared = round(self._ruler.tokens_at(before, len(before.hashes), model))
        if broke.blocks < len(before.hashes):
            shared = round(self._ruler.tokens_at(chain, broke.blocks, model))
        return Stake(step.cause or "", broke.segment, whole, shared, step.before.replica)


def verdict(stake: Stake | None, turn: Turn, replica: str, usage: Usage | None) -> Verdict:
    """After the turn was answered by `replica`; `usage` is what that reported."""
    if stake is None:
        return NOTHING
    whole, shared = stake.before_tokens, stake.shared_tokens
    if stake.cause:
        place = turn.layout.place(stake.segment, turn.dialect.growing, turn.members)
        return Verdict(stake.cause, whole, min(shared, whole), place)
    if usage is None or usage.cached_tokens is None:
        return NOTHING
    shared, cached = min(shared, usage.prompt_tokens), usage.cached_tokens
    if shared - cached <= max(_LOSS_TOKENS, _LOSS_SHARE * shared):
        return Verdict("", whole, shared)
    return Verdict(EVICTED if stake.replica == replica else MOVED, shared, cached)
