"""What a turn would cost on each replica, in seconds, as named terms.

ttft = queue + prefill of what is missed; beside it what placing the turn there costs others: `move`
(a conversation that leaves its replica leaves a copy behind, so it moves only for a real gain) and
`crowding` (a new conversation brings KV that will want to stay). The part of a prefix that every
replica holds is in no term of any of them, so it attracts nobody.
"""

from collections.abc import Sequence
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

    @property
    def ttft_s(self) -> float:
        return self.queue_s + self.prefill_s

    @property
    def total_s(self) -> float:
        return self.queue_s + self.prefill_s + self.move_s + self.crowding_s

    def terms(self) -> dict[str, float]:
        return {
            "queue_s": self.queue_s,
            "prefill_s": self.prefill_s,
            "move_s": self.move_s,
            "crowding_s": self.crowding_s,
        }


Score.FREE = Score(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Weights:
    """`move_margin_s`: gain below which a session stays. `crowding`: share of the recompute time
    of the KV already committed to a replica that a new conversation is charged."""

    move_margin_s: float = 1.0
    crowding: float = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """What is scored: a prompt of so many tokens, whose session lives on `home` if it does."""

    prompt_tokens: int
    home: str | None
    weights: Weights
    now: float


def score(
    asked: Asked, replica: Replica, match: Match, *, committed_tokens: int, ahead_s: float
) -> Score:
    """`committed_tokens`: KV that the sessions living on `replica` would like to keep there.
    `ahead_s`: seconds of prefill that wait for it before this turn."""
    weights, rate = asked.weights, replica.rate
    moves = asked.home is not None and asked.home != replica.id
    crowding = 0.0 if asked.home else weights.crowding * rate.prefill_s(committed_tokens)
    return Score(
        queue_s=replica.load.queue_s(asked.now) + ahead_s,
        prefill_s=rate.prefill_s(max(1, asked.prompt_tokens - match.tokens)),
        move_s=weights.move_margin_s if moves else 0.0,
        crowding_s=crowding,
    )


def argmin(totals: Sequence[float]) -> list[int]:
    """Indexes of the smallest values: ties within a millisecond are ties."""
    best = min(totals)
    return [index for index, total in enumerate(totals) if total <= best + 1e-3]
