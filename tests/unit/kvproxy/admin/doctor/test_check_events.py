import pytest

from kvproxy.admin.doctor.check_events import check
from kvproxy.admin.doctor.facts import EventFacts, Fleet
from kvproxy.core.kv_sources import KvSource
from tests.support.doctor import codes, well

SOURCE = KvSource("r0", 0, "tcp://h:1", "tcp://h:2", "")


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (EventFacts(told=True), "events_off"),
        (EventFacts(told=True, refusal="it connects"), "events_connect"),
        (EventFacts(True, [SOURCE], deaf=["tcp://h:1"]), "events_unreachable"),
        (EventFacts(True, [SOURCE], silent_replays=["tcp://h:2"]), "events_replay_silent"),
        (EventFacts(True, [SOURCE._replace(replay="")]), "events_no_replay"),
    ],
)
def test_events_that_do_not_come(events: EventFacts, code: str) -> None:
    assert codes(list(check(Fleet([well(events=events)])))) == {code}


def test_an_old_engine_cannot_tell() -> None:
    [found] = check(Fleet([well(version=(0, 27, 0), events=EventFacts())]))
    assert found.code == "events_unknown"
    assert "events_endpoint" in found.mend


def test_old_events_name_no_request() -> None:
    assert codes(list(check(Fleet([well(version=(0, 28, 0))])))) == {"events_unnamed"}
    assert list(check(Fleet([well(version=())]))) == []
