"""What a turn would cost on each replica, in seconds, as named terms.

The client waits for queue + prefill of what is missed + base. Beside it stands what placing the
turn there costs others: `delay` (answers under way stand still while a prompt is computed),
`eviction` (its KV pushes out prefixes whose conversations may come back), `move` (a conversation
that leaves its replica leaves a copy behind, so it moves only for a real gain) and `crowding` (a
new conversation brings KV that will want to stay). The part of a prefix that every replica holds
is in no term of any of them, so it attracts nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    would find them.

    This runs for every replica of a decision, so terms are added from the cheapest to find to the
    dearest, and a candidate is left once its sum so far cannot win. The home comes first: hardly
    anybody else comes near it.
    """
    weights, prompt_tokens, home = asked.weights, asked.prompt_tokens, asked.home
    crowding, delay, now = weights.crowding, weights.delay, asked.now
    committed = asked.committed.get
    found: list[tuple[int, float]] = []
    bar, last, miss, load_s, slower = inf, None, 0, 0.0, False
    for index, replica, match in _home_first(candidates, matches, home):
        if match is not last:
            last, slower, load_s = match, bool(match.dram or match.disk), 0.0
            miss = max(1, prompt_tokens - match.tokens)
        rate = replica.rate
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
            if total_s > bar:
                continue
        load = replica.load
        if load.decoding:
            total_s += delay * prefill_s * load.decoding
        # load.queue_s, spelt out.
        left_s = load.free_at - now
        total_s += left_s if left_s > load.behind_s else load.behind_s  # noqa: FURB136
        if load.declines_until > now:
            total_s += load.declines_until - now
        if total_s <= bar:
            total_s = _all_of_it(asked, replica, miss, prefill_s, total_s)
            found.append((index, total_s))
            bar = min(bar, total_s + TIE_S)
    return sorted([index for index, total_s in found if total_s <= bar])


def _all_of_it(
    asked: Asked, replica: Replica, miss: int, prefill_s: float, total_s: float
) -> float:
    """`total_s` and what is longest to find: who waits there, and what would be pushed out."""
    lines = asked.lines
    if lines and (line := lines.get(replica.id)) is not None:
        total_s += line.ahead_s(prefill_s)
    excess = replica.hbm.size + miss - replica.hbm_tokens
    if excess <= 0:
        return total_s
    return total_s + pushed_out_s(replica, min(miss, excess), asked.now, asked.victim_worth)


def _home_first(
    candidates: Sequence[Replica], matches: Sequence[Match], home: str | None
) -> Iterable[tuple[int, Replica, Match]]:
    everybody = zip(range(len(candidates)), candidates, matches, strict=True)
    if home is None or candidates[0].id == home:
        return everybody
    listed = list(everybody)
    listed.insert(0, listed.pop([replica.id for replica in candidates].index(home)))
    return listed


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
    excess = replica.hbm.size + miss - replica.hbm_tokens
    if excess > 0:
        eviction_s = pushed_out_s(replica, min(miss, excess), asked.now, asked.victim_worth)
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


def pushed_out_s(replica: Replica, tokens: int, now: float, victim_worth: Worth) -> float:
    """Expected recompute of the prefixes whose `tokens` have to leave the cache."""
    victim = replica.hbm.next_victim()
    if victim is None:
        return 0.0
    worth = victim_worth(now - victim.used_at, victim.retention_s)
    return worth * replica.rate.prefill_s(tokens)


def argmin(totals: Sequence[float]) -> list[int]:
    """Indexes of the smallest values: ties within a millisecond are ties."""
    best = min(totals)
    return [index for index, total in enumerate(totals) if total <= best + TIE_S]
