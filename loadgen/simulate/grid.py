"""Every policy over a grid of conversations, replicas and cache sizes: who loses where."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from statistics import fmean

from rich.table import Table

from loadgen.simulate.run import Arm, Setup, Summary, simulate, summarise
from loadgen.traces.model import Trace

CONVERSATIONS = (32, 128)
REPLICAS = (2, 4, 8)
HBM_TOKENS = (250_000, 500_000, 1_000_000, 2_000_000)
ARMS = (
    "round_robin",
    "random",
    "session_hash",
    "longest_prefix",
    "sticky_least_loaded",
    "seconds-queue",
    "sticky_least_loaded+queue",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class Axes:
    """What is crossed, and how many seeds each figure is the mean of."""

    conversations: Sequence[int] = CONVERSATIONS
    replicas: Sequence[int] = REPLICAS
    hbm_tokens: Sequence[int] = HBM_TOKENS
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid; `unlimited` is the same fleet with caches that nothing fills."""

    setup: Setup
    arms: dict[str, Summary]
    unlimited: Summary

    def as_json(self) -> dict[str, object]:
        return {
            "conversations": self.setup.conversations,
            "replicas": self.setup.replicas,
            "hbm_tokens": self.setup.limits.hbm_tokens,
            "fluid": self.setup.fluid,
            "arms": {name: asdict(arm) for name, arm in self.arms.items()},
            "unlimited": asdict(self.unlimited),
        }


def run_grid(
    traces: Sequence[Trace],
    base: Setup,
    axes: Axes,
    names: Sequence[str],
    tell: Callable[[str], None],
) -> Iterator[Cell]:
    """Cells in order, each as soon as it is done; all else is as in `base`."""
    for conversations, replicas in product(axes.conversations, axes.replicas):
        fleet = replace(base, conversations=conversations, replicas=replicas)
        tell(f"{conversations} conversations, {replicas} replicas, unlimited cache")
        unlimited = _mean_run(traces, fleet.without_limit(), "seconds-queue", axes.seeds)
        for tokens in axes.hbm_tokens:
            setup = replace(fleet, limits=replace(base.limits, hbm_tokens=tokens))
            arms = {}
            for name in names:
                tell(f"{conversations} conversations, {replicas} x {tokens:,} tokens, {name}")
                arms[name] = _mean_run(traces, setup, name, axes.seeds)
            yield Cell(setup, arms, unlimited)


def _mean_run(traces: Sequence[Trace], setup: Setup, name: str, seeds: int) -> Summary:
    """Means over consecutive seeds; counts are rounded, maxima are those of all runs."""
    runs = []
    for seed in range(setup.seed, setup.seed + seeds):
        seeded = replace(setup, seed=seed)
        runs.append(asdict(summarise(simulate(traces, seeded, Arm.named(name)), seeded)))
    figures = {
        key: max(run[key] for run in runs)
        if key.endswith(("_max", "_max_s"))
        else type(value)(fmean(run[key] for run in runs))
        for key, value in runs[0].items()
    }
    return Summary(**figures)


def grid_table(cells: Sequence[Cell], names: Sequence[str]) -> Table:
    """Hit rate in %, p95 of TTFT in s, requests per s."""
    table = Table(title="hit % / p95 TTFT s / requests per s")
    for column in ("N", "R", "C (k tok)", *names, "(unlimited)"):
        table.add_column(column, justify="right")
    for cell in cells:
        setup = cell.setup
        place = (setup.conversations, setup.replicas, setup.limits.hbm_tokens // 1000)
        figures = [_figures(cell.arms[name]) for name in names]
        table.add_row(*map(str, place), *figures, _figures(cell.unlimited))
    return table


def _figures(arm: Summary) -> str:
    return f"{100 * arm.hit_rate_reported:.1f} / {arm.ttft_p95_s:.1f} / {arm.requests_per_s:.2f}"
