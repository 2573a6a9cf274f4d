"""A published comparison of cache tiers, played again in the model.

MiniMax-M2.5 FP8 (230 GB) on two MI300X, tensor parallel: no prefix cache, prefix cache in HBM, and
LMCache with 64 GB of DRAM behind it. Every number below is the publication's own or follows from
one; none is chosen per arm. The two that it does not give, the pace of decoding and of loading from
DRAM, are the same for all arms.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from rich.table import Table

from kvproxy.core.policies import PolicyName
from loadgen.engine_model import EngineLimits, EngineRates
from loadgen.ramp.classic import ClassicRule
from loadgen.simulate.run import Arm, Setup, Summary, simulate, summarise
from loadgen.simulate.world import Sample
from loadgen.traces.model import Trace

MI300X_MINIMAX = "mi300x-minimax-m2.5"
_HBM_BYTES, _WEIGHT_BYTES, _DRAM_BYTES = 2 * 192e9, 230e9, 64e9
# A context of 100k tokens takes about 12 GB.
_KV_BYTES_PER_TOKEN = 12e9 / 100_000
# Throughput of prompts that hit nothing, without and with LMCache's connector.
_PREFILL_TOK_S, _PREFILL_LMCACHE_TOK_S = 2_416.0, 1_867.0
_DECODE_STEP_S, _DRAM_TOK_S = 0.05, 100_000.0
_BLOCK_SIZE = 64


@dataclass(frozen=True, slots=True)
class Published:
    """As printed: finished requests and mean TTFT."""

    requests: int
    ttft_mean_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """One of the two published loads."""

    name: str
    memory_share: float
    max_context: int
    duration_s: float
    ramp: ClassicRule
    published: dict[str, Published]

    @property
    def hbm_tokens(self) -> int:
        return int((self.memory_share * _HBM_BYTES - _WEIGHT_BYTES) / _KV_BYTES_PER_TOKEN)


LOADS = (
    Load("base", 0.85, 32_000, 600.0, ClassicRule(30.0, 8, value="p95", cooldown=True), {
        "vanilla": Published(9, 30.05), "hbm": Published(52, 16.66), "dram": Published(25, 24.29),
    }),
    Load("stress", 0.78, 100_000, 1200.0, ClassicRule(60.0, 32, value="p95", cooldown=True), {
        "vanilla": Published(18, 150.84), "hbm": Published(12, 102.17),
        "dram": Published(28, 34.59),
    }),
)  # fmt: skip
ARMS = ("vanilla", "hbm", "dram")
USERS = (4, 6, 8, 10, 12, 16)
SEEDS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Played:
    load: Load
    arms: dict[str, Summary]

    def as_json(self) -> dict[str, object]:
        published = {name: asdict(arm) for name, arm in self.load.published.items()}
        arms = {name: asdict(arm) for name, arm in self.arms.items()}
        return {"load": self.load.name, "arms": arms, "published": published}


def setup_of(load: Load, arm: str, seed: int) -> Setup:
    lmcache = arm == "dram"
    return Setup(
        conversations=load.ramp.users_max,
        replicas=1,
        rates=EngineRates(
            prefill_tok_s=_PREFILL_LMCACHE_TOK_S if lmcache else _PREFILL_TOK_S,
            decode_step_s=_DECODE_STEP_S,
            dram_tok_s=_DRAM_TOK_S,
        ),
        limits=EngineLimits(
            hbm_tokens=load.hbm_tokens,
            dram_tokens=int(_DRAM_BYTES / _KV_BYTES_PER_TOKEN) if lmcache else 0,
            block_size=_BLOCK_SIZE,
            prefix_caching=arm != "vanilla",
        ),
        duration_s=load.duration_s,
        ramp=load.ramp,
        seed=seed,
    )


def play(traces: Sequence[Trace], load: Load, seeds: Sequence[int]) -> Played:
    """`traces` within the load's context; figures are means over `seeds`. No proxy is between."""
    arm = Arm(PolicyName.ROUND_ROBIN, holds_back=False)
    figures = {}
    for name in ARMS:
        runs = []
        for seed in seeds:
            setup = setup_of(load, name, seed)
            runs.append(summarise(simulate(traces, setup, arm), setup))
        figures[name] = _mean(runs)
    return Played(load, figures)


def preset_table(played: Sequence[Played]) -> Table:
    """Ratios to the HBM arm, simulated beside published."""
    table = Table(title=f"{MI300X_MINIMAX}: ratios to the HBM arm, simulated (published)")
    for column in ("load", "arm", "requests", "TTFT mean s", "requests ratio", "TTFT ratio"):
        table.add_column(column, justify="right")
    for one in played:
        base, printed = one.arms["hbm"], one.load.published
        for name, arm in one.arms.items():
            ratios = (
                (arm.requests / base.requests, printed[name].requests / printed["hbm"].requests),
                (arm.ttft_mean_s / base.ttft_mean_s,
                 printed[name].ttft_mean_s / printed["hbm"].ttft_mean_s),
            )  # fmt: skip
            table.add_row(
                one.load.name,
                name,
                f"{arm.requests} ({printed[name].requests})",
                f"{arm.ttft_mean_s:.1f} ({printed[name].ttft_mean_s})",
                *(f"{ours:.2f} ({theirs:.2f})" for ours, theirs in ratios),
            )
    return table


@dataclass(frozen=True, slots=True)
class Step:
    """A number of users that does not change; `live_tokens` is what they used in the last 15
    minutes of the HBM arm."""

    users: int
    live_tokens: int
    arms: dict[str, Summary]


def crossover(
    traces: Sequence[Trace], load: Load, users: Sequence[int], seeds: Sequence[int]
) -> list[Step]:
    """An hour each, so that what the ramp does is not in it."""
    return tier_steps(traces, lambda arm, seed: setup_of(load, arm, seed), users, seeds)


def tier_steps(
    traces: Sequence[Trace],
    setup_for: Callable[[str, int], Setup],
    users: Sequence[int],
    seeds: Sequence[int],
    duration_s: float = 3600.0,
) -> list[Step]:
    """Arms `hbm` and `dram` side by side; `setup_for` gives the setup of an arm and a seed."""
    arm = Arm(PolicyName.ROUND_ROBIN, holds_back=False)
    steps = []
    for count in users:
        figures, live = {}, 0
        for name in ("hbm", "dram"):
            runs = []
            for seed in seeds:
                setup = replace(
                    setup_for(name, seed), ramp=None, conversations=count, duration_s=duration_s
                )
                outcome = simulate(traces, setup, arm)
                live += live_tokens(outcome.samples, outcome.clock_s) if name == "hbm" else 0
                runs.append(summarise(outcome, setup))
            figures[name] = _mean(runs)
        steps.append(Step(count, live // len(seeds), figures))
    return steps


def live_tokens(samples: Sequence[Sample], now: float, window_s: float = 900.0) -> int:
    """Latest prompts of the conversations that asked within the window."""
    latest = {s.conversation: s.prompt_tokens for s in samples if s.asked_at >= now - window_s}
    return sum(latest.values())


def crossover_table(hbm_tokens: int, steps: Sequence[Step]) -> Table:
    table = Table(title=f"fixed users, {hbm_tokens:,} tokens of HBM: where DRAM begins to pay")
    columns = ("users", "live tokens", "hbm hit %", "dram hit %", "TTFT ratio", "requests ratio")
    for column in columns:
        table.add_column(column, justify="right")
    for step in steps:
        hbm, dram = step.arms["hbm"], step.arms["dram"]
        table.add_row(
            str(step.users),
            f"{step.live_tokens:,}",
            f"{100 * hbm.hit_rate_reported:.1f}",
            f"{100 * dram.hit_rate_reported:.1f}",
            f"{dram.ttft_mean_s / hbm.ttft_mean_s:.2f}",
            f"{dram.requests / hbm.requests:.2f}",
        )
    return table


def _mean(runs: Sequence[Summary]) -> Summary:
    fields = [asdict(run) for run in runs]
    means = {name: sum(run[name] for run in fields) / len(fields) for name in fields[0]}
    counts = ("requests", "queue_length_max", "silent_beyond_p95")
    whole = {name: round(means[name]) for name in counts}
    return replace(Summary(**means), **whole)
