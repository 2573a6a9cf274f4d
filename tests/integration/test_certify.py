"""A ramp on a real endpoint in scaled time: emulated, with a knee that its cache size fixes."""

from dataclasses import asdict

import pytest

from loadgen.emulator import EmulatorSettings, Fleet
from loadgen.ramp.certify import CertifyRule
from loadgen.ramp.slo import Limit, Slo
from loadgen.run import RunSettings, run_load
from loadgen.schedule import Timing
from tests.support.knees import PROMPT_TOKENS, steady

TIME_SCALE = 40.0
KNEE = 4


@pytest.mark.slow
async def test_the_capacity_of_an_emulator_is_certified() -> None:
    slo = Slo((Limit("ttft_s", 2.5),))
    rule = CertifyRule(slo, 12, settle_s=30.0, window_s=90.0, hold_s=240.0)
    settings = EmulatorSettings(
        hbm_tokens=KNEE * PROMPT_TOKENS + 3_000, time_scale=TIME_SCALE, chunk_interval_s=0.01
    )
    fleet = Fleet(settings, 1, "127.0.0.1", 0)
    await fleet.start()
    try:
        run = RunSettings(
            fleet.urls[0],
            timing=Timing(time_scale=TIME_SCALE),
            warm_prefix_pct=0.0,
            slo=slo,
            ramp=rule,
            duration_s=50.0,
        )
        result = await run_load(run, steady(24))
    finally:
        await fleet.stop()
    ramp = result.record["ramp"]
    assert isinstance(ramp, dict)
    print(ramp["users"], ramp["not_users"], asdict(rule), ramp["levels"])
    assert result.record["ended_because"] == "ramp done"
    assert abs(ramp["users"] - KNEE) <= 1
    assert ramp["attainment"] >= rule.attainment
