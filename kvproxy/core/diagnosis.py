"""What a request lost of its cached prefix, and why: before it is sent and after it was answered.

A prompt that left its predecessor is a break, told from both chains. One that did not and found
less than it should was moved, or its blocks were evicted.
"""

from typing import NamedTuple

from kvproxy.core.breaks import shared_blocks
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


class Diagnosis:
    def __init__(self, ruler: Ruler, max_bytes: int) -> None:
        self._ruler = ruler
        self._threads = Threads(max_bytes)
        self.sessions = self._threads.__len__

    def follow(self, identity: Identity, turn: Turn) -> Step | None:
        """Before the turn is placed: where it belongs in its session."""
        return self._threads.follow(identity, turn.chain)

    def conclude(
        self, identity: Identity, turn: Turn, step: Step | None, replica: str, usage: Usage | None
    ) -> Verdict:
        """After it was answered by `replica`; `usage` is what that reported."""
        if step is None:
            return NOTHING
        self._threads.went(identity, step.thread, replica)
        if step.before is None or step.broke is None:
            return NOTHING
        before, model = step.before.chain, identity.model
        whole = self._tokens(before, len(before), model)
        if step.cause is not None:
            kept = self._tokens(turn.chain, step.broke.blocks, model)
            growing = turn.dialect.growing
            place = turn.layout.place(step.broke.segment, growing, turn.members)
            return Verdict(step.cause, whole, min(kept, whole), place)
        if usage is None or usage.cached_tokens is None:
            return NOTHING
        shared = self._tokens(turn.chain, shared_blocks(before, turn.chain), model)
        shared, cached = min(shared, usage.prompt_tokens), usage.cached_tokens
        if shared - cached <= max(_LOSS_TOKENS, _LOSS_SHARE * shared):
            return Verdict("", whole, shared)
        return Verdict(EVICTED if step.before.replica == replica else MOVED, shared, cached)

    def _tokens(self, chain: Chain, blocks: int, model: str) -> int:
        return round(self._ruler.tokens_at(chain, blocks, model)) if blocks else 0
