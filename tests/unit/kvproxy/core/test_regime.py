import pytest

from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.regime import Capacity, Regime, advise, regime_of
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_router

# The published set-up: (0.78 x 384 GB - 230 GB) at 120 kB a token, of which five running
# conversations of 60k tokens hold a part, and 64 GB of DRAM.
PUBLISHED = Capacity(hbm=579_000, held=300_000, dram=533_000)


def windows(live: int, hour: int | None = None) -> dict[float, int]:
    return {60.0: live // 4, 300.0: live // 2, 900.0: live, 3600.0: hour or live}


@pytest.mark.parametrize(
    ("live", "hour", "regime"),
    [
        (50_000, 130_000, Regime.HBM_ENOUGH),
        (99_000, 250_000, Regime.HBM_ENOUGH),
        (180_000, 450_000, Regime.WATCH_EVICTIONS),
        (249_000, 620_000, Regime.WATCH_EVICTIONS),
        (300_000, 750_000, Regime.DRAM_PAYS),
        (500_000, 1_250_000, Regime.DRAM_PAYS),
        (600_000, 1_500_000, Regime.ADD_CAPACITY),
    ],
)
def test_the_published_table_comes_out(live: int, hour: int, regime: Regime) -> None:
    assert advise(windows(live, hour), PUBLISHED).regime is regime


def test_thresholds_are_capacities() -> None:
    twice = Capacity(1_158_000, 600_000, 1_066_000)
    for live in range(10_000, 900_000, 10_000):
        small, large = advise(windows(live), PUBLISHED), advise(windows(2 * live), twice)
        assert small.regime is large.regime


def test_without_dram_it_pays_whatever_the_size() -> None:
    advice = advise(windows(10**9), Capacity(1000, 0, 0))
    assert advice.regime is Regime.DRAM_PAYS
    assert "1,000,000,000" in advice.text


def test_held_tokens_never_make_room_negative() -> None:
    assert Capacity(10, 20, 0).usable == 0


def test_the_pool_is_read() -> None:
    router = make_router(2)
    shared = PrefixTree(5_000)
    for replica in router.replicas:
        replica.dram = shared
    chain = make_chain("x" * 4000)
    placement = router.place(Identity("", "m", "s"), chain, 1.0)
    advice = regime_of(router, 1.0)
    assert advice.capacity == Capacity(200_000, 0, 5_000)
    assert advice.working_set[60.0] == placement.placing.prompt_tokens
    figures = advice.as_json()
    assert figures["working_set_tokens"] == dict.fromkeys(
        ("1m", "5m", "15m", "60m"), placement.placing.prompt_tokens
    )
    router.finish(placement, None, 2.0)
    assert router.held.tokens == 0
    assert advise(dict(advice.working_set), advice.capacity) == advice
