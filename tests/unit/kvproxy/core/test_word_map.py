from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.word_map import SHARDS, Budget, WordMap

# Few shards and slots, so that keys collide and probes wrap around.
KEYS = st.builds(lambda low, high: (low | high << 8) or 1, st.integers(0, 1), st.integers(0, 40))
STEPS = st.lists(st.tuples(st.booleans(), st.lists(KEYS, max_size=8)), max_size=60)


@given(STEPS)
def test_it_is_a_dict(steps: list[tuple[bool, list[int]]]) -> None:
    words, twin = WordMap(Budget(0)), dict[int, int]()
    for adds, keys in steps:
        if adds:
            there = [at for at, key in enumerate(keys) if key in twin or key in keys[:at]]
            assert words.add(keys, [key + 1 for key in keys]) == there
            for key in keys:
                twin.setdefault(key, key + 1)
        else:
            assert words.pop(keys) == [twin.pop(key, 0) for key in keys]
        assert dict(words.items()) == twin
        assert len(words) == len(twin)
        assert all(words.get(key) == twin.get(key, 0) for key in range(1, 2**14, 7))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 42))
def test_prefix_by_bisection_whatever_is_guessed(held: int, asked: int, guess: int) -> None:
    words = WordMap(Budget(0))
    chain = [key * 2654435761 + 1 for key in range(40)]
    words.add(chain[:held], chain[:held])
    assert words.prefix(chain[:asked]) == min(held, asked)
    assert words.prefix(chain[:asked], guess) == min(held, asked)


def test_shards_are_all_of_it() -> None:
    words = WordMap(Budget(0))
    pairs = {key * 0x9E3779B97F4A7C15 % 2**64 or 1: key + 1 for key in range(3000)}
    words.add(list(pairs), list(pairs.values()))
    found = [words.shard(number) for number in range(SHARDS)]
    assert {k: v for keys, values in found for k, v in zip(keys, values, strict=True)} == pairs


def test_bytes_are_accounted_for_and_given_back() -> None:
    budget = Budget(0)
    words = WordMap(budget)
    empty = budget.used
    keys = [key * 0x9E3779B97F4A7C15 % 2**64 or 1 for key in range(1, 50_001)]
    words.add(keys, keys)
    assert budget.used == words.bytes
    assert 20 <= (budget.used - empty) / len(keys) <= 43
    words.pop(keys)
    assert len(words) == 0
    assert budget.used == words.bytes < 4 * empty
    words.release()
    assert budget.used == 0
