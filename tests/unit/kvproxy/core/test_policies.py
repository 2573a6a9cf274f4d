from collections import Counter

from kvproxy.core.affinity import Home
from kvproxy.core.policies import POLICIES, PolicyName, View
from kvproxy.core.score import Match, argmin
from tests.support.makers import make_replica

REPLICAS = [make_replica(f"r{index}") for index in range(3)]


def view(
    *,
    totals: tuple[float, ...] = (1.0, 1.0, 1.0),
    blocks: tuple[int, ...] = (0, 0, 0),
    sessions: tuple[int, ...] = (0, 0, 0),
    home: str | None = None,
    key: bytes = b"s",
    sequence: int = 0,
    seed: int = 0,
) -> View:
    return View(
        candidates=REPLICAS,
        matches=[Match(held, held * 16) for held in blocks],
        cheapest=lambda: argmin(totals),
        sessions=dict(zip(("r0", "r1", "r2"), sessions, strict=True)).__getitem__,
        home=Home(home, 0.0, 10) if home else None,
        session_key=lambda: key,
        sequence=sequence,
        seed=seed,
    )


def test_every_name_has_a_policy() -> None:
    assert set(POLICIES) == set(PolicyName)


def test_seconds_takes_the_fewest() -> None:
    assert POLICIES[PolicyName.SECONDS](view(totals=(3.0, 2.0, 2.5))) == 1


def test_seconds_splits_equals_by_session() -> None:
    keys = [f"s{index}".encode() for index in range(300)]
    chosen = Counter(POLICIES[PolicyName.SECONDS](view(totals=(1, 9, 1), key=key)) for key in keys)
    assert set(chosen) == {0, 2}
    assert min(chosen.values()) > 100


def test_sticky_stays_home_whatever_it_costs() -> None:
    assert POLICIES[PolicyName.STICKY_LEAST_LOADED](view(totals=(0, 0, 99), home="r2")) == 2


def test_sticky_sends_new_sessions_where_fewest_live() -> None:
    policy = POLICIES[PolicyName.STICKY_LEAST_LOADED]
    assert policy(view(sessions=(4, 2, 3))) == 1
    assert policy(view(sessions=(4, 2, 3), home="gone")) == 1
    spread = {policy(view(sessions=(2, 2, 3), key=bytes([k]))) for k in range(64)}
    assert spread == {0, 1}


def test_round_robin_takes_turns() -> None:
    policy = POLICIES[PolicyName.ROUND_ROBIN]
    assert [policy(view(sequence=n)) for n in range(5)] == [0, 1, 2, 0, 1]


def test_random_is_uniform_and_repeatable() -> None:
    policy = POLICIES[PolicyName.RANDOM]
    drawn = [policy(view(sequence=n, seed=7)) for n in range(600)]
    assert drawn == [policy(view(sequence=n, seed=7)) for n in range(600)]
    assert drawn != [policy(view(sequence=n, seed=8)) for n in range(600)]
    assert min(Counter(drawn)[index] for index in range(3)) > 150


def test_session_hash_looks_at_nothing_but_the_session() -> None:
    policy = POLICIES[PolicyName.SESSION_HASH]
    for key in (b"a", b"b", b"c"):
        assert policy(view(key=key)) == policy(view(key=key, totals=(9, 1, 5), home="r1"))


def test_longest_prefix_follows_the_blocks() -> None:
    assert POLICIES[PolicyName.LONGEST_PREFIX](view(blocks=(3, 7, 7))) == 1
