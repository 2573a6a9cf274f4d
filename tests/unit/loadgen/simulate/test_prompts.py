from array import array
from bisect import bisect_right

from kvproxy.core.types import Chain
from loadgen.simulate.prompts import ExactRuler, Measures, Play
from loadgen.warm import Warm
from tests.support.traces import trace, turn

WARM = Warm(main=32, sub_agents=16)


def test_equal_ids_of_one_play_are_equal_and_no_others() -> None:
    made = trace([turn(96, range(1, 7))], "t", fixed=64)
    one, other = Play(made, 1, Warm()), Play(made, 2, Warm())
    first = one.prompt(turn(96, range(1, 7)), 64, sub_agent=False)
    longer = one.prompt(turn(112, [1, 2, 3, 9, 10, 11, 12]), 64, sub_agent=False)
    assert first.shared(longer) == 3
    assert first.shared(other.prompt(turn(96, range(1, 7)), 64, sub_agent=False)) == 0


def test_plays_share_the_warm_blocks_of_their_kind() -> None:
    made = trace([turn(96, range(1, 7))], "t", fixed=64)
    prompts = [
        Play(made, number, WARM).prompt(turn(96, range(1, 7)), 64, sub_agent=sub_agent)
        for number, sub_agent in ((1, False), (2, False), (3, True))
    ]
    assert prompts[0].warm_blocks == 2
    assert prompts[0].shared(prompts[1]) == 2
    assert prompts[0].shared(prompts[2]) == 0
    assert prompts[2].warm_blocks == 1


def test_measures_are_cumulative_and_the_same_for_every_length() -> None:
    measures = Measures(16)
    short, long = measures.of(2), measures.of(4)
    assert list(long) == [64, 128, 192, 256]
    assert list(short) == list(long[:2])


def test_an_exact_ruler_knows_how_far_so_many_tokens_reach() -> None:
    ruler, chain = ExactRuler(16), Chain(hashes=array("Q", range(1, 9)))
    ends = ruler.token_ends(chain, 0, "m", 0)
    for held in range(7):
        for position in range(16 * held, 128):
            reached = bisect_right(ends, position)
            found = ruler.reach(chain, held, 8, "m", end=128, position=position)
            assert found == (reached, 16 * reached)
