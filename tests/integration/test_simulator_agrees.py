"""The simulator against the real thing: the proxy before emulated replicas in scaled time."""

import pytest

from loadgen.demo import DemoSettings, demo_traces
from loadgen.emulator import EmulatorSettings, emulated
from loadgen.engine_model import EngineLimits
from loadgen.run import RunSettings, run_load
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, simulate, summarise
from loadgen.traces.model import Trace
from tests.support.proxies import proxied

SPEED, REPLICAS, USERS, SEED = 20.0, 2, 12, 1
THINK = Timing(think_cap_s=30.0)


def live_settings(policy: str) -> dict[str, dict[str, object]]:
    """The proxy's defaults, told in real seconds, which are shorter than the engine's."""
    return {
        "policy": {"name": policy},
        "score": {
            "prefill_tok_s": int(10_000 * SPEED),
            "base_s": 0.001,
            "move_margin_s": 2.0 / SPEED,
        },
        "admission": {
            "backlog_s": 1.0 / SPEED,
            "ageing_s": 600.0 / SPEED,
            "wait_max_s": 900.0 / SPEED,
            "large_prefill_burst_s": 10.0 / SPEED,
            "small_prefill_s": 2.0 / SPEED,
        },
    }


async def live_hit_rate(traces: list[Trace], policy: str, hbm_tokens: int) -> float:
    engine = EmulatorSettings(
        model="m", hbm_tokens=hbm_tokens, time_scale=SPEED, chunk_interval_s=0.02
    )
    timing = Timing(think_cap_s=THINK.think_cap_s, time_scale=SPEED)
    async with (
        emulated(engine, n=REPLICAS) as urls,
        proxied(urls, **live_settings(policy)) as (_, url),
    ):
        run = RunSettings(url, users=USERS, timing=timing, seed=SEED, output_tokens_max=300)
        result = await run_load(run, traces)
    assert result.summary["errors"] == {}
    hit_rate = result.summary["hit_rate_reported"]
    assert isinstance(hit_rate, float)
    return hit_rate


def simulated_hit_rate(traces: list[Trace], policy: str, hbm_tokens: int) -> float:
    limits = EngineLimits(hbm_tokens=hbm_tokens, block_size=64)
    setup = Setup(USERS, REPLICAS, limits=limits, timing=THINK, seed=SEED, output_tokens_max=300)
    outcome = simulate(traces, setup, Arm.named(policy))
    return summarise(outcome, setup).hit_rate_reported


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("policy", ["seconds", "sticky_least_loaded", "round_robin"])
@pytest.mark.parametrize("hbm_tokens", [400_000, 150_000], ids=["fits", "tight"])
async def test_hit_rates_agree_within_two_points(policy: str, hbm_tokens: int) -> None:
    traces = demo_traces(DemoSettings(conversations=24, turns=8))
    expected = simulated_hit_rate(traces, policy, hbm_tokens)
    found = await live_hit_rate(traces, policy, hbm_tokens)
    print(f"{policy} at {hbm_tokens}: simulated {100 * expected:.1f} %, live {100 * found:.1f} %")
    assert found == pytest.approx(expected, abs=0.02)
