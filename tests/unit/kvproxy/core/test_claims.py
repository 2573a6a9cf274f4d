"""Attempts that failed are remembered, within a bound."""

from kvproxy.core.claims import Worker


def test_attempts_that_nobody_follows_are_forgotten_oldest_first() -> None:
    worker = Worker()
    for n in range(5000):
        worker.leave(n, None)
    assert len(worker.left) == 1024
    assert 4999 in worker.left
    assert 0 not in worker.left
