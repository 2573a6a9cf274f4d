"""A decision on its way: what was looked up, what was chosen, and the claim that it made."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.affinity import Home
from kvproxy.core.disagg.choice import Remote
from kvproxy.core.kept_answers import NO_REPEATS, Repeats
from kvproxy.core.load import Hold
from kvproxy.core.policies import PolicyName
from kvproxy.core.replica import Replica
from kvproxy.core.runs import Run
from kvproxy.core.score import Match, Score
from kvproxy.core.sent import Prompt
from kvproxy.core.types import Chain, Identity


class Lookup(Struct, frozen=True):
    """Eligible replicas and what each holds of the prompt, parallel."""

    candidates: Sequence[Replica]
    matches: Sequence[Match]
    prompt: Prompt
    home: Home | None


class Decided(NamedTuple):
    """Where a turn goes, and what was believed of that place when it was chosen."""

    replica: Replica
    match: Match
    prompt_tokens: int
    score: Score


class Placing(Struct, frozen=True):
    """A turn and the replica chosen for it, with what was believed at that moment. `request_id`
    is what the replica will call it, empty if it is not told; `remote` where it gets KV from."""

    identity: Identity
    chain: Chain
    replica: Replica
    match: Match
    prompt_tokens: int
    score: Score
    request_id: str = ""
    waited_s: float = 0.0
    remote: Remote | None = None

    def prefill_leg(self) -> "Placing | None":
        """The part that another replica computes, if one does: no turn of the conversation's."""
        remote = self.remote
        if remote is None or remote.pulls:
            return None
        return replace(
            self,
            identity=replace(self.identity, session=""),
            replica=remote.replica,
            match=remote.match,
            score=Score.FREE._replace(prefill_s=remote.prefill_s),
            request_id=self.request_id and f"{self.request_id}-prefill",
            remote=None,
        )


class Placement(Struct, frozen=True, eq=False):
    """A decision and the claim it made on `replica`: settled exactly once, by finish or abort.
    `prefill` is the claim on another replica that computes the prompt, to be settled on its own.
    `repeats`: the answer of the turn before, which it may go on with."""

    placing: Placing
    replica: Replica
    policy: PolicyName
    hold: Hold
    end: Run
    at: float
    prefill: "Placement | None" = None
    repeats: Repeats = NO_REPEATS

    @property
    def predicted_cached_tokens(self) -> int:
        return self.placing.match.tokens
