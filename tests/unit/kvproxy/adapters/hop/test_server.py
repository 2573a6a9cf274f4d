"""The placement process's end alone; both ends together are in test_link."""

import asyncio
import time
from pathlib import Path

from kvproxy.adapters.hop import server as module
from kvproxy.core import hop
from kvproxy.core.life_cycle import Evidence
from tests.support.hops import make_record
from tests.support.proxies import eventually
from tests.unit.kvproxy.adapters.hop.test_link import linked, listens

BODY = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"x " * 4000)


async def test_those_who_wait_are_placed_by_the_clock_and_by_events(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        place.placement.admission._limits = module_limits(place.placement.admission._limits)
        record = make_record(BODY)
        assert record.turn is not None
        for n in range(1, 8):
            link.say(asks(n, hop.pack(record.turn.chain)))

        def placed() -> int:
            return sum(isinstance(m, hop.Placed) for m in listens(link).said)

        await eventually(lambda: placed() >= 1)
        first = placed()
        assert first < 7
        for message in list(listens(link).said):
            if isinstance(message, hop.Placed):
                link.say(hop.Abort(message.n, well=False))
        await eventually(lambda: placed() > first)


def module_limits(limits: object) -> object:
    from dataclasses import replace

    return replace(limits, backlog_s=0.05)  # type: ignore[type-var]


def asks(n: int, chain: hop.Packed) -> hop.Place:
    identity = ("t", "m", "s", "", "", "none", 0.0)
    return hop.Place(n, identity, chain, [], 0, f"id{n}", "", 0, "", "")


async def test_a_question_to_others_that_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def recall(asked: hop.Place) -> None:
        await asyncio.sleep(0)
        if asked.n == 1:
            raise ValueError("what is that?")

    turn = make_record(BODY).turn
    assert turn is not None
    async with linked(tmp_path, recall=recall) as (_, link):
        for n in (1, 2):
            link.say(asks(n, hop.pack(turn.chain)))
        said = listens(link).said
        await eventually(lambda: {m.n for m in said if isinstance(m, hop.Placed)} == {1, 2})
        # Or the worker would keep for ever how long it waited.
        await eventually(lambda: isinstance(said[-1], hop.Handled))


async def test_who_waits_behind_a_question_is_placed_by_the_clock(tmp_path: Path) -> None:
    async def recall(asked: hop.Place) -> None:
        await asyncio.sleep(0)

    turn = make_record(BODY).turn
    assert turn is not None
    async with linked(tmp_path, recall=recall) as (place, link):
        for replica in place.placement.router.replicas:
            replica.load.decline(time.monotonic() + 5.2)
        link.say(asks(1, hop.pack(turn.chain)))
        await eventually(lambda: place.placement.admission.length == 1)
        for replica in place.placement.router.replicas:
            replica.load.declines_until = 0.0
        said = listens(link).said
        await eventually(lambda: any(isinstance(m, hop.Placed) for m in said))


async def test_who_asks_what_cannot_be_answered_is_cut_off(tmp_path: Path) -> None:
    async def recall(asked: hop.Place) -> None:
        await asyncio.sleep(0)

    async with linked(tmp_path, recall=recall) as (_, link):
        link.say(asks(1, hop.Packed(0, b"12345678", b"", b"", b"")))
        await eventually(lambda: listens(link).losses == 1)


async def test_all_are_told_when_a_replica_changes(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        replica = place.placement.router.replicas[0]
        replica.see(Evidence.FAILED, time.monotonic())
        place.server.changed()

        def healths() -> list[str]:
            states = [m for m in listens(link).said if isinstance(m, hop.State)]
            return [each.health for each in states[-1].replicas]

        await eventually(lambda: healths() == ["suspect", "ready"])


async def test_frames_that_piled_up_are_answered_in_one(tmp_path: Path) -> None:
    async with linked(tmp_path) as (place, link):
        [connection] = place.server.connections.values()
        asked = [hop.frame([hop.Anywhere(n, "", [], "", 0, "", "")]) for n in (1, 2, 3)]
        connection.data_received(bytes(b"".join(asked)))
        said = listens(link).said
        await eventually(lambda: sum(isinstance(m, hop.Placed) for m in said) == 3)
        assert sum(isinstance(m, hop.Handled) for m in said) == 1


async def test_it_beats(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, link):
        await eventually(lambda: any(isinstance(m, hop.Beat) for m in listens(link).said))


async def test_late_answers_are_left_out(tmp_path: Path) -> None:
    before, module._ASK_S = module._ASK_S, 0.01
    try:
        async with linked(tmp_path) as (place, _):
            assert await place.server.ask_all("figures") == []
    finally:
        module._ASK_S = before
    await asyncio.sleep(0)
