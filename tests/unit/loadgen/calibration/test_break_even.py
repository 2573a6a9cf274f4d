import pytest

from loadgen.calibration.break_even import Prefix, prefixes, shortest_worth_loading, tier_pays
from loadgen.calibration.fit import LoadLaw, PrefillLaw

PREFILL, LOAD = PrefillLaw(0.001, 20e-6, 1e-9), LoadLaw(0.005, 2e-6)


def test_prefixes_are_priced_both_ways() -> None:
    short, long = prefixes([100, 100_000], LOAD, PREFILL, 8192)
    assert short.load_s > short.compute_s
    assert long.load_s == pytest.approx(0.205)
    assert long.compute_s == pytest.approx(0.001 * 13 + 2.0 + 5.0)


def test_the_shortest_prefix_worth_loading_is_where_the_two_meet() -> None:
    least = shortest_worth_loading(LOAD, PREFILL, 10_000)
    assert least is not None
    wins = [n for n in range(1, 10_001) if LOAD.seconds(n) < PREFILL.step_s(n, 0)]
    assert least == wins[0]
    assert shortest_worth_loading(LoadLaw(0.1, 1.0), PREFILL, 10_000) is None


def test_a_tier_pays_beyond_what_hbm_holds() -> None:
    returning = Prefix(65_536, 0.2, 2.2)
    tier = tier_pays(131, 131_000, 800_000, returning, 0.0)
    assert (tier.holds_tokens, tier.pays_from_tokens) == (1_000_000, 800_000)
    assert tier.covers_tokens == 1_800_000
    assert tier.saved_s == pytest.approx(2.0)
    # Half of what a load saves is lost on every turn: it must miss on half of them.
    assert tier_pays(131, 131_000, 800_000, returning, 1.0).pays_from_tokens == 1_600_000
    assert tier_pays(131, 131_000, 800_000, returning, 2.0).pays_from_tokens is None
    assert tier_pays(1, 131_000, 1, Prefix(9, 2.0, 1.0), 0.0).pays_from_tokens is None
