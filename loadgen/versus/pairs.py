"""Arms of a comparison, request by request: differences of pairs, with bootstrap intervals.

Arms send the same requests, so each is its own control. Requests of a conversation depend on one
another; so whole conversations are drawn, with all their requests in all repeats of the run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from loadgen.sample import Sample
from loadgen.stats import quantile

RESAMPLES = 1000
# Fewer conversations than this agree by chance one time in twenty, whatever is drawn from them.
CONVERSATIONS_MIN = 6

Pair = tuple[float, float]
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a figure, arm less base; `low` to `high` is a 95 % interval, drawn from so many
    `conversations`."""

    base: float
    arm: float
    low: float
    high: float
    conversations: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero, and is of conversations enough to say so."""
        enough = self.conversations >= CONVERSATIONS_MIN
        return enough and (self.low > 0 or self.high < 0)


def by_conversation(
    base: Sequence[Sample], arm: Sequence[Sample], value: Callable[[Sample], float | None]
) -> dict[str, list[Pair]]:
    """(base, arm) values of every request that both answered, by trace."""
    known = {_key(sample): value(sample) for sample in base if sample.ok}
    pairs: defaultdict[str, list[Pair]] = defaultdict(list)
    for sample in arm:
        ours, theirs = value(sample), known.get(_key(sample))
        if sample.ok and ours is not None and theirs is not None:
            pairs[sample.trace].append((theirs, ours))
    return dict(pairs)


def difference(
    pairs: Mapping[str, Sequence[Pair]], figure: Callable[[Sequence[float]], float], seed: int = 1
) -> Difference | None:
    """Of `figure` over all requests; None without pairs."""
    clusters = list(pairs.values())
    if not clusters:
        return None
    random = Random(f"bootstrap {seed}")
    drawn = sorted(
        _apart(random.choices(clusters, k=len(clusters)), figure) for _ in range(RESAMPLES)
    )
    base, arm = _figures(clusters, figure)
    return Difference(base, arm, quantile(drawn, 0.025), quantile(drawn, 0.975), len(clusters))


def p95(values: Sequence[float]) -> float:
    return quantile(sorted(values), 0.95)


def mean(values: Sequence[float]) -> float:
    return fmean(values)


def hit_rate(sample: Sample) -> float | None:
    if not sample.prompt_tokens:
        return None
    return (sample.cached_tokens or 0) / sample.prompt_tokens


def stretches(arms: Mapping[str, Sequence[Sample]]) -> dict[str, list[float]]:
    """By arm, of every conversation that all arms finished: its time spent waiting for answers
    over the shortest that any arm took."""
    waited: dict[str, dict[str, float]] = {}
    for name, samples in arms.items():
        sums: defaultdict[str, float] = defaultdict(float)
        for sample in samples:
            sums[sample.conversation] += sample.e2e_s or 0.0
        failed = {sample.conversation for sample in samples if not sample.ok}
        waited[name] = {c: s for c, s in sums.items() if c not in failed and s > 0}
    common = set.intersection(*(set(sums) for sums in waited.values())) if waited else set()
    best = {c: min(sums[c] for sums in waited.values()) for c in common}
    return {name: [sums[c] / best[c] for c in sorted(common)] for name, sums in waited.items()}


def _key(sample: Sample) -> Key:
    return sample.conversation, sample.agent, sample.turn


def _figures(
    clusters: Iterable[Sequence[Pair]], figure: Callable[[Sequence[float]], float]
) -> Pair:
    flat = [pair for cluster in clusters for pair in cluster]
    return figure([base for base, _ in flat]), figure([arm for _, arm in flat])


def _apart(clusters: Iterable[Sequence[Pair]], figure: Callable[[Sequence[float]], float]) -> float:
    base, arm = _figures(clusters, figure)
    return arm - base
