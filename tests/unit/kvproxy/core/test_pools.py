from collections import Counter

import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.pools import Arm, Pools, draw
from tests.support.makers import make_replica, make_router

ARMS = [Arm("stable", 95), Arm("canary", 5)]
STABLE = make_replica("s", models=("stable",))


def pools(*replicas: object, **names: list[Arm]) -> Pools:
    made = Pools(lambda: replicas)  # type: ignore[return-value, arg-type]
    made.replace(names or {"chat": ARMS}, {})
    return made


def keys(count: int) -> list[bytes]:
    return [f"session-{n}".encode() for n in range(count)]


def test_shares_are_those_of_the_weights() -> None:
    drawn = Counter(draw(key, ARMS) for key in keys(20_000))
    # Five standard deviations of a binomial of 20,000 × 5 %.
    assert abs(drawn["canary"] - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def test_another_weight_moves_no_more_than_it_has_to() -> None:
    wider = [Arm("stable", 80), Arm("canary", 20)]
    before, after = ({key: draw(key, arms) for key in keys(5000)} for arms in (ARMS, wider))
    moved = [key for key in before if before[key] != after[key]]
    assert all(before[key] == "stable" for key in moved)
    assert 0.12 < len(moved) / 5000 < 0.18


def test_a_name_that_stands_for_nothing_else_is_its_own() -> None:
    assert pools().serve("m") == "m"
    assert pools().models("m") == ["m"]


def test_models_that_take_no_work_are_passed_over() -> None:
    canary = make_replica("c", models=("canary",))
    both = pools(STABLE, canary, chat=[Arm("stable", 1), Arm("canary", 1)])
    drawn = {key: both.serve("chat", lambda key=key: key) for key in keys(50)}
    assert set(drawn.values()) == {"stable", "canary"}
    canary.life.health = Health.DRAINING
    assert {both.serve("chat", lambda key=key: key) for key in keys(50)} == {"stable"}
    canary.life.health = Health.READY
    assert {key: both.serve("chat", lambda key=key: key) for key in keys(50)} == drawn


def test_at_weight_zero_a_model_stands_in() -> None:
    spare = make_replica("c", models=("canary",))
    made = pools(STABLE, spare, chat=[Arm("stable", 1), Arm("canary", 0)])
    assert {made.serve("chat", lambda key=key: key) for key in keys(50)} == {"stable"}
    STABLE.life.health = Health.EJECTED
    try:
        assert made.serve("chat") == "canary"
    finally:
        STABLE.life.health = Health.READY


def test_where_all_look_ill_they_are_tried_as_under_their_own_name() -> None:
    replica = make_replica("s", models=("stable",), health=Health.EJECTED)
    assert pools(replica).serve("chat", lambda: b"s") == "stable"
    assert make_router([replica]).usable("stable") == [replica]


@pytest.mark.parametrize(
    ("health", "served", "code"),
    [
        (Health.DRAINING, "stable", "no_replica"),
        (Health.READY, "secret", "model_not_found"),
        (Health.DRAINING, "secret", "model_not_found"),
    ],
)
def test_errors_name_what_the_client_named(health: Health, served: str, code: str) -> None:
    replica = make_replica("s", models=("stable",), health=health)
    with pytest.raises(ProxyError) as raised:
        pools(replica, chat=[Arm(served)]).serve("chat")
    assert raised.value.code == code
    assert "`chat`" in raised.value.message
    assert served not in raised.value.message
