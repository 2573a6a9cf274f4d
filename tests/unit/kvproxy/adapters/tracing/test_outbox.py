"""The queue of spans: bounded, counted, and never waited for."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from kvproxy.adapters.tracing.outbox import BATCH_SPANS, Outbox, Told
from kvproxy.core.trace import Kind, Span

SPAN = Span("a", Kind.INTERNAL, "1" * 32, "2" * 16, "", 0.0, 1.0, {})


class Taker:
    """Stands for a collector; `why` is what it answers, once `open` is set."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.open = threading.Event()
        self.open.set()
        self.batches: list[int] = []
        self.counts: Counter[str] = Counter()

    def send(self, batch: Sequence[Told]) -> str:
        self.open.wait(10)
        self.batches.append(sum(len(told.spans) for told in batch))
        return self.why

    def count(self, outcome: str, spans: int) -> None:
        self.counts[outcome] += spans

    def outbox(self, requests_max: int = 100) -> Outbox:
        return Outbox(self.send, self.count, requests_max, "the collector")


def told(spans: int = 1) -> Told:
    return Told([SPAN] * spans, 0)


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_all_is_sent_at_the_end_in_small_batches() -> None:
    taker = Taker()
    outbox = taker.outbox(1000)
    for _ in range(200):
        outbox.put(told(5))
    outbox.close(10)
    assert taker.counts == {"sent": 1000, "dropped": 0}
    assert max(taker.batches) < BATCH_SPANS + 5


def test_no_thread_runs_before_there_is_something_to_send() -> None:
    taker = Taker()
    before = threading.active_count()
    outbox = taker.outbox()
    assert threading.active_count() == before
    outbox.close(1)
    assert taker.batches == []


def test_what_is_too_much_is_dropped_and_counted_and_nobody_waits() -> None:
    taker = Taker()
    taker.open.clear()
    outbox = taker.outbox(2)
    outbox.put(told())
    outbox._wake.set()
    until(lambda: not outbox._waiting)  # the thread hangs with the first
    began = time.monotonic()
    for _ in range(10):
        outbox.put(told(3))
    assert time.monotonic() - began < 1.0
    assert taker.counts["dropped"] == 8 * 3
    taker.open.set()
    outbox.close(10)
    assert taker.counts == {"sent": 1 + 2 * 3, "dropped": 8 * 3}


def test_the_end_waits_for_a_hanging_collector_no_longer_than_it_may() -> None:
    taker = Taker()
    taker.open.clear()
    outbox = taker.outbox()
    outbox.put(told())
    outbox._wake.set()
    until(lambda: not outbox._waiting)
    outbox.put(told(4))
    outbox.close(0.05)
    assert taker.counts["dropped"] == 4
    outbox.put(told(2))
    assert taker.counts["dropped"] == 6
    taker.open.set()
    assert outbox._thread is not None
    outbox._thread.join(10)


def test_half_a_queue_wakes_the_thread_before_its_time() -> None:
    taker = Taker()
    outbox = taker.outbox(8)
    for _ in range(5):
        outbox.put(told())
    assert outbox._wake.is_set() or not outbox._waiting
    outbox.close(10)
    assert taker.counts["sent"] == 5


def test_a_collector_that_takes_nothing_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvproxy.tracing")
    taker = Taker("503")
    outbox = taker.outbox()
    for _ in range(3):
        sent = len(taker.batches)
        outbox.put(told())
        outbox._wake.set()
        until(lambda sent=sent: len(taker.batches) > sent)  # type: ignore[misc]
    until(lambda: taker.counts["failed"] == 3)
    taker.why = ""
    outbox.put(told())
    outbox.close(10)
    assert [record.getMessage() for record in caplog.records] == [
        "spans are lost, the collector does not take them: 503",
        "spans are taken again by the collector",
    ]


def test_an_exporter_that_raises_does_not_end_the_thread() -> None:
    taker = Taker()

    def send(batch: Sequence[Told]) -> str:
        taker.batches.append(1)
        raise ValueError("no")

    outbox = Outbox(send, taker.count, 10, "x")
    outbox.put(told())
    outbox._wake.set()
    until(lambda: taker.counts["failed"] == 1)
    outbox.put(told())
    outbox.close(10)
    assert taker.counts["failed"] == 2
