"""How a body gets on: as a stream, cut anywhere, broken anywhere, pressed back."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.adapters.http1.link import Link, Phase
from kvproxy.core.answer import PILED_BYTES, PILED_MAX, AnswerWatch
from kvproxy.core.echo import Tap, TapBudget
from kvproxy.core.errors import ProxyError
from kvproxy.relaying import Stream
from tests.support.fake_ports import FakeExchange, Steps
from tests.unit.kvproxy.adapters.http1.test_link import CHUNKED, LENGTH, Paper, asked, body_of

SIGN = b"sign"


class Reader:
    """A client whose answer is a stream from its first part on that has an x."""

    def __init__(self) -> None:
        self.tap = Tap((SIGN,), TapBudget(2**20))
        self.watch = AnswerWatch((), self.tap)
        self.got = b""
        self.fed = 0

    def feed(self, part: bytes) -> Stream | None:
        self.fed += 1
        self.watch.feed(part)
        self.send(part)
        return Stream(self.watch, self.send, self.write) if b"x" in part else None

    def send(self, part: bytes) -> None:
        self.got += part

    def write(self, chunk: bytes) -> None:
        size, _, rest = chunk.partition(b"\r\n")
        assert rest.endswith(b"\r\n")
        assert int(size, 16) == len(rest) - 2 <= PILED_BYTES
        self.got += rest[:-2]


async def flowing(reader: Reader, raw: bytes = b"") -> tuple[Link, Paper, asyncio.Task[None]]:
    link, paper = await asked()
    link.data_received(CHUNKED + raw)
    relaying = asyncio.create_task(link.relay(reader.feed, FakeExchange(Steps())))
    await asyncio.sleep(0)
    return link, paper, relaying


def framed(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


async def test_the_rest_of_a_stream_is_written_without_asking() -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"ab"))
    for raw in (framed(b"c"), framed(b"x"), framed(b"d"), framed(b"e", b"f"), framed(b"g")[:3]):
        link.data_received(raw)
    assert (reader.got, reader.fed) == (b"abcxdef", 3)
    link.data_received(framed(b"g")[3:] + b"0\r\n\r\n")
    await relaying
    assert (reader.got, reader.fed) == (b"abcxdefg", 3)
    assert reader.watch.end() == reader.got
    assert link.rest()
    link.ask("GET", b"", b"")
    link.data_received(LENGTH + b"next")
    assert await body_of(link) == b"next"
    assert reader.watch.end() == reader.got


@pytest.mark.parametrize(
    "behind",
    [
        LENGTH + b"evil",
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"0\r\n\r\n",
        b"\x00",
    ],
)
async def test_nothing_behind_a_stream_is_part_of_it(behind: bytes) -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"x"))
    link.data_received(framed(b"y") + b"0\r\n\r\n" + behind)
    await relaying
    assert reader.got == b"xy"
    assert not link.rest()


PARTS = st.binary(min_size=1, max_size=40) | st.just(SIGN) | st.just(b"y" * (PILED_BYTES + 1))


@given(st.lists(PARTS, max_size=3 * PILED_MAX), st.lists(st.integers(1, 60), max_size=40))
@pytest.mark.parametrize(
    "end", [b"0\r\n\r\n", b"0;a=b\r\nT: t\r\n\r\n", b"x\r\n", b"-1\r\n", b"1 \r\nh\r\n", b"1\nh\n"]
)
async def test_a_stream_is_the_same_however_it_is_cut(
    end: bytes, parts: list[bytes], steps: list[int]
) -> None:
    """Sent, watched and kept; where its framing is none, that is told behind all before it."""
    reader, twin = Reader(), Reader()
    link, _, relaying = await flowing(reader, framed(b"x"))
    raw = framed(*parts) + end
    for step in [*steps, len(raw)]:
        if raw and link.phase is Phase.ANSWER:
            link.data_received(raw[:step])
            assert len(reader.watch.pile) <= PILED_MAX
        raw = raw[step:]
    whole = end.startswith(b"0")
    if whole:
        await relaying
    else:
        with pytest.raises(ProxyError, match="not HTTP"):
            await relaying
    assert reader.got == b"x" + b"".join(parts)
    assert link.rest() is whole
    for part in (b"x", *parts):
        twin.feed(part)
    assert reader.got.endswith(reader.watch.end())
    assert len(reader.watch.end()) >= min(len(reader.got), 8192)
    kept = twin.watch.taken()
    assert reader.watch.taken().endswith(kept) if kept else SIGN not in reader.got


async def test_many_chunks_at_once_pile_up_no_higher() -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"x"))
    for _ in range(20):
        link.data_received(framed(*[b"data"] * 500))
        assert len(reader.watch.pile) <= PILED_MAX
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    assert reader.got == b"x" + b"data" * 10_000
    assert link._parts is not reader.watch.pile


async def test_a_stream_that_breaks_off_has_passed_all_that_came() -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"x"))
    link.data_received(framed(b"whole") + b"9\r\nhal")
    link.connection_lost(None)
    with pytest.raises(ProxyError, match="broke off"):
        await relaying
    assert reader.got == reader.watch.end() == b"xwholehal"


async def test_a_silent_stream_is_given_up_and_one_that_speaks_is_not() -> None:
    reader = Reader()
    link, paper, relaying = await flowing(reader, framed(b"x"))
    now = link._loop.time()
    assert link.deadline <= now
    link._heard_at -= 9.9
    link.data_received(framed(b"data"))
    link.expired()
    assert link._heard_at >= now
    link._heard_at -= 9.0
    link.expired()
    assert not paper.aborted
    link._heard_at -= 1.1
    link.expired()
    with pytest.raises(ProxyError, match="10 s"):
        await relaying
    assert (paper.aborted, link.deadline) == (True, math.inf)


async def test_silence_does_not_count_while_the_client_of_a_stream_does_not_read() -> None:
    reader, exchange = Reader(), FakeExchange(Steps())
    link, paper = await asked()
    link.data_received(CHUNKED + framed(b"x"))
    exchange.congested = True
    relaying = asyncio.create_task(link.relay(reader.feed, exchange))
    await asyncio.sleep(0)
    assert (reader.got, paper.reading, link.deadline) == (b"x", False, math.inf)
    link._heard_at -= 100.0
    assert exchange.press is not None
    exchange.press(False)
    assert paper.reading
    link.expired()
    assert not paper.aborted
    link.data_received(b"0\r\n\r\n")
    await relaying
