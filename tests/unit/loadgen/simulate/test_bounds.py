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


def test_foresight_beats_lru_on_a_scan_larger_than_the_cache() -> None:
    asked = [
        sample(name, turn * 3 + place, range(100 * place, 100 * place + 4))
        for turn in range(4)
        for place, name in enumerate("abc")
    ]
    found = bounds(asked, 16 * 8, 16)
    assert 0 <= found.pooled_lru < found.offline_min < found.infinite
