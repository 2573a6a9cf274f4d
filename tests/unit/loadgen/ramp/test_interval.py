from random import Random

import pytest

from loadgen.ramp.interval import Z_95, clustered, wilson


def test_known_values() -> None:
    low, high = wilson(95, 100, Z_95)
    assert (low, high) == (pytest.approx(0.8882, abs=1e-4), pytest.approx(0.9785, abs=1e-4))
    assert wilson(0, 0, Z_95) == (0.0, 1.0)
    assert wilson(10, 10, Z_95)[1] == pytest.approx(1.0)


def test_independent_requests_are_not_widened() -> None:
    singles = [(1, 1)] * 95 + [(0, 1)] * 5
    assert clustered(singles, Z_95) == pytest.approx(wilson(95, 100, Z_95), abs=1e-3)


def test_conversations_that_fail_whole_count_as_one() -> None:
    low, high = clustered([(10, 10)] * 9 + [(0, 10)], Z_95)
    narrow = wilson(90, 100, Z_95)
    assert low < narrow[0] - 0.1
    assert high > narrow[1]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = Random(7)
    held = 0
    for _ in range(400):
        clusters = []
        for _ in range(40):
            share = random.betavariate(9, 1)  # conversations differ; 90 % on average
            clusters.append((sum(random.random() < share for _ in range(12)), 12))
        low, high = clustered(clusters, Z_95)
        held += low <= 0.9 <= high
    assert 0.91 <= held / 400 <= 0.99


def test_nothing_seen_says_nothing() -> None:
    assert clustered([(0, 0)], Z_95) == (0.0, 1.0)
