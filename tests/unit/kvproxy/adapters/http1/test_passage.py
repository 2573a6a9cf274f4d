"""How a body gets on: as a stream, cut anywhere, broken anywhere, pressed back."""

import asyncio
import math

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvproxy.adapters.http1.link import Link, Phase
from kvproxy.adapters.http1.turns import Turns
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
    assert link._turns.streams == 1
    link.data_received(framed(b"g")[3:] + b"0\r\n\r\n")
    await relaying
    assert (reader.got, reader.fed) == (b"abcxdefg", 3)
    assert reader.watch.end() == reader.got
    assert (link.rest(), link._turns.streams) == (True, 0)
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


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 1024])
async def test_a_chunk_that_came_alone_needs_no_parser(size: int) -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"x"))
    taken: list[bytes] = []
    take, link._take = link._take, taken.append
    link.data_received(framed(b"a" * size))
    assert not taken
    link._take = take
    link.data_received(framed(b"b") + b"0\r\n\r\n")
    await relaying
    assert reader.got == b"x" + b"a" * size + b"b"
    assert reader.watch.end() == reader.got
    assert link.rest()


# What is no chunk though its length says so, chunks written otherwise, pieces of chunks, ends.
READS = st.sampled_from(
    [
        *(b"2\r\nab\r\n", b"2\r\n\r\n\r\n", b"11\r\n%b\r\n" % (b"c" * 17), b"1\r\nab\r\n"),
        *(b"2\r\nabcd", b"3\r\nab\r\n", b"02\r\nab\r\n", b"B\r\n%b\r\n" % (b"d" * 11), b"2\n"),
        *(b"2;e\r\nab\r\n", b"3\r", b"\n", b"\r\n", b"7\r\n2\r\nab\r\n", b"a"),
        *(
            b"0\r\n",
            b"0\r\n\r\n",
            b"0\r\nab\r\n",
            b"T: t\r\n\r\n",
            b"2\r\nab\r\n3\r\ncde\r\n",
            b"\r\n2\r\nab",
        ),
    ]
)


class Alone:
    """What llhttp by itself makes of the same bytes."""

    def __init__(self) -> None:
        self.body = b"x"
        self.whole = False
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(CHUNKED)

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.whole = True


@example([b"3\r", b"2\r\nab\r\n"])
@example([b"2\r\nab\r\n3\r", b"2\r\nab\r\n"])
@given(st.lists(READS, max_size=2 * PILED_MAX))
async def test_a_chunk_is_known_by_its_length_only_where_llhttp_finds_the_same(
    reads: list[bytes],
) -> None:
    reader, twin = Reader(), Alone()
    link, _, relaying = await flowing(reader, framed(b"x"))
    broken = False
    for read in reads:
        try:
            twin.parser.feed_data(read)
        except httptools.HttpParserError:
            broken = True
        link.data_received(read)
        if broken or twin.whole:
            break
        assert reader.got == twin.body
    assert reader.got == twin.body
    assert (link.phase is Phase.DONE, link.phase is Phase.BROKEN) == (
        twin.whole,
        broken and not twin.whole,
    )
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)


async def test_a_stream_may_begin_inside_a_size_line() -> None:
    reader = Reader()
    link, _, relaying = await flowing(reader, framed(b"x") + b"3\r")
    link.data_received(b"2\r\nab\r\n")
    with pytest.raises(ProxyError, match="not HTTP"):
        await relaying
    assert reader.got == b"x"


async def test_nothing_is_a_chunk_by_its_length_in_a_body_that_is_not_chunked() -> None:
    reader = Reader()
    link, _ = await asked()
    link.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nx")
    relaying = asyncio.create_task(link.relay(reader.feed, FakeExchange(Steps())))
    await asyncio.sleep(0)
    link.data_received(b"2\r\nab\r\n")
    link.data_received(b"1\r\nc\r\n")
    await relaying
    assert reader.got == b"x2\r\nab\r\n1\r\nc\r\n"


async def test_what_nobody_takes_yet_is_not_read_without_end() -> None:
    reader = Reader()
    link, paper = await asked()
    link.data_received(CHUNKED)
    for _ in range(20):
        link.data_received(framed(b"y"))
    assert not paper.reading
    relaying = asyncio.create_task(link.relay(reader.feed, FakeExchange(Steps())))
    await asyncio.sleep(0)
    assert paper.reading
    link.data_received(b"0\r\n\r\n")
    await relaying
    assert reader.got == b"y" * 20
    assert link.rest()


async def test_an_answer_that_was_held_up_and_not_taken_ends_its_connection() -> None:
    link, paper = await asked()
    link.data_received(CHUNKED)
    for _ in range(20):
        link.data_received(framed(b"y"))
    link.data_received(b"0\r\n\r\n")
    assert (link.phase, paper.reading, link.rest()) == (Phase.DONE, False, False)


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


async def test_streams_that_began_together_settle_one_after_the_other() -> None:
    turns, settled, streams = Turns(), list[Reader](), []
    for _ in range(PILED_MAX):
        reader = Reader()
        link, _, relaying = await flowing(reader)
        link._turns = turns
        link.data_received(framed(b"x"))
        streams.append((reader, link, relaying))
        settle = reader.watch.settle
        reader.watch.settle = lambda by=reader, settle=settle: (settled.append(by), settle())
    for _ in range(2 * PILED_MAX):
        before = len(settled)
        for _, link, _ in streams:
            link.data_received(framed(b"y"))
        assert len(settled) <= before + 1
    assert len(settled) >= 2 * PILED_MAX - 2
    for reader, link, relaying in streams:
        link.data_received(b"0\r\n\r\n")
        await relaying
        assert reader.got == reader.watch.end() == b"x" + b"y" * 2 * PILED_MAX
    assert turns.streams == 0


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
