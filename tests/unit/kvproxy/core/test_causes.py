import pytest

from kvproxy.core.causes import likely_cause, sentences
from kvproxy.core.holdings import Outcome
from kvproxy.core.trust import Change, Source
from tests.support.makers import make_replica


def change(source: Source, predicted: int, reported: int, *, trusted: bool = False) -> Change:
    return Change("r", source, trusted, 9, 12, predicted, reported)


@pytest.mark.parametrize(
    ("source", "predicted", "reported", "setting"),
    [
        (Source.HISTORY, 5000, 0, "--kv-events-config"),
        (Source.HISTORY, 5000, 2000, "hbm_tokens"),
        (Source.EVENTS, 5000, 2000, "canonical.enabled"),
        (Source.EVENTS, 5000, 0, "replay_endpoint"),
        (Source.HISTORY, 1000, 5000, "PYTHONHASHSEED"),
        (Source.COORDINATOR, 5000, 0, "lmcache.instances"),
    ],
)
def test_each_cause_names_a_setting(
    source: Source, predicted: int, reported: int, setting: str
) -> None:
    assert setting in likely_cause(make_replica("r"), change(source, predicted, reported))


def test_no_cache_at_all_explains_everything() -> None:
    replica = make_replica("r", hbm_tokens=0)
    assert "--enable-prefix-caching" in likely_cause(replica, change(Source.HISTORY, 500, 0))


def test_sentences_have_the_numbers() -> None:
    replica = make_replica("r")
    lines = sentences(replica, Outcome((change(Source.EVENTS, 5000, 16),), restarted=True))
    assert len(lines) == 2
    assert "replica r: events is not trusted any more (9 of 12 predictions wrong" in lines[0]
    assert "5000 cached tokens predicted, 16 reported" in lines[0]
    assert "restarted" in lines[1]
    [again] = sentences(replica, Outcome((change(Source.EVENTS, 1, 1, trusted=True),)))
    assert "events is trusted again" in again
    [silent] = sentences(replica, Outcome(silent=True))
    assert "tcp://*:5557" in silent
    [unreported] = sentences(replica, Outcome(unreported=True))
    assert "--enable-prompt-tokens-details" in unreported
    [uncounted] = sentences(replica, Outcome(uncounted=True))
    assert "include_usage" in uncounted
    assert sentences(replica, Outcome()) == []
