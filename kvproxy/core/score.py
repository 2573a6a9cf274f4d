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
from typing import ClassVar, NamedTuple

from kvproxy.core.replica import Replica


@dataclass(frozen=True, slots=True)
class Match:
    """What one replica is believed to hold of the prompt.

    Of `tokens`, `dram` and `disk` have to be loaded from slower tiers. `blocks` of the byte chain
    are covered. `rank` is the data-parallel rank that holds them, None if any will do. `by_events`,
    `by_history` and `by_coordinator` are what each source alone would have said, None if it had
    nothing to say.
    `echo` tokens are held if the prompt repeats the last answer as it was generated, 0 if no more.
    """

    NONE: ClassVar["Match"]

    blocks: int
    tokens: int
    dram: int = 0
    disk: int = 0
    rank: int | None = None
    source: str = "history"
    by_events: int | None = None
    by_history: int | None = None
    echo: int = 0
    by_coordinator: int | None = None

    @property
    def hbm(self) -> int:
        return self.tokens - self.dram - self.disk


Match.NONE = Match(0, 0)


class _Terms(NamedTuple):
    queue_s: float
    prefill_s: float
    move_s: float
    crowding_s: float
    delay_s: float = 0.0
    eviction_s: float = 0.0
    base_s: float = 0.0
    load_s: float = 0.0


class Score(_Terms):
    """Seconds by term; a tuple, because a decision makes one for each replica. `ttft_s` is the
    part the client waits for."""

    __slots__ = ()
    FREE: ClassVar["Score"]

    @property
    def ttft_s(self) -> float:
        return self.queue_s + self.prefill_s + self.load_s + self.base_s

    @property
    def total_s(self) -> float:
        return sum(self)

    def terms(self) -> dict[str, float]:
        return self._asdict()


Score.FREE = Score(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Weights:
    """`move_margin_s`: gain below which a session stays. `crowding`: share of the recompute time
    of the KV already committed to a replica that a new conversation is charged. `delay`: share of
    the standstill of others' answers that counts. `dram_tok_s` and `disk_tok_s`: tokens loaded
    per second from slower tiers."""

    move_margin_s: float = 2.0
    crowding: float = 0.05
    delay: float = 0.5
    dram_tok_s: float = 200_000.0
    disk_tok_s: float = 40_000.0


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
    miss, load_s = max(1, asked.prompt_tokens - match.tokens), 0.0
    if match.dram or match.disk:
        miss, load_s = _miss_and_load(asked, replica, match)
    prefill_s = rate.prefill_s(miss, asked.prompt_tokens)
    # By position, in the order of the terms: this runs for every replica of every decision.
    return Score(
        load.queue_s(asked.now) + ahead_s,
        prefill_s,
        weights.move_margin_s if asked.home is not None and asked.home != replica.id else 0.0,
        0.0 if asked.home else weights.crowding * rate.prefill_s(committed_tokens),
        weights.delay * prefill_s * load.decoding,
        pushed_out_s(replica, miss, asked.now, asked.victim_worth),
        rate.base_s,
        load_s,
    )


def _miss_and_load(asked: Asked, replica: Replica, match: Match) -> tuple[int, float]:
    """Tokens to compute, and seconds of loading the others. What a tier delivers more slowly than
    it is computed counts as missed."""
    miss, load_s = max(1, asked.prompt_tokens - match.tokens), 0.0
    tiers = ((match.disk, asked.weights.disk_tok_s), (match.dram, asked.weights.dram_tok_s))
    for tokens, tok_s in tiers:
        computed_s = replica.rate.prefill_s(miss + tokens, asked.prompt_tokens)
        saved_s = computed_s - replica.rate.prefill_s(miss, asked.prompt_tokens)
        if saved_s <= tokens / tok_s:
            miss += tokens
        else:
            load_s += tokens / tok_s
    return miss, load_s


def pushed_out_s(
    replica: Replica, miss: int, now: float, victim_worth: Callable[[float], float]
) -> float:
    """Expected recompute of the prefixes that `miss` new tokens push out of the cache."""
    cache = replica.hbm
    excess = cache.size + miss - replica.hbm_tokens
    if excess <= 0:
        return 0.0
    used_at = cache.next_victim_used_at()
    if used_at is None:
        return 0.0
    worth = victim_worth(now - used_at)
    return worth * replica.rate.prefill_s(min(miss, excess))


def argmin(totals: Sequence[float]) -> list[int]:
    """Indexes of the smallest values: ties within a millisecond are ties."""
    best = min(totals)
    return [index for index, total in enumerate(totals) if total <= best + 1e-3]
