import pytest

from loadgen.honesty import LAGS_MIN, CpuMeter, allowed_lag_s, verdict

FAST = [0.0001] * 500


@pytest.mark.parametrize(
    ("slo_s", "scale", "allowed_s"),
    [(None, 1.0, 0.005), (0.2, 1.0, 0.005), (2.0, 1.0, 0.02), (2.0, 10.0, 0.005)],
)
def test_the_limit_is_five_ms_or_a_hundredth_of_the_slo(
    slo_s: float | None, scale: float, allowed_s: float
) -> None:
    assert allowed_lag_s(slo_s, scale) == pytest.approx(allowed_s)


@pytest.mark.parametrize("slow", [0, 1])
def test_either_kind_of_lag_makes_a_run_invalid(slow: int) -> None:
    lags = [FAST, FAST]
    lags[slow] = [0.0001] * 480 + [0.02] * 20
    found = verdict(*lags, 0.005)
    assert found["valid"] is False
    assert found["lag_p99_s"] == pytest.approx(0.02)
    assert verdict(*lags, 0.05)["valid"] is True


def test_one_late_request_of_a_few_is_no_verdict() -> None:
    few = [0.0001] * (LAGS_MIN - 2) + [1.0]
    assert verdict(few, FAST, 0.005)["valid"] is True
    assert verdict([*few, 1.0], FAST, 0.005)["valid"] is False


def test_a_run_without_samples_is_valid() -> None:
    assert verdict([], [], 0.005)["valid"] is True


def test_the_meter_reads_shares() -> None:
    meter = CpuMeter()
    sum(range(100_000))
    read = meter.read()
    assert read["cpu"] is not None
    assert read["cpu"] > 0
    assert read["cpu_wait"] is None or read["cpu_wait"] >= 0
