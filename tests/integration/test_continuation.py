"""Streams that break off and go on on another replica, through the whole proxy."""

from collections.abc import Sequence

import orjson
import pytest

from tests.support.proxies import proxied, settled
from tests.support.recording import Mark, Piece, RecordingReplica, answer, recording
from tests.support.wire import ask, post, request
from tests.unit.kvproxy.core.test_continuation import CHAT, DONE, ROLE, chunk

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
PROBE = {"interval_s": 100.0}
ON = {"continue_streams": True}
BODY = orjson.dumps(CHAT)


def events(*given: bytes | Mark) -> list[Piece]:
    """An answer of these events; a mark ends it early."""
    head, *_ = answer(b"", headers=EVENTS, chunked=True)
    framed = [
        each if isinstance(each, Mark) else b"%x\r\n%b\r\n" % (len(each), each) for each in given
    ]
    return [head, *framed, b"0\r\n\r\n"]


def play(replicas: Sequence[RecordingReplica], *answers: list[Piece]) -> None:
    """One answer a request, whichever replica it comes to."""
    left = list(answers)
    for replica in replicas:
        replica.script = lambda received: left.pop(0)


CUT = events(ROLE, chunk("Hel"), chunk("lo"), Mark.CUT)
REST = events(ROLE, chunk(" you", id="b"), chunk("", finish="stop", id="b"), DONE)


async def test_the_client_sees_one_stream_and_a_comment() -> None:
    async with recording(2) as replicas:
        play(replicas, CUT, REST)
        async with proxied([r.url for r in replicas], upstream=ON, probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            metrics = (await ask(url, request("GET", "/metrics"))).body
            await settled(app)
    before, mark, after = got.body.partition(b": continued on another replica\n\n")
    assert got.complete
    assert mark
    assert before == ROLE + chunk("Hel") + chunk("lo")
    assert after == chunk(" you") + chunk("", finish="stop") + DONE
    assert b'kvproxy_continued_streams_total{outcome="ok"} 1.0' in metrics
    second = next(r for r in replicas if b"assistant" in r.received[0].body).received[0]
    assert orjson.loads(second.body)["messages"][-1] == {"role": "assistant", "content": "Hello"}


async def test_an_engine_that_dies_politely_is_gone_on_after_too() -> None:
    dying = events(ROLE, chunk("Hel"), b'data: {"error":{"message":"dead"}}\n\n' + DONE)
    async with recording(2) as replicas:
        play(replicas, dying, REST)
        async with proxied([r.url for r in replicas], upstream=ON, probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            await settled(app)
    assert b"error" not in got.body
    assert got.body.endswith(DONE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CUT, answer(b'{"error":{"message":"no"}}', status="400 Bad Request")),
        (events(chunk(delta={"reasoning": "hm"}), Mark.CUT), REST),
        (events(ROLE, chunk("a"), b'data: {"error":{"message":"dead"}}\n\n' + DONE), [Mark.CUT]),
    ],
)
async def test_where_it_cannot_go_on_the_error_is_an_event(
    first: list[Piece], second: list[Piece]
) -> None:
    async with recording(2) as replicas:
        play(replicas, first, second)
        async with proxied([r.url for r in replicas], upstream=ON, probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            await settled(app)
    assert got.complete
    assert b'"error"' in got.body
    assert got.body.endswith(DONE)


async def test_with_nobody_left_the_engines_own_words_are_told() -> None:
    said = b'data: {"error":{"message":"dead"}}\n\n'
    async with recording(1) as replicas:
        play(replicas, events(ROLE, chunk("a"), said + DONE))
        async with proxied([replicas[0].url], upstream=ON, probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            await settled(app)
    assert got.body == ROLE + chunk("a") + said + DONE


async def test_a_text_that_was_over_needs_nobody() -> None:
    async with recording(2) as replicas:
        play(replicas, events(ROLE, chunk("a", finish="stop"), Mark.CUT))
        async with proxied([r.url for r in replicas], upstream=ON, probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            await settled(app)
    assert got.body == ROLE + chunk("a", finish="stop") + DONE
    assert sum(len(r.received) for r in replicas) == 1


async def test_it_is_off_by_default() -> None:
    async with recording(2) as replicas:
        play(replicas, CUT, REST)
        async with proxied([r.url for r in replicas], probe=PROBE) as (app, url):
            got = await ask(url, post(BODY))
            await settled(app)
    assert b'"error"' in got.body
