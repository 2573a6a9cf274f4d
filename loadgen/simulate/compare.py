"""Arms side by side on the same conversations, with the bounds they are held against."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from kvproxy.core.policies import PolicyName
from loadgen.simulate.bounds import Bounds, bounds
from loadgen.simulate.run import Arm, Outcome, Setup, Summary, simulate, summarise
from loadgen.traces.model import Trace


@dataclass(frozen=True, slots=True)
class Comparison:
    """`unlimited` is the first policy on replicas whose cache nothing fills."""

    setup: Setup
    arms: dict[str, Summary]
    unlimited: Summary
    bounds: Bounds

    def as_json(self) -> dict[str, object]:
        limits = asdict(self.bounds)
        arms = [
            {"policy": name, "hit_rate_bound": self.bounds.infinite} | asdict(summary)
            for name, summary in self.arms.items()
        ]
        return {
            "conversations": self.setup.conversations,
            "replicas": self.setup.replicas,
            "hbm_tokens": self.setup.limits.hbm_tokens,
            "dram_tokens": self.setup.limits.dram_tokens,
            "seed": self.setup.seed,
            "arms": arms,
            "unlimited": asdict(self.unlimited),
            "bounds": limits,
        }


def compare(
    traces: Sequence[Trace], setup: Setup, names: Sequence[str], tell: Callable[[str], None]
) -> Comparison:
    """Runs every named arm; `tell` hears what is being done."""
    return contrast(lambda on, arm: simulate(traces, on, arm), setup, names, tell)


def contrast(
    play: Callable[[Setup, Arm], Outcome],
    setup: Setup,
    names: Sequence[str],
    tell: Callable[[str], None],
) -> Comparison:
    """The same of anything that can be played."""
    tell("unlimited cache, for the bounds")
    free = play(setup.without_limit(), Arm(PolicyName.SECONDS, holds_back=False))
    unlimited = summarise(free, setup)
    capacity = setup.replicas * setup.limits.hbm_tokens
    limits = bounds(free.samples, capacity, setup.limits.block_size)
    arms = {}
    for name in names:
        tell(name)
        arms[name] = summarise(play(setup, Arm.named(name)), setup)
    return Comparison(setup, arms, unlimited, limits)


def table(comparison: Comparison) -> Table:
    setup, limits = comparison.setup, comparison.bounds
    title = (
        f"{setup.conversations} conversations, {setup.replicas} replicas x "
        f"{setup.limits.hbm_tokens:,} tokens"
    )
    caption = _caption(limits)
    if any(arm.silent_beyond_p95 for arm in (*comparison.arms.values(), comparison.unlimited)):
        caption += (
            "; silent: had no first token when the run ended, after more than p95 (up to so long)"
        )
    found = Table(title=title, caption=caption, caption_justify="left")
    for column in ("policy", "requests", "req/s", "hit %", "predicted %"):
        found.add_column(column, justify="left" if column == "policy" else "right")
    columns = ("ttft mean s", "p50", "p95", "p99", "silent", "waited max s", "Jain", "stretch p50")
    for column in columns:
        found.add_column(column, justify="right")
    rows = [*comparison.arms.items(), ("(unlimited cache)", comparison.unlimited)]
    for name, arm in rows:
        found.add_row(
            name,
            f"{arm.requests:,}",
            f"{arm.requests_per_s:.2f}",
            f"{100 * arm.hit_rate_reported:.1f}",
            f"{100 * arm.hit_rate_predicted:.1f}",
            f"{arm.ttft_mean_s:.2f}",
            f"{arm.ttft_p50_s:.2f}",
            f"{arm.ttft_p95_s:.2f}",
            f"{arm.ttft_p99_s:.1f}",
            _silent(arm),
            f"{arm.waited_max_s:.0f}",
            f"{arm.jain_fairness:.2f}",
            f"{arm.stretch_p50:.2f}",
        )
    return found


def _silent(arm: Summary) -> str:
    if not arm.silent_beyond_p95:
        return "0"
    return f"{arm.silent_beyond_p95}, {arm.silent_max_s:.0f} s"


def _caption(limits: Bounds) -> str:
    return (
        f"bounds on this order of requests: infinite cache {100 * limits.infinite:.1f} %, "
        f"pooled LRU {100 * limits.pooled_lru:.1f} %, "
        f"offline MIN {100 * limits.offline_min:.1f} %"
    )
