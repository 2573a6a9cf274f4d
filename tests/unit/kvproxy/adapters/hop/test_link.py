"""Both ends of the hop on a real Unix socket: joined, asked, silent, full, gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvproxy.adapters.hop.link import HopLink, LostError
from kvproxy.adapters.hop.server import HopServer, Page
from kvproxy.core import hop
from kvproxy.core.errors import ProxyError
from tests.support.hops import Placement
from tests.support.proxies import eventually


class Listens:
    def __init__(self) -> None:
        self.said: list[hop.FromPlacement] = []
        self.joins = self.losses = 0

    def joined(self) -> Sequence[hop.FromWorker]:
        self.joins += 1
        return [hop.Figures({"x": [(["a"], [1.0])]})]

    def lost(self) -> None:
        self.losses += 1

    def heard(self, message: hop.FromPlacement) -> None:
        self.said.append(message)


class Place:
    """A placement process's server and what it was told."""

    def __init__(self, recall: Callable[[hop.Place], Awaitable[None]] | None = None) -> None:
        placement = Placement(time.monotonic, 2, [])
        self.figures: list[tuple[str, hop.Figures]] = []
        self.saved = 0
        self.server = HopServer(
            admission=placement.admission,
            clock=time.monotonic,
            states=lambda: [
                hop.ReplicaState(r.id, r.url, r.health, r.models, r.kv_events, 1, 16, 1.0, None)
                for r in placement.router.replicas
            ],
            show=self.show,
            figures=lambda worker, said: self.figures.append((worker, said)),
            lost=self.lost,
            recall=recall,
        )
        placement.desk._say = self.server.say
        self.server.desk = placement.desk
        self.placement = placement

    def lost(self) -> None:
        self.saved += 1

    async def show(self, asked: hop.Show) -> Page:
        if asked.target == "/broken":
            raise ValueError(asked.target)
        if asked.target == "/wrong":
            raise ProxyError("not_found", "no such page")
        return Page(200, "text/plain", asked.target.encode())


@asynccontextmanager
async def linked(
    folder: Path,
    silence_s: float = 60.0,
    recall: Callable[[hop.Place], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[Place, HopLink]]:
    place, listens, path = Place(recall), Listens(), str(folder / "hop")
    await place.server.start(path)
    link = HopLink(path, "w1", listens, time.monotonic, silence_s=silence_s, unsent_bytes_max=2**16)
    link.start()
    await link.became_up.wait()
    try:
        yield place, link
    finally:
        await link.close()
        await place.server.close()
        await eventually(lambda: not place.server.connections)


def listens(link: HopLink) -> Listens:
    assert isinstance(link._listener, Listens)
    return link._listener


async def test_it_joins_with_the_replicas_and_says_what_it_knows(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        (state,) = [m for m in listens(link).said if isinstance(m, hop.State)]
        assert [replica.id for replica in state.replicas] == ["r0", "r1"]
        await eventually(lambda: len(place.figures) == 1)
        assert place.figures[0][0] == "w1"


async def test_questions_are_answered_both_ways(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        shown = await link.ask(lambda q: hop.Show(q, "GET", "/a?b=1", {}, b""))
        assert isinstance(shown, hop.Shown)
        assert (shown.status, shown.body) == (200, b"/a?b=1")
        broken = await link.ask(lambda q: hop.Show(q, "GET", "/broken", {}, b""))
        assert isinstance(broken, hop.Shown)
        assert broken.status == 500
        wrong = await link.ask(lambda q: hop.Show(q, "GET", "/wrong", {}, b""))
        assert isinstance(wrong, hop.Shown)
        assert wrong.refusal is not None
        assert hop.error_of(wrong.refusal).code == "not_found"
        asking = asyncio.create_task(place.server.ask_all("explain", "x"))
        await eventually(lambda: any(isinstance(m, hop.Ask) for m in listens(link).said))
        (asked,) = [m for m in listens(link).said if isinstance(m, hop.Ask)]
        link.say(hop.Heard(asked.q, b"told"))
        assert await asking == [b"told"]
        assert await place.server.ask_all("nobody is slow") == []


async def test_decisions_that_come_in_one_turn_share_a_frame(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        for n in range(1, 6):
            link.say(hop.Anywhere(n, "", [], "", 0, "", ""))
        await eventually(lambda: sum(isinstance(m, hop.Placed) for m in listens(link).said) == 5)
        assert sum(isinstance(m, hop.Handled) for m in listens(link).said) == 1
        assert len(place.server.desk.workers[1].claims) == 5
    assert place.placement.at_rest()
    assert place.saved == 1


async def test_what_is_mentioned_goes_with_what_is_said_or_soon_by_itself(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        link.say(hop.Anywhere(1, "", [], "", 0, "", ""))
        await eventually(lambda: any(isinstance(m, hop.Placed) for m in listens(link).said))
        claims = place.server.desk.workers[1].claims
        assert link._transport is not None
        frames: list[bytes] = []
        write = link._transport.write
        link._transport.write = frames.append  # type: ignore[method-assign]
        link.mention(hop.Began(1, well=False))
        await asyncio.sleep(0)
        assert frames == []
        link.say(hop.Anywhere(2, "", [], "", 0, "", ""))
        await asyncio.sleep(0)
        assert len(frames) == 1
        link._transport.write = write  # type: ignore[method-assign]
        write(frames[0])
        link.mention(hop.Done(1, False, None, None, None))
        await eventually(lambda: list(claims) == [2])


async def test_what_cannot_wait_takes_along_what_was_to_be_said(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        assert link._transport is not None
        frames: list[bytes] = []
        write = link._transport.write
        link._transport.write = frames.append  # type: ignore[method-assign]
        link.mention(hop.Abort(7, well=False))
        link.say(hop.Abort(8, well=False))
        link.say(hop.Anywhere(1, "", [], "", 0, "", ""), at_once=True)
        link.say(hop.Anywhere(2, "", [], "", 0, "", ""))
        assert [len(said) for said in map(_said, frames)] == [3]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(said) for said in map(_said, frames)] == [3, 1]
        link._transport.write = write  # type: ignore[method-assign]
        for each in frames:
            write(each)
        await eventually(lambda: len(place.server.desk.workers[1].claims) == 2)


def _said(framed: bytes) -> list[hop.FromWorker]:
    [payload] = hop.Frames().feed(bytes(framed))
    return hop.from_worker.decode(payload)


async def test_a_lost_connection_fails_questions_and_is_made_again(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        asking = asyncio.create_task(link.ask(lambda q: hop.MayRetry(q, "m", [])))
        await asyncio.sleep(0)
        link._cut()
        with pytest.raises(LostError):
            await asking
        await link.became_up.wait()
        assert (listens(link).joins, listens(link).losses) == (2, 1)
        assert place.server.lost_workers == 1


async def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    link = HopLink(
        str(tmp_path / "hop"), "w", Listens(), time.monotonic, silence_s=1, unsent_bytes_max=1
    )
    link.start()
    link.say(hop.Abort(1, well=False))
    with pytest.raises(LostError):
        await link.ask(lambda q: hop.MayRetry(q, "m", []))
    await link.close()


async def test_who_is_silent_is_given_up(tmp_path: Path) -> None:
    async with linked(tmp_path, silence_s=0.0) as (_, link):
        await eventually(lambda: listens(link).losses >= 1)


async def test_who_speaks_otherwise_is_cut_off(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, _):
        for wrong in (b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(hop.frame([hop.Abort(1, well=True)]))):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "hop"))
            writer.write(wrong)
            assert await reader.read() == b""
            writer.close()
        assert len(place.server.connections) == 1


async def test_a_link_that_nobody_reads_is_full(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        (connection,) = place.server.connections.values()
        assert connection._transport is not None
        connection._transport.pause_reading()
        prompt = ("", "/v1/chat/completions", b"x" * 2**20)
        link.say(hop.Done(1, False, None, prompt, None))
        await eventually(lambda: link.full)
        connection._transport.resume_reading()
        await eventually(lambda: not link.full)
