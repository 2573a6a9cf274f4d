from loadgen.calibration import result
from loadgen.calibration.report import report
from tests.support.calibrations import DENSE, measured


def test_the_report_says_what_was_measured_and_what_follows() -> None:
    found = measured(small_step_s=0.016)
    laws = result.laws_of(found)
    costs = result.tier_costs(found, laws, 131_072, 800_000)
    text = report(DENSE, found, laws, costs)
    assert "card (torch 2, CUDA 13)" in text
    assert "clocks before: clocks.sm 1980 MHz" in text
    assert "medians of 5" in text
    assert "off by more than 15 %: 16 on 0" in text
    assert "HBM holds 800,000 tokens" in text
    assert "loading is faster from" in text


def test_without_a_gpu_nothing_ran_beside_a_prefill() -> None:
    found = measured(512)
    found.overlaps = []
    laws = result.laws_of(found)
    assert "not measured on a CPU" in report(
        DENSE, found, laws, result.tier_costs(found, laws, 1, 1)
    )
