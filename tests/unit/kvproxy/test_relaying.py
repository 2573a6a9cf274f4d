"""Heads and bodies of answers, to clients whose stream has begun and to others."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.errors import ProxyError
from kvproxy.core.token_ids import TokenIds
from kvproxy.relaying import Stream, feeding, refused, relay
from tests.support.fake_ports import FakeAnswer, FakeExchange, Steps
from tests.support.listeners import placement

SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json"), (b"content-length", b"2")]


def made(
    parts: list[bytes], headers: Any, *, status: int = 200, continued: int = 0, held: bool = False
) -> tuple[Any, FakeAnswer]:
    exchange = FakeExchange(Steps(), comments=int(held))
    record = SimpleNamespace(exchange=exchange, flow=None, continued=continued)
    return record, FakeAnswer(Steps(), parts, status, headers)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("headers", [SSE, JSON])
async def test_head_and_body_go_to_the_client(headers: Any, ids: bool) -> None:
    record, answer = made([b"{}"], headers)
    exchange = record.exchange
    await relay(record, answer, placement(), TokenIds() if ids else None, exchange.send)
    assert exchange.status == 200
    assert b"".join(exchange.sent) == b"{}"


class Chunked(FakeExchange):
    """Others may write the rest of a stream."""

    def streaming(self, watch: AnswerWatch) -> Stream:
        return Stream(watch, self.send, self.sent.append)


def test_from_the_first_token_on_it_is_a_stream() -> None:
    exchange, firsts, watch = Chunked(Steps()), list[str](), AnswerWatch()
    record = SimpleNamespace(exchange=exchange, flow=None)
    feed = feeding(record, watch, lambda: firsts.append("first"))
    assert feed(b": waiting\n\n") is None
    stream = feed(b"data: 1\n\n")
    assert stream is not None
    assert (stream.watch, exchange.sent) == (watch, [b": waiting\n\n", b"data: 1\n\n"])
    assert feed(b"data: 2\n\n") is None
    assert firsts == ["first"]


def test_a_stream_that_may_have_to_go_on_is_looked_into() -> None:
    exchange = Chunked(Steps())
    flow = SimpleNamespace(feed=lambda chunk: chunk.upper())
    feed = feeding(SimpleNamespace(exchange=exchange, flow=flow), AnswerWatch(), lambda: None)
    assert [feed(b"a"), feed(b"b")] == [None, None]
    assert exchange.sent == [b"A", b"B"]


async def test_of_a_stream_that_goes_on_only_the_body() -> None:
    record, answer = made([b"data: 1\n\n"], SSE, continued=1)
    await relay(record, answer, placement(), None, record.exchange.send)
    assert (record.exchange.status, record.exchange.sent) == (0, [b"data: 1\n\n"])


@pytest.mark.parametrize("begun", [{"continued": 1}, {"held": True}])
async def test_what_is_no_stream_cannot_follow_one(begun: dict[str, Any]) -> None:
    record, answer = made([b'{"error":{"message":"no"}}'], JSON, status=400, **begun)
    with pytest.raises(ProxyError) as raised:
        await relay(record, answer, placement(), None, record.exchange.send)
    assert raised.value.code == "upstream_refused"
    assert record.exchange.sent == []


async def test_a_refusal_is_bounded() -> None:
    record, answer = made([b"x" * 100_000] * 3, JSON, status=500)
    error = await refused(answer, record.exchange, placement())
    assert len(error.message) < 1000


class LeftAtItsEnd(FakeAnswer):
    """Its last byte was passed on when the client left: that is let go to its end."""

    async def relay(self, feed: Any, exchange: object) -> None:
        await super().relay(feed, exchange)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


@pytest.mark.parametrize("broken", [False, True])
async def test_who_left_at_the_end_is_asked_nothing_anew_for(broken: bool) -> None:
    """A whole stream ends as it would have; one that broke off does not go on elsewhere."""
    record, _ = made([], SSE)
    error = ProxyError("upstream_broke", "It broke off.") if broken else None
    record.flow = SimpleNamespace(broken=error, end=lambda: b"end")
    answer = LeftAtItsEnd(Steps(), [b"data: 1\n\n"], 200, SSE)
    sent = record.exchange.sent
    task = asyncio.create_task(relay(record, answer, placement(), None, record.exchange.send))
    await asyncio.wait([task])
    assert task.cancelled() is broken
    assert sent == ([b"data: 1\n\n"] if broken else [b"data: 1\n\n", b"end"])


async def test_who_left_at_the_end_of_a_refusal_is_told_nothing() -> None:
    record, _ = made([], JSON, held=True)
    answer = LeftAtItsEnd(Steps(), [b"{}"], 400, JSON)
    task = asyncio.create_task(refused(answer, record.exchange, placement()))
    await asyncio.wait([task])
    assert task.cancelled()
