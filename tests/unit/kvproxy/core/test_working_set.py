from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.working_set import WorkingSet

TOUCHES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 100), st.floats(0, 40)),
    max_size=50,
)


def test_a_conversation_counts_once_where_it_went_last() -> None:
    used = WorkingSet(10, (60.0,))
    used.touch("s", "a", 100, 0.0)
    used.touch("s", "b", 150, 1.0)
    assert (used.tokens(60.0, 2.0), used.sessions(60.0, 2.0)) == (150, 1)
    assert used.by_replica(2.0) == {"b": 150}


def test_each_window_reaches_back_its_own_way() -> None:
    used = WorkingSet(10, (60.0, 300.0))
    used.touch("s", "a", 100, 0.0)
    assert used.tokens(60.0, 60.0) == 100
    assert (used.tokens(60.0, 61.0), used.tokens(300.0, 61.0)) == (0, 100)
    assert used.by_replica(300.0) == {"a": 100}
    assert (used.sessions(300.0, 301.0), used.by_replica(301.0)) == (0, {})


def test_the_oldest_goes_when_there_are_too_many() -> None:
    used = WorkingSet(2, (60.0,))
    for at, key in enumerate(["s", "t", "s", "u"]):
        used.touch(key, key, 10, float(at))
    assert used.sessions(60.0, 4.0) == 2
    assert used.by_replica(4.0) == {"s": 10, "u": 10}


def test_what_lived_on_a_replica_that_went_counts_for_no_other_of_its_name() -> None:
    used = WorkingSet(10, (60.0, 300.0))
    for at, (key, replica) in enumerate([("s", "a"), ("t", "a"), ("u", "b")]):
        used.touch(key, replica, 100, float(at))
    used.forget_replica("a")
    used.touch("t", "a", 120, 3.0)
    assert used.tokens(60.0, 3.0) == 320, "they live all the same"
    now = used.by_replica(3.0)
    assert (now.get("a"), now.get("b")) == (120, 100)
    assert used.tokens(300.0, 300.5) == 320 - 100
    used.forget_replica("a")
    used.forget_replica("gone")
    assert used.by_replica(1000.0) == {}


@given(TOUCHES, st.integers(1, 6), st.sampled_from([30.0, 90.0]))
def test_totals_are_those_of_a_plain_list(
    touches: list[tuple[int, str, int, float]], sessions_max: int, living_s: float
) -> None:
    used = WorkingSet(sessions_max, (30.0, 90.0), living_s)
    last: dict[int, tuple[str, int, float]] = {}
    now = 0.0
    for key, replica, tokens, wait_s in touches:
        now += wait_s
        used.touch(key, replica, tokens, now)
        last.pop(key, None)
        last[key] = (replica, tokens, now)
        newest = list(last.values())[-sessions_max:]
        for window_s in (30.0, 90.0):
            alive = [use for use in newest if now - use[2] <= window_s]
            assert used.sessions(window_s, now) == len(alive)
            assert used.tokens(window_s, now) == sum(use[1] for use in alive)
            if window_s == living_s:
                there = Counter[str]()
                for name, count, _ in alive:
                    there[name] += count
                assert used.by_replica(now) == +there
