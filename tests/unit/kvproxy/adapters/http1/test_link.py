"""One connection to a replica, on a transport that only writes down."""

import asyncio
import math
from collections.abc import Callable

import pytest

from kvproxy.adapters.http1 import turns as turns_module
from kvproxy.adapters.http1.deadlines import Deadlines
from kvproxy.adapters.http1.link import Link, Phase
from kvproxy.adapters.http1.turns import Turns
from kvproxy.core.errors import ProxyError
from tests.support.fake_ports import FakeExchange, Steps

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 4\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\na: b\r\n\r\n"
TO_THE_END = OK + b"\r\n"


class Paper(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.reading = True
        self.aborted = False

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, tuple)
        self.written += b"".join(list_of_data)

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def asked(method: str = "POST") -> tuple[Link, Paper]:
    link, paper = Link("r0", 10.0, Deadlines(1.0)), Paper()
    link.connection_made(paper)
    link.ask(method, b"head", b"body" if method == "POST" else b"")
    return link, paper


async def body_of(link: Link) -> bytes:
    parts: list[bytes] = []
    await link.relay(parts.append, FakeExchange(Steps()))
    return b"".join(parts)


async def answer_of(link: Link) -> bytes:
    await link.answered()
    return await body_of(link)


@pytest.mark.parametrize(
    ("raw", "body", "kept"),
    [
        (LENGTH + b"abcd", b"abcd", True),
        (CHUNKED + b"2\r\nab\r\n2;x=y\r\ncd\r\n0\r\nTrailer: t\r\n\r\n", b"abcd", True),
        (OK + b"content-length: 4\r\nconnection: close\r\n\r\nabcd", b"abcd", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nabcd", b"abcd", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
        (INTERIM + LENGTH + b"abcd", b"abcd", True),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
async def test_answers(raw: bytes, body: bytes, kept: bool, step: int) -> None:
    link, paper = await asked()
    assert paper.written == b"headbody"
    for at in range(0, len(raw), step):
        link.data_received(raw[at : at + step])
    await link.answered()
    assert link.status in (200, 204, 304)
    assert (b"a", b"b") not in link.headers
    assert await body_of(link) == body
    assert link.rest() is kept


async def test_an_answer_to_head_has_no_body_and_the_next_is_read_right() -> None:
    link, _ = await asked("HEAD")
    link.data_received(LENGTH)
    await link.answered()
    assert await body_of(link) == b""
    assert link.rest()
    link.ask("GET", b"", b"")
    link.data_received(LENGTH + b"abcd")
    assert await body_of(link) == b"abcd"


async def test_parts_are_passed_on_in_the_call_they_arrive_in() -> None:
    link, _ = await asked()
    link.data_received(CHUNKED + b"2\r\nab\r\n")
    parts: list[bytes] = []
    relaying = asyncio.create_task(link.relay(parts.append, FakeExchange(Steps())))
    await asyncio.sleep(0)
    assert parts == [b"ab"]
    link.data_received(b"1\r\nc\r\n1\r\nd\r\n")
    assert parts == [b"ab", b"cd"]
    link.data_received(b"0\r\n\r\n")
    await relaying


async def test_the_end_of_the_connection_ends_what_has_no_other_end() -> None:
    for ended_by, whole in ((None, True), (ConnectionResetError(), False)):
        link, _ = await asked()
        link.data_received(TO_THE_END + b"abc")
        link.connection_lost(ended_by)
        if whole:
            assert await body_of(link) == b"abc"
            assert not link.rest()
        else:
            with pytest.raises(ProxyError, match="broke off"):
                await body_of(link)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "upstream_lost"),
        (b"HTTP/1.1 200 O", "upstream_lost"),
        (LENGTH + b"abc", "upstream_broke"),
        (CHUNKED + b"2\r\nab\r\n", "upstream_broke"),
    ],
)
async def test_an_answer_that_stops_early(raw: bytes, code: str) -> None:
    link, _ = await asked()
    if raw:
        link.data_received(raw)
    link.connection_lost(None)
    with pytest.raises(ProxyError) as raised:
        await answer_of(link)
    assert raised.value.code == code
    assert not link.stale


@pytest.mark.parametrize(
    "raw", [b"no http\r\n\r\n", CHUNKED + b"x\r\n", b"HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n"]
)
async def test_what_is_no_answer_breaks_the_connection(raw: bytes) -> None:
    link, paper = await asked()
    link.data_received(raw)
    with pytest.raises(ProxyError) as raised:
        await answer_of(link)
    assert raised.value.code == "upstream_broke"
    assert paper.aborted


async def test_silence_is_given_up_and_not_while_the_client_does_not_read() -> None:
    link, paper = await asked()
    assert link.deadline < math.inf
    link.data_received(CHUNKED + b"2\r\nab\r\n")
    exchange = FakeExchange(Steps(), congested=True)
    relaying = asyncio.create_task(link.relay(lambda part: None, exchange))
    await asyncio.sleep(0)
    assert (paper.reading, link.deadline) == (False, math.inf)
    assert exchange.press is not None
    exchange.press(False)
    assert paper.reading
    assert link.deadline < math.inf
    link.expired()
    with pytest.raises(ProxyError, match="10 s") as raised:
        await relaying
    assert raised.value.code == "upstream_timeout"


async def test_a_connection_is_not_used_again_when_anything_is_left_over() -> None:
    for extra, unsent in ((b"HTTP/1.1 200 OK\r\n", 0), (b"", 1)):
        link, paper = await asked()
        link.data_received(LENGTH + b"abcd" + extra)
        paper.unsent = unsent
        assert await body_of(link) == b"abcd"
        assert not link.rest()


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", LENGTH + b"abcd", b"abcd"),
        ("GET", CHUNKED + b"2\r\nab\r\n0\r\n\r\n", b"ab"),
        ("GET", b"HTTP/1.1 204 N\r\n\r\n", b""),
        ("HEAD", LENGTH, b""),
    ],
)
@pytest.mark.parametrize("behind", [LENGTH + b"evil", b"evil"])
async def test_what_comes_behind_an_answer_is_no_part_of_it(
    behind: bytes, method: str, answer: bytes, body: bytes
) -> None:
    link, _ = await asked(method)
    link.data_received(answer + behind)
    assert await body_of(link) == body
    assert not link.rest()


async def test_bytes_that_nobody_asked_for_close_it() -> None:
    link, paper = await asked()
    link.data_received(LENGTH + b"abcd")
    assert await body_of(link) == b"abcd"
    assert link.rest()
    link.data_received(LENGTH)
    assert (link.phase, paper.aborted) == (Phase.BROKEN, True)


async def test_whoever_waits_for_a_first_byte_can_be_told_to_give_up() -> None:
    link, paper = await asked()
    link.give_up()
    with pytest.raises(ProxyError) as raised:
        await link.answered()
    assert (raised.value.code, link.stale, paper.aborted) == ("upstream_lost", False, True)
    link, paper = await asked()
    link.data_received(b"HTTP/1.1 200 O")
    link.give_up()
    assert not paper.aborted


async def test_answers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "thread_time", lambda: 0.0)
    turns, done = Turns(), list[Link]()
    turns.streams = 1

    async def answer(link: Link) -> None:
        await link.answered()
        done.append(link)

    links = []
    for _ in range(5):
        link = Link("r0", 10.0, Deadlines(1.0), turns)
        link.connection_made(Paper())
        link.ask("POST", b"head", b"body")
        links.append(link)
    tasks = [asyncio.create_task(answer(link)) for link in links]
    await asyncio.sleep(0)
    for link in links:
        link.data_received(LENGTH + b"abcd")
    went = []
    while len(done) < len(links):
        await asyncio.sleep(0)
        went.append(len(done))
    # Once it is known that they take no time all that are left go on.
    assert went == [1, 2, 5]
    assert done == links
    await asyncio.gather(*tasks)


async def test_who_goes_at_the_end_of_an_answer_has_all_of_it() -> None:
    turns = Turns()
    link, _ = await asked()
    link._turns = turns
    relaying = asyncio.create_task(body_of(link))
    link.data_received(LENGTH + b"ab")
    await asyncio.sleep(0)
    await turns.turn()
    link.data_received(b"cd")
    await asyncio.sleep(0)
    assert not relaying.done()
    relaying.cancel()
    assert await relaying == b"abcd"
    assert link.rest()


async def test_who_goes_before_the_end_of_an_answer_is_gone() -> None:
    link, _ = await asked()
    relaying = asyncio.create_task(body_of(link))
    link.data_received(LENGTH + b"ab")
    await asyncio.sleep(0)
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    assert not link.rest()


async def test_an_answer_that_nobody_wanted_is_no_part_of_the_next() -> None:
    link, _ = await asked()
    link.data_received(LENGTH + b"old!")
    await link.answered()
    assert link.rest()
    link.ask("GET", b"", b"")
    link.data_received(LENGTH + b"new!")
    assert await answer_of(link) == b"new!"


SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Tunnelled(FakeExchange):
    """A client that sends two bytes ahead."""

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        sink(b"up")

    def hold_back(self, full: bool) -> None:
        self.sent.append(b"full" if full else b"free")


async def switched(cut: int) -> tuple[Link, Paper, list[bytes], asyncio.Task[None]]:
    link, paper = Link("r0", 10.0, Deadlines(1.0)), Paper()
    link.connection_made(paper)
    link.ask("GET", b"head", b"", tunnels=True)
    raw = SWITCHED + b"down"
    link.data_received(raw[:cut])
    if raw[cut:]:
        link.data_received(raw[cut:])
    await link.answered()
    exchange, parts = Tunnelled(Steps()), list[bytes]()
    exchange.sent = parts
    relaying = asyncio.ensure_future(link.relay(parts.append, exchange))
    await asyncio.sleep(0)
    return link, paper, parts, relaying


@pytest.mark.parametrize("cut", [1, len(SWITCHED) - 1, len(SWITCHED), len(SWITCHED) + 2, 1000])
async def test_after_101_bytes_pass_unread(cut: int) -> None:
    link, paper, parts, relaying = await switched(cut)
    assert (link.status, paper.written) == (101, b"headup")
    link.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    link.pause_writing()
    link.resume_writing()
    assert b"".join(parts) == b"downHTTP/1.1 200 OK\r\n\r\nfullfree"
    link.connection_lost(None)
    await relaying
    assert not link.rest()


async def test_a_tunnel_that_breaks_says_so() -> None:
    link, _, _, relaying = await switched(1000)
    link.connection_lost(ConnectionResetError())
    with pytest.raises(ProxyError, match="broke off"):
        await relaying
