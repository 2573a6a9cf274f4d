"""The queue of spans: bounded, counted, and never waited for."""

import asyncio
import logging
from collections import Counter

import pytest

from kvproxy.adapters.tracing.outbox import BATCH_SPANS, Outbox, Taken, Told
from kvproxy.core.trace import Kind, Span
from tests.support.proxies import eventually

SPAN = Span("a", Kind.INTERNAL, "1" * 32, "2" * 16, "", 0.0, 1.0, {})
YES, NO = Taken(), Taken(None, "503")


class Taker:
    """Stands for a collector; `taken` is what becomes of a message, once `open` is set."""

    def __init__(self, taken: Taken = YES) -> None:
        self.taken = taken
        self.open = asyncio.Event()
        self.open.set()
        self.batches: list[int] = []
        self.counts: Counter[str] = Counter()
        self.began = 0

    def outbox(self, requests_max: int = 100) -> Outbox:
        return Outbox(Written, self.post, self.count, requests_max, "the collector")

    def count(self, outcome: str, spans: int) -> None:
        self.counts[outcome] += spans

    async def post(self, body: bytes) -> Taken:
        self.began += 1
        await self.open.wait()
        self.batches.append(len(body))
        return self.taken


class Written:
    """A byte a span."""

    def __init__(self) -> None:
        self.spans = 0

    def add(self, told: Told) -> None:
        self.spans += len(told.spans)

    def body(self) -> bytes:
        return bytes(self.spans)


def told(spans: int = 1) -> Told:
    return Told([SPAN] * spans, 0)


async def test_all_is_sent_at_the_end_in_bounded_messages() -> None:
    taker = Taker()
    outbox = taker.outbox(1000)
    for _ in range(200):
        outbox.put(told(5))
    await outbox.close(10)
    assert taker.counts == {"sent": 1000, "failed": 0, "dropped": 0}
    assert max(taker.batches) < BATCH_SPANS + 5
    assert len(taker.batches) == 4


async def test_nothing_runs_while_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "linger_s", 0.0)
    taker = Taker()
    outbox = taker.outbox()
    tasks = len(asyncio.all_tasks())
    for _ in range(2):
        outbox.put(told())
        assert len(asyncio.all_tasks()) == tasks + 1
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    assert taker.batches == [1, 1]
    await outbox.close(1)
    assert taker.counts["sent"] == 2


async def test_what_is_too_much_is_dropped_and_counted() -> None:
    taker = Taker()
    taker.open.clear()
    outbox = taker.outbox(2)
    outbox.put(told())
    outbox._wake.set()
    await eventually(lambda: taker.began == 1)  # it hangs with the first
    for _ in range(10):
        outbox.put(told(3))
    assert taker.counts == {"dropped": 8 * 3}
    taker.open.set()
    await outbox.close(10)
    assert taker.counts == {"sent": 1 + 2 * 3, "failed": 0, "dropped": 8 * 3}


async def test_the_end_waits_for_a_hanging_collector_no_longer_than_it_may() -> None:
    taker = Taker()
    taker.open.clear()
    outbox = taker.outbox()
    outbox.put(told(2))
    outbox._wake.set()
    await eventually(lambda: taker.began == 1)
    outbox.put(told(4))
    await outbox.close(0.01)
    assert taker.counts == {"dropped": 2 + 4}
    outbox.put(told(3))
    assert taker.counts == {"dropped": 9}


async def test_half_a_queue_does_not_wait_for_more() -> None:
    taker = Taker()
    outbox = taker.outbox(8)
    outbox.linger_s = 1e6  # type: ignore[misc]
    for _ in range(4):
        outbox.put(told())
    await asyncio.sleep(0)
    assert taker.began == 0
    outbox.put(told())
    await eventually(lambda: taker.counts["sent"] == 5)
    await outbox.close(1)


async def test_others_run_between_the_spans_of_two_requests() -> None:
    taker = Taker()
    outbox = taker.outbox()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not taker.began:
            turns += 1
            await asyncio.sleep(0)

    for _ in range(20):
        outbox.put(told())
    outbox._wake.set()
    await other()
    assert turns >= 20
    await outbox.close(1)


async def test_a_collector_that_takes_nothing_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "kvproxy.tracing")
    monkeypatch.setattr(Outbox, "linger_s", 0.0)
    taker = Taker(NO)
    outbox = taker.outbox()
    for _ in range(3):
        outbox.put(told())
        await eventually(lambda: outbox._task is None)
    assert taker.counts["failed"] == 3
    taker.taken = Taken()
    outbox.put(told())
    await outbox.close(10)
    assert [record.getMessage() for record in caplog.records] == [
        "spans are lost, the collector does not take them: 503",
        "spans are taken again by the collector",
    ]


async def test_spans_that_are_refused_are_told_apart_from_those_that_are_taken() -> None:
    taker = Taker(Taken(2, "too old"))
    outbox = taker.outbox()
    outbox.put(told(5))
    await outbox.close(1)
    assert taker.counts == {"failed": 2, "sent": 3, "dropped": 0}


async def test_whatever_is_raised_the_next_message_goes_out() -> None:
    taker = Taker()

    async def post(body: bytes) -> Taken:
        taker.began += 1
        raise ValueError("no")

    outbox = Outbox(Written, post, taker.count, 10, "x")
    for _ in range(2):
        outbox.put(told())
        outbox._wake.set()
        await eventually(lambda: outbox._task is None)
    assert taker.counts["failed"] == 2
    await outbox.close(1)


async def test_a_span_that_cannot_be_spelled_does_not_end_the_others() -> None:
    taker = Taker()

    class Chokes(Written):
        def add(self, told: Told) -> None:
            if len(told.spans) == 3:
                raise ValueError("out of range")
            super().add(told)

    outbox = Outbox(Chokes, taker.post, taker.count, 10, "x")
    for spans in (3, 2):
        outbox.put(told(spans))
        outbox._wake.set()
        await eventually(lambda: outbox._task is None)
    assert taker.counts["failed"] == 3
    assert taker.counts["sent"] == 2
    await outbox.close(1)
