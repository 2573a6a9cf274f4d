import pytest

from kvproxy.core.eligible import eligible, usable
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from tests.support.makers import make_replica

NOBODY: frozenset[str] = frozenset()


def test_the_well_come_before_the_ill() -> None:
    fleet = [make_replica(f"r{n}", health=health) for n, health in enumerate(Health)]
    by_health = dict(zip(Health, fleet, strict=True))
    assert usable(fleet, "m", NOBODY) == [by_health[Health.READY], by_health[Health.PROBING]]
    # One request at a time proves it.
    by_health[Health.PROBING].load.reserve("", 0.0, 0.0)
    assert usable(fleet, "m", NOBODY) == [by_health[Health.READY]]
    left = [by_health[Health.SUSPECT], by_health[Health.PROBING]]
    assert usable(fleet, "m", frozenset({by_health[Health.READY].id})) == left
    gone = frozenset({by_health[Health.READY].id, *[replica.id for replica in left]})
    assert usable(fleet, "m", gone) == [by_health[Health.EJECTED]]


def test_only_those_that_serve_the_model() -> None:
    fleet = [make_replica("a", models=("m",)), make_replica("b", models=("n",)), make_replica("c")]
    assert [replica.id for replica in usable(fleet, "m", NOBODY)] == ["a", "c"]
    assert len(usable(fleet, "", NOBODY)) == 3


def test_why_there_is_none_is_said() -> None:
    fleet = [make_replica("a", models=("m",), health=Health.STARTING)]
    with pytest.raises(ProxyError) as starting:
        eligible(fleet, "m", NOBODY)
    assert starting.value.code == "no_replica"
    with pytest.raises(ProxyError) as unknown:
        eligible(fleet, "other", NOBODY)
    assert unknown.value.code == "model_not_found"
