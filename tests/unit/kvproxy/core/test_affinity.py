from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.affinity import Affinity, Home

KEYS = [("t", "m", f"s{index}", "") for index in range(5)]
ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["a", "b"]),
        st.integers(0, 99),
        st.floats(0.001, 20),
        st.sampled_from([0.0, 10.0, 50.0, 100.0]),
    )
)


def test_a_session_lives_where_its_last_turn_went() -> None:
    affinity = Affinity(10, 60.0)
    assert affinity.bind(KEYS[0], "a", 100, 1.0) is None
    assert affinity.bind(KEYS[0], "b", 150, 2.0) == Home("a", 1.0, 100)
    assert affinity.home(KEYS[0], 3.0) == Home("b", 2.0, 150)
    assert affinity.home(KEYS[1], 3.0) is None
    assert (affinity.sessions("a"), affinity.sessions("b")) == (0, 1)


def test_idle_sessions_are_forgotten() -> None:
    affinity = Affinity(10, 60.0)
    affinity.bind(KEYS[0], "a", 100, 0.0)
    assert affinity.home(KEYS[0], 60.0) is not None
    assert affinity.home(KEYS[0], 60.1) is None
    affinity.bind(KEYS[1], "b", 1, 61.0)
    assert (len(affinity), affinity.sessions("a")) == (1, 0)
    assert affinity.bind(KEYS[1], "b", 1, 122.0) is None, "it had no home any more"


def test_the_longest_unused_goes_first() -> None:
    affinity = Affinity(2, 60.0)
    for at, index in enumerate([0, 1, 0, 2]):
        affinity.bind(KEYS[index], "a", 10, float(at))
    assert [affinity.home(key, 4.0) is not None for key in KEYS[:3]] == [True, False, True]


def test_a_replica_is_forgotten_with_all_its_sessions() -> None:
    affinity = Affinity(10, 60.0)
    for index in range(4):
        affinity.bind(KEYS[index], "ab"[index % 2], 10, 0.0)
    affinity.forget_replica("a")
    assert len(affinity) == 2
    assert affinity.sessions("a") == 0
    assert affinity.home(KEYS[1], 1.0) is not None


@given(ACTIONS, st.integers(1, 4))
def test_totals_are_those_of_the_bindings(
    actions: list[tuple[int, str, int, float, float]], max_sessions: int
) -> None:
    affinity, now = Affinity(max_sessions, 30.0), 0.0
    naive: dict[tuple[str, ...], Home] = {}
    for index, replica, tokens, wait, retention_s in actions:
        now += wait
        affinity.bind(KEYS[index], replica, tokens, now, retention_s)
        naive.pop(KEYS[index], None)
        naive[KEYS[index]] = Home(replica, now, tokens, retention_s)
        for key, home in list(naive.items()):
            if now - home.last_use > max(30.0, home.retention_s):
                del naive[key]
        while len(naive) > max_sessions:
            del naive[next(iter(naive))]
        assert dict(affinity.latest()) == naive
        used = [home.last_use for _, home in affinity.latest()]
        assert used == sorted(used, reverse=True)
        assert len(affinity) == len(naive)
        sessions = Counter(home.replica for home in naive.values())
        for name in "ab":
            assert affinity.sessions(name) == sessions[name]


def test_a_forgotten_session_has_no_home() -> None:
    affinity = Affinity(10, 60.0)
    key = ("t", "m", "s", "")
    affinity.bind(key, "r0", 100, 0.0)
    affinity.forget(key)
    affinity.forget(key)
    assert affinity.home(key, 0.0) is None
    assert affinity.sessions("r0") == 0


def test_who_asks_for_longer_is_remembered_for_longer() -> None:
    affinity = Affinity(10, 60.0)
    affinity.bind(KEYS[0], "a", 100, 0.0, 300.0)
    affinity.bind(KEYS[1], "a", 100, 0.0, 10.0)
    assert affinity.home(KEYS[0], 300.0) is not None
    assert affinity.home(KEYS[0], 301.0) is None
    assert affinity.home(KEYS[1], 60.0) is not None
    assert affinity.home(KEYS[1], 61.0) is None


def test_who_asks_for_longer_keeps_nobody_else() -> None:
    affinity = Affinity(10, 60.0)
    affinity.bind(KEYS[0], "a", 100, 0.0, 86_400.0)
    affinity.bind(KEYS[1], "a", 100, 1.0)
    affinity.bind(KEYS[2], "a", 100, 2.0, 300.0)
    affinity.bind(KEYS[3], "b", 100, 62.0)
    assert (len(affinity), affinity.sessions("a")) == (3, 2)
    affinity.bind(KEYS[3], "b", 100, 303.0)
    assert (len(affinity), affinity.sessions("a")) == (2, 1)
    affinity.bind(KEYS[0], "a", 100, 304.0)
    affinity.bind(KEYS[3], "b", 100, 365.0)
    assert (len(affinity), affinity.sessions("a")) == (1, 0), "it asks for longer no more"
    affinity.bind(KEYS[1], "a", 100, 400.0, 86_400.0)
    affinity.bind(KEYS[1], "a", 100, 500.0, 86_400.0)
    affinity.bind(KEYS[0], "b", 100, 501.0)
    affinity.bind(KEYS[1], "a", 100, 600.0, 86_400.0)
    assert (len(affinity), affinity.sessions("b")) == (1, 0)
