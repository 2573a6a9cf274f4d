import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.life_cycle import TABLE, Evidence, Health, LifeCycle

SEEN = [e for e in Evidence if e not in (Evidence.STRUCK_OUT, Evidence.COOLED)]


def lived(*evidence: Evidence) -> LifeCycle:
    life = LifeCycle()
    for index, seen in enumerate(evidence):
        life.see(seen, float(index))
    return life


def test_one_good_probe_makes_it_ready() -> None:
    assert lived(Evidence.PROBE_OK).health is Health.READY


def test_a_failed_request_makes_it_suspect_until_it_answers_a_probe() -> None:
    life = lived(Evidence.PROBE_OK, Evidence.FAILED)
    assert life.health is Health.SUSPECT
    assert life.see(Evidence.PROBE_OK, 2.0)
    assert life.health is Health.READY


def test_health_that_answers_does_not_excuse_requests_that_fail() -> None:
    failing = [Evidence.PROBE_OK, Evidence.FAILED] * 3
    assert lived(*failing).health is Health.EJECTED


def test_an_answer_does_excuse_them() -> None:
    mixed = [Evidence.PROBE_OK, Evidence.FAILED, Evidence.FAILED, Evidence.ANSWERED]
    assert lived(*mixed, Evidence.FAILED, Evidence.FAILED).health is Health.SUSPECT


def test_missed_probes_count_only_in_a_row() -> None:
    missed = [Evidence.PROBE_OK, Evidence.PROBE_FAILED, Evidence.PROBE_FAILED]
    assert lived(*missed, *missed).health is Health.READY
    assert lived(*missed, Evidence.PROBE_FAILED).health is Health.EJECTED


def test_it_comes_back_through_one_request() -> None:
    life = lived(Evidence.PROBE_OK, Evidence.STALLED, Evidence.PROBE_OK)
    assert life.health is Health.PROBING
    life.see(Evidence.ANSWERED, 4.0)
    assert life.health is Health.READY


def test_each_ejection_keeps_it_out_longer() -> None:
    life = lived(Evidence.PROBE_OK)
    out_s, now = [], 1.0
    for _ in range(8):
        life.see(Evidence.STALLED, now)
        gone_at = now
        while life.health is Health.EJECTED:
            now += 1.0
            life.see(Evidence.PROBE_OK, now)
        out_s.append(now - gone_at)
        life.see(Evidence.ANSWERED, now)
    assert out_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_old_ejections_are_forgotten() -> None:
    life = lived(Evidence.PROBE_OK)
    for at in (1.0, 2000.0):
        life.see(Evidence.STALLED, at)
        life.see(Evidence.PROBE_OK, at + 1.0)
        assert life.health is Health.PROBING


def test_sleep_is_not_illness() -> None:
    life = lived(Evidence.PROBE_OK, Evidence.SLEEPS)
    assert life.health is Health.PAUSED
    life.see(Evidence.PROBE_OK, 3.0)
    assert life.health is Health.READY


def test_draining_ends_in_being_gone_or_in_coming_back() -> None:
    life = lived(Evidence.PROBE_OK, Evidence.DRAIN)
    assert not life.see(Evidence.PROBE_OK, 3.0)
    life.see(Evidence.UNDRAIN, 4.0)
    life.see(Evidence.PROBE_OK, 5.0)
    assert life.health is Health.READY
    life.see(Evidence.DRAIN, 6.0)
    life.see(Evidence.REMOVE, 7.0)
    assert life.health is Health.GONE


@pytest.mark.parametrize("evidence", SEEN)
def test_nothing_brings_back_what_is_gone(evidence: Evidence) -> None:
    life = LifeCycle(health=Health.GONE)
    assert not life.see(evidence, 1.0)


@given(st.lists(st.tuples(st.sampled_from(SEEN), st.floats(0, 100)), max_size=60))
def test_it_moves_only_along_the_table_and_never_to_ready_unproven(
    story: list[tuple[Evidence, float]],
) -> None:
    life, now = LifeCycle(), 0.0
    for evidence, later_s in story:
        now += later_s
        before = life.health
        changed = life.see(evidence, now)
        assert changed == (life.health is not before)
        if changed:
            steps = {
                e for (state, e), after in TABLE.items() if (state, after) == (before, life.health)
            }
            assert steps & {evidence, Evidence.STRUCK_OUT, Evidence.COOLED}
        if changed and life.health is Health.READY:
            assert evidence in (Evidence.PROBE_OK, Evidence.ANSWERED)


@given(st.lists(st.sampled_from(SEEN), max_size=40))
def test_whatever_happened_it_can_come_back(story: list[Evidence]) -> None:
    life = lived(*[e for e in story if e is not Evidence.REMOVE])
    life.see(Evidence.UNDRAIN, 100.0)
    for at in range(200, 400, 10):
        life.see(Evidence.PROBE_OK, float(at))
        life.see(Evidence.ANSWERED, float(at))
    assert life.health is Health.READY
