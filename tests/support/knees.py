"""Conversations and engines whose capacity is known: how many users can be served in time."""

from random import Random

from kvproxy.core.policies import PolicyName
from loadgen.engine_model import EngineLimits, EngineRates
from loadgen.ramp.choose import RampRule
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate
from loadgen.simulate.world import Sample
from loadgen.traces.model import Trace
from tests.support.traces import trace, turn

PROMPT_TOKENS = 20_032
BLOCK = 64
DIRECT = Arm(PolicyName.ROUND_ROBIN, holds_back=False)


def steady(count: int, tokens: int = PROMPT_TOKENS, think_s: float = 10.0) -> list[Trace]:
    """Conversations that send the same prompt 200 times, thinking `think_s` give or take half."""
    random = Random(5)
    ids = range(1, 1 + tokens // BLOCK)
    return [
        trace(
            [
                turn(tokens, ids, BLOCK, output_tokens=20,
                     think_s=random.uniform(think_s / 2, think_s * 1.5))
                for _ in range(200)
            ],
            f"t{number}",
            BLOCK,
            fixed=0,
        )
        for number in range(count)
    ]  # fmt: skip


def cache_knee(users: int, seed: int, ramp: RampRule | None = None) -> Setup:
    """One engine that holds the prompts of `users` conversations and not of one more: with an LRU
    cache everybody misses then."""
    limits = EngineLimits(hbm_tokens=users * PROMPT_TOKENS + 3_000, block_size=BLOCK)
    return _setup(limits, users, seed, ramp)


def service_knee(users: int, seed: int, ramp: RampRule | None = None) -> Setup:
    """One engine without a cache: TTFT grows with the queue, as gently as that does."""
    limits = EngineLimits(hbm_tokens=3_000_000, block_size=BLOCK, prefix_caching=False)
    return _setup(limits, users, seed, ramp)


def attainment(traces: list[Trace], setup: Setup, ttft_max_s: float) -> float:
    """Share of first tokens in time with a fixed number of users, the first ten minutes apart."""
    samples = [s for s in simulate(traces, setup, DIRECT).samples if s.asked_at > 600]
    return sum(_in_time(sample, ttft_max_s) for sample in samples) / len(samples)


def _in_time(sample: Sample, ttft_max_s: float) -> bool:
    return sample.ttft_s <= ttft_max_s


def _setup(limits: EngineLimits, users: int, seed: int, ramp: RampRule | None) -> Setup:
    return Setup(
        conversations=users,
        replicas=1,
        rates=EngineRates(),
        limits=limits,
        duration_s=4 * 3600.0,
        timing=Timing(start_spread_s=5.0),
        warm_prefix_pct=0.0,
        seed=seed,
        ramp=ramp,
    )
