from loadgen.warm import Warm
from tests.support.traces import trace, turn


def test_the_share_is_that_of_the_median_conversation() -> None:
    made = [trace([turn(160, range(10))], f"t{n}", fixed=n) for n in (100, 200, 900)]
    assert Warm.of(made, 0.5) == Warm(100, 0)


def test_nobody_shares_more_than_its_own_tools_and_system_text() -> None:
    warm = Warm(main=100, sub_agents=40)
    assert warm.blocks(1000, 16, sub_agent=False) == 6
    assert warm.blocks(50, 16, sub_agent=False) == 3
    assert warm.blocks(1000, 16, sub_agent=True) == 2
