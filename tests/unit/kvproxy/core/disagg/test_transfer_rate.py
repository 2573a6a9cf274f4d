import pytest

from kvproxy.core.disagg.transfer_rate import TransferRate


def test_the_prior_until_something_was_seen() -> None:
    rate = TransferRate(100_000.0)
    assert rate.tok_s == 100_000.0
    rate.observe(500, 0.1)
    rate.observe(50_000, 0.0)
    assert rate.tok_s == 100_000.0, "handshakes and clock grain say nothing"


def test_the_median_of_what_was_seen() -> None:
    rate = TransferRate(100_000.0)
    for seconds in (0.1, 0.1, 10.0):
        rate.observe(20_000, seconds)
    assert rate.tok_s == pytest.approx(200_000.0)


def test_old_ones_are_forgotten() -> None:
    rate = TransferRate(1.0)
    for _ in range(40):
        rate.observe(10_000, 1.0)
    for _ in range(31):
        rate.observe(10_000, 0.1)
    assert rate.tok_s == pytest.approx(100_000.0)
