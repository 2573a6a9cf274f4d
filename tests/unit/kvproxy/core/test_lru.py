from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.lru import ByteLru


def test_the_least_recently_used_goes_first() -> None:
    kept: ByteLru[str, int] = ByteLru(30)
    for name in "abc":
        kept.put(name, ord(name), 10)
    assert kept.get("a") == ord("a")
    kept.put("d", 1, 10)
    assert [kept.get(name) is not None for name in "abcd"] == [True, False, True, True]
    assert kept.evicted == 1


def test_what_is_put_again_counts_once() -> None:
    kept: ByteLru[str, int] = ByteLru(30)
    kept.put("a", 1, 20)
    kept.put("a", 2, 30)
    assert (kept.get("a"), kept.size_bytes, len(kept)) == (2, 30, 1)
    assert kept.pop("a") == 2
    assert (kept.pop("a"), kept.size_bytes) == (None, 0)


def test_what_is_larger_than_everything_is_not_kept() -> None:
    kept: ByteLru[str, int] = ByteLru(30)
    kept.put("a", 1, 20)
    kept.put("b", 2, 31)
    assert (kept.get("a"), kept.get("b")) == (1, None)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40))), st.integers(0, 100))
def test_bounded_and_counted(asked: list[tuple[int, int]], max_bytes: int) -> None:
    kept: ByteLru[int, int] = ByteLru(max_bytes)
    last: dict[int, int] = {}
    for key, size in asked:
        kept.put(key, size, size)
        last[key] = size
        assert kept.size_bytes <= max_bytes
        assert kept.get(key) == (size if size <= max_bytes else None)
    assert kept.size_bytes == sum(kept.get(key) or 0 for key in last)
