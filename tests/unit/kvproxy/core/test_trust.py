import pytest

from kvproxy.core.trust import Source, Trust, is_wrong

EVENTS = Source.EVENTS


@pytest.mark.parametrize(
    ("predicted", "reported", "wrong"),
    [
        (1000, 1000, False), (1000, 968, False), (1000, 940, True), (32, 0, False), (48, 0, True),
        (0, 32, False), (0, 48, True), (10_000, 9_600, False), (10_000, 9_400, True),
        (8_000, 10_000, False), (7_000, 10_000, True),
    ],
)  # fmt: skip
def test_what_counts_as_wrong(predicted: int, reported: int, wrong: bool) -> None:
    assert is_wrong(predicted, reported, 16) is wrong


def test_trust_is_lost_by_many_wrong_and_regained_by_many_right() -> None:
    trust = Trust()
    changes = [trust.observe("r", EVENTS, 1000, 0, 16) for _ in range(8)]
    assert changes[:7] == [None] * 7
    assert changes[7] is not None
    assert (changes[7].trusted, changes[7].wrong, changes[7].of) == (False, 8, 8)
    assert not trust.trusts("r", EVENTS)
    assert trust.trusts("r", Source.HISTORY)
    assert trust.trusts("other", EVENTS)
    regained = [trust.observe("r", EVENTS, 1000, 1000, 16) for _ in range(16)]
    assert regained[:15] == [None] * 15
    assert regained[15] is not None
    assert regained[15].trusted
    assert trust.trusts("r", EVENTS)


def test_a_minority_of_errors_changes_nothing() -> None:
    trust = Trust()
    for number in range(200):
        assert trust.observe("r", EVENTS, 1000, 0 if number % 3 == 0 else 1000, 16) is None
    [(replica, source, share)] = trust.figures()
    assert (replica, source) == ("r", EVENTS)
    assert 0.6 < share < 0.7


def test_predictions_of_nothing_prove_nothing() -> None:
    trust = Trust()
    assert trust.observe("r", EVENTS, 0, 0, 16) is None
    assert list(trust.figures()) == []


def test_three_long_prefixes_gone_in_a_row_are_a_restart() -> None:
    trust = Trust()
    assert not trust.restarted("r", 5000, 0)
    assert not trust.restarted("r", 100, 0)
    assert not trust.restarted("r", 5000, 0)
    assert trust.restarted("r", 5000, 0)
    assert not trust.restarted("r", 5000, 0)
    assert not trust.restarted("r", 5000, 16)
    assert not trust.restarted("r", 5000, 0)
    assert not trust.restarted("r", 5000, 0)
    assert not trust.restarted("other", 5000, 0)


def test_a_replica_that_is_gone_is_forgotten() -> None:
    trust = Trust()
    for name in ("r", "s"):
        for _ in range(8):
            trust.observe(name, EVENTS, 1000, 0, 16)
    trust.forget("r")
    assert trust.trusts("r", EVENTS)
    assert not trust.trusts("s", EVENTS)
