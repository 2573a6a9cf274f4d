"""What a turn would cost on each replica, in seconds, as named terms.

The client waits for queue + prefill of what is missed + base. Beside it stands what placing the
turn there costs others: `delay` (answers under way stand still while a prompt is computed),
`eviction` (its KV pushes out prefixes whose conversations may come back), `move` (a conversation
that leaves its replica leaves a copy behind, so it moves only for a real gain) and `crowding` (a
new conversation brings KV that will want to stay). The part of a prefix that every replica holds
is in no term of any of them, so it attracts nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar, NamedTuple, Protocol

from msgspec import Struct, field

from kvproxy.core.replica import Replica
from kvproxy.core.returns import Worth

TIE_S = 1e-3


class Match(Struct, frozen=True, gc=False):
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
    """Seconds by term. `ttft_s` is the part the client waits for."""

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


class Ahead(Protocol):
    """Those who wait for one replica."""

    def ahead_s(self, prefill_s: float) -> float:
        """Seconds of those who go before a turn that takes `prefill_s` there itself."""


class Asked(Struct, frozen=True):
    """What is scored: a prompt of so many tokens, whose session lives on `home`, one of the
    candidates, if it does.

    `victim_worth` is the chance that what a replica would evict next is asked for again, by the
    seconds since it was used and those for which it was wanted from then on. `committed`: KV that
    conversations have lately used, in tokens by replica. `lines`: who waits for it, by replica.
    """

    prompt_tokens: int
    home: str | None
    weights: Weights
    now: float
    victim_worth: Worth
    committed: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, Ahead] = field(default_factory=dict)


def cheapest(asked: Asked, candidates: Sequence[Replica], matches: Sequence[Match]) -> list[int]:
    """Indexes of the candidates whose terms have the smallest sum, as `argmin` of `score` of all
    would find them. Most terms are looked at for every replica of a decision, and those that take
    longer to find only where the others leave it a chance."""
    prompt_tokens, lines, bar = asked.prompt_tokens, asked.lines, inf
    costs_s = _most_terms(asked, candidates, matches)
    found: list[tuple[int, float]] = []
    # The best so far comes first: hardly anybody else comes near it.
    first = costs_s.index(min(costs_s))
    for index in (first, *range(first), *range(first + 1, len(costs_s))):
        total_s = costs_s[index]
        if total_s > bar:
            continue
        replica, match = candidates[index], matches[index]
        miss = max(1, prompt_tokens - match.tokens)
        if match.dram or match.disk:
            miss, _ = _miss_and_load(asked, replica, match)
        if lines and (line := lines.get(replica.id)) is not None:
            total_s += line.ahead_s(replica.rate.prefill_s(miss, prompt_tokens))
        if total_s <= bar and replica.hbm.size + miss > replica.hbm_tokens:
            total_s += pushed_out_s(replica, miss, asked.now, asked.victim_worth)
        if total_s <= bar:
            found.append((index, total_s))
            bar = min(bar, total_s + TIE_S)
    return sorted([index for index, total_s in found if total_s <= bar])


def _most_terms(
    asked: Asked, candidates: Sequence[Replica], matches: Sequence[Match]
) -> list[float]:
    """Sums of what is quickly told of each candidate; this runs for every replica of a decision."""
    weights, prompt_tokens, home, now = asked.weights, asked.prompt_tokens, asked.home, asked.now
    crowding, delay, committed = weights.crowding, weights.delay, asked.committed.get
    costs_s: list[float] = []
    enough_s = _enough_s(asked, candidates, matches)
    last, miss, load_s, slower = None, 0, 0.0, False
    for replica, match in zip(candidates, matches, strict=True):
        rate = replica.rate
        if match is not last:
            last, slower = match, bool(match.dram or match.disk)
            miss, load_s = max(1, prompt_tokens - match.tokens), 0.0
        if slower:
            miss, load_s = _miss_and_load(asked, replica, match)
        # rate.prefill_s, spelt out where it is a product.
        bent, s_per_tok = rate.s_per_tok2, rate.s_per_tok
        prefill_s = rate.prefill_s(miss, prompt_tokens) if bent else miss * s_per_tok
        total_s = load_s + prefill_s + rate.base_s
        if home is None:
            there = committed(replica.id, 0)
            total_s += crowding * (rate.prefill_s(there) if bent else there * s_per_tok)
        elif home != replica.id:
            total_s += weights.move_margin_s
        if total_s > enough_s:
            costs_s.append(total_s)
            continue
        load = replica.load
        if load.decoding:
            total_s += delay * prefill_s * load.decoding
        # load.queue_s, spelt out.
        left_s = load.free_at - now
        total_s += left_s if left_s > load.behind_s else load.behind_s  # noqa: FURB136
        if load.declines_until > now:
            total_s += load.declines_until - now
        costs_s.append(total_s)
    return costs_s


def _enough_s(asked: Asked, candidates: Sequence[Replica], matches: Sequence[Match]) -> float:
    """Of whoever costs that much nothing more need be known: the home costs less."""
    if asked.home is None:
        return inf
    at = [replica.id for replica in candidates].index(asked.home)
    # Other sums of the same terms may differ in their last bits.
    return score(asked, candidates[at], matches[at]).total_s + 2 * TIE_S


def score(asked: Asked, replica: Replica, match: Match) -> Score:
    """Every term by name, for the decision that is explained."""
    weights, rate, load, home = asked.weights, replica.rate, replica.load, asked.home
    miss, load_s = max(1, asked.prompt_tokens - match.tokens), 0.0
    if match.dram or match.disk:
        miss, load_s = _miss_and_load(asked, replica, match)
    prefill_s = rate.prefill_s(miss, asked.prompt_tokens)
    move_s = crowding_s = eviction_s = 0.0
    if home is None:
        crowding_s = weights.crowding * rate.prefill_s(asked.committed.get(replica.id, 0))
    elif home != replica.id:
        move_s = weights.move_margin_s
    queue_s = load.queue_s(asked.now)
    if asked.lines and (line := asked.lines.get(replica.id)) is not None:
        queue_s += line.ahead_s(prefill_s)
    if replica.hbm.size + miss > replica.hbm_tokens:
        eviction_s = pushed_out_s(replica, miss, asked.now, asked.victim_worth)
    return Score(
        queue_s,
        prefill_s,
        move_s,
        crowding_s,
        weights.delay * prefill_s * load.decoding,
        eviction_s,
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


def pushed_out_s(replica: Replica, miss: int, now: float, victim_worth: Worth) -> float:
    """Expected recompute of the prefixes that `miss` new tokens push out of the cache."""
    cache = replica.hbm
    excess = cache.size + miss - replica.hbm_tokens
    victim = cache.next_victim() if excess > 0 else None
    if victim is None:
        return 0.0
    lost_s = replica.rate.prefill_s(min(miss, excess))
    return victim_worth(now - victim.used_at, victim.retention_s) * lost_s


def argmin(totals: Sequence[float]) -> list[int]:
    """Indexes of the smallest values: ties within a millisecond are ties."""
    best = min(totals)
    return [index for index, total in enumerate(totals) if total <= best + TIE_S]
