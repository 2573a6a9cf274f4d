from array import array

from loadgen.simulate.bounds import bounds
from loadgen.simulate.prompts import Prompt
from loadgen.simulate.world import Sample


def sample(name: str, at: float, blocks: range, tail: int = 4) -> Sample:
    prompt = Prompt(array("Q", blocks), 16 * len(blocks) + tail, 0)
    return Sample(name, prompt, output_tokens=1, asked_at=at)


def test_a_cache_that_holds_everything_reaches_all_three_bounds() -> None:
    asked = [sample("a", 0, range(4)), sample("a", 1, range(6)), sample("a", 2, range(8))]
    found = bounds(asked, 10_000, 16)
    assert found.infinite == found.pooled_lru == found.offline_min == 160 / (68 + 100 + 132)


def test_a_prompt_larger_than_the_memory_hits_nothing_and_pushes_nothing_out() -> None:
    large = [sample("big", turn, range(100, 109 + turn)) for turn in (0, 2)]
    small = [sample("a", turn, range(4)) for turn in (1, 3)]
    alone = bounds(large, 16 * 8, 16)
    assert (alone.pooled_lru, alone.offline_min) == (0.0, 0.0)
    assert alone.infinite > 0
    both = bounds([*large, *small], 16 * 8, 16)
    total = sum(one.prompt_tokens for one in (*large, *small))
    assert both.pooled_lru == both.offline_min == 64 / total


def test_foresight_beats_lru_on_a_scan_larger_than_the_cache() -> None:
    asked = [
        sample(name, turn * 3 + place, range(100 * place, 100 * place + 4))
        for turn in range(4)
        for place, name in enumerate("abc")
    ]
    found = bounds(asked, 16 * 8, 16)
    assert 0 <= found.pooled_lru < found.offline_min < found.infinite


def test_what_all_have_takes_room_once() -> None:
    """Five conversations of four common blocks and one of their own fit nine blocks."""
    asked = []
    for turn in range(3):
        for name in range(5):
            prompt = Prompt(array("Q", [*range(4), 100 + name]), 16 * 5 + 4, 4)
            asked.append(Sample(str(name), prompt, output_tokens=1, asked_at=5 * turn + name))
    found = bounds(asked, 16 * 9, 16)
    assert found.pooled_lru == found.infinite
    assert found.offline_min >= found.pooled_lru
