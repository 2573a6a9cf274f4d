from kvproxy.admin.doctor.diagnose import diagnose
from kvproxy.admin.doctor.facts import Fleet
from tests.support.doctor import well


def test_a_well_fleet() -> None:
    assert diagnose(Fleet([well(), well("r1")])) == []


def test_the_gravest_come_first() -> None:
    found = diagnose(Fleet([well(skew_s=5.0, asleep=True, idle_closed_s=1.0)]))
    assert [finding.severity for finding in found] == sorted(
        (finding.severity for finding in found), reverse=True
    )
    assert len(found) == 3
