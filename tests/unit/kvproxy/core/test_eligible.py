import pytest

from kvproxy.core.eligible import eligible, usable
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Evidence, Health, LifeCycle
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


def struck_out(by: Evidence, *before: Evidence) -> LifeCycle:
    life = LifeCycle(health=Health.READY)
    for evidence in (*before, by, by, by):
        life.see(evidence, 1.0)
    assert life.health is Health.EJECTED
    return life


def test_where_most_look_ill_those_that_failed_no_request_are_doubted() -> None:
    fleet = [make_replica(f"r{number}") for number in range(5)]
    ready, *others = fleet
    by_probes = struck_out(Evidence.PROBE_FAILED)
    others[0].life = by_probes
    others[1].life = struck_out(Evidence.PROBE_FAILED)
    # Three of five are well: those that are not are not asked for.
    assert usable(fleet, "m", NOBODY) == [ready, *others[2:]]
    others[2].life = struck_out(Evidence.FAILED)
    others[3].life = struck_out(Evidence.PROBE_FAILED, Evidence.FAILED)
    assert usable(fleet, "m", NOBODY) == [ready, others[0], others[1]]
    # One request at a time tells.
    hold = others[0].load.reserve("r1", 0.0, 0.0)
    assert usable(fleet, "m", NOBODY) == [ready, others[1]]
    assert usable(fleet, "m", frozenset({others[1].id})) == [ready]
    others[0].load.release(hold, 1.0)
    by_probes.see(Evidence.FAILED, 2.0)
    assert usable(fleet, "m", NOBODY) == [ready, others[1]]
    others[1].life.see(Evidence.ANSWERED, 2.0)
    others[1].life.see(Evidence.ANSWERED, 2.0)
    assert others[1].health is Health.READY
    # Those of other models say nothing of this one.
    for replica in others:
        replica.life, replica.models = struck_out(Evidence.PROBE_FAILED), ("n",)
    assert usable(fleet, "m", NOBODY) == [ready]
