"""What a turn would cost on each replica, in seconds, as named terms.

The client waits for queue + prefill of what is missed + base. Beside it stands what placing the
turn there costs others: `delay` (answers under way stand still while a prompt is computed),
`eviction` (its KV pushes out prefixes whose conversations may come back), `move` (a conversation
that leaves its replica leaves a copy behind, so it moves only for a real gain) and `crowding` (a
new conversation brings KV that will want to stay). The part of a prefix that every replica holds
is in no term of any of them, so it attracts nobody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kvproxy.core.replica import Replica


@dataclass(frozen=True, slots=True)
class Match:
    """What one replica is believed to hold of the prompt."""

    NONE: ClassVar["Match"]

    blocks: int
    tokens: int


Match.NONE = Match(0, 0)


@dataclass(frozen=True, slots=True)
class Score:
    """Seconds by term. `ttft_s` is the part the client waits for."""

    FREE: ClassVar["Score"]

    queue_s: float
    prefill_s: float
    move_s: float
    crowding_s: float
    delay_s: float = 0.0
    eviction_s: float = 0.0
    base_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        return self.queue_s + self.prefill_s + self.base_s

    @property
    def total_s(self) -> float:
        return self.ttft_s + self.move_s + self.crowding_s + self.delay_s + self.eviction_s

    def terms(self) -> dict[str, float]:
        return {
            "queue_s": self.queue_s,
            "prefill_s": self.prefill_s,
            "base_s": self.base_s,
            "delay_s": self.delay_s,
            "eviction_s": self.eviction_s,
            "move_s": self.move_s,
            "crowding_s": self.crowding_s,
        }


Score.FREE = Score(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Weights:
    """`move_margin_s`: gain below which a session stays. `crowding`: share of the recompute time
    of the KV already committed to a replica that a new conversation is charged. `delay`: share of
    the standstill of others' answers that counts."""

    move_margin_s: float = 1.0
    crowding: float = 0.05
    delay: float = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """What is scored: a prompt of so many tokens, whose session lives on `home` if it does.

    `victim_worth` is the chance that what a replica would evict next is asked for again, by the
    seconds since it was used.
    """

    prompt_tokens: int
    home: str | None
    weights: Weights
    now: float
    victim_worth: Callable[[float], float]


def score(
    asked: Asked, replica: Replica, match: Match, *, committed_tokens: int, ahead_s: float
) -> Score:
    """`committed_tokens`: KV that conversations have lately used on `replica`.
    `ahead_s`: seconds of prefill that wait for it before this turn."""
    weights, rate, load = asked.weights, replica.rate, replica.load
    miss = max(1, asked.prompt_tokens - match.tokens)
    prefill_s = rate.prefill_s(miss, asked.prompt_tokens)
    moves = asked.home is not None and asked.home != replica.id
    decoding = load.in_flight - len(load.waiting)
    return Score(
        queue_s=load.queue_s(asked.now) + ahead_s,
        prefill_s=prefill_s,
        base_s=rate.base_s,
        delay_s=weights.delay * prefill_s * decoding,
        eviction_s=_eviction_s(asked, replica, miss),
        move_s=weights.move_margin_s if moves else 0.0,
        crowding_s=0.0 if asked.home else weights.crowding * rate.prefill_s(committed_tokens),
    )


def _eviction_s(asked: Asked, replica: Replica, miss: int) -> float:
    """Expected recompute of the prefixes that `miss` new tokens push out of the cache."""
    cache = replica.hbm
    excess = cache.size / replica.bytes_per_token + miss - replica.hbm_tokens
    used_at = cache.next_victim_used_at() if excess > 0 else None
    if used_at is None:
        return 0.0
    worth = asked.victim_worth(asked.now - used_at)
    return worth * replica.rate.prefill_s(min(miss, excess))


def argmin(totals: Sequence[float]) -> list[int]:
    """Indexes of the smallest values: ties within a millisecond are ties."""
    best = min(totals)
    return [index for index, total in enumerate(totals) if total <= best + 1e-3]
