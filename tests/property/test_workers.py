"""Workers decide as one process would, and whatever ends, what was held is released once."""

import asyncio
import json
import random
from typing import NamedTuple

import pytest

from kvproxy.adapters.gate import Gate
from kvproxy.adapters.local_placer import LocalPlacer
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.router import Placement
from kvproxy.proxy import Placer, Record
from tests.support.hops import Hop, Time, make_admission, make_record, usage_of
from tests.support.makers import make_replica, make_router

REPLICAS = 3


class Turn(NamedTuple):
    number: int
    body: bytes
    session: str
    worker: int


class Script(NamedTuple):
    """What happens, in order: (act, number of a turn)."""

    turns: list[Turn]
    acts: list[tuple[str, int]]


def script(seed: int, turns: int = 40, workers: int = 2) -> Script:
    """Conversations that grow, are compacted and overlap."""
    chance = random.Random(seed)
    texts: dict[str, list[str]] = {f"s{i}": [f"head {i % 3} " * 200] for i in range(8)}
    made, acts, running = [], [], list[tuple[int, str]]()
    for number in range(turns):
        session = chance.choice([name for name in texts if name not in [s for _, s in running]])
        if len(texts[session]) > 3 and chance.random() < 0.1:
            texts[session] = [*texts[session][:1], "a summary " * 20]
        texts[session].append(f"{number} " * chance.randint(100, 3000))
        messages = [{"role": "user", "content": text} for text in texts[session]]
        body = json.dumps({"model": "m", "messages": messages}).encode()
        made.append(Turn(number, body, session, chance.randrange(workers)))
        acts.append(("start", number))
        running.append((number, session))
        while running and (len(running) > 5 or chance.random() < 0.5):
            ended, _ = running.pop(chance.randrange(len(running)))
            acts += [("first", ended), (chance.choice(["end", "end", "end", "cut"]), ended)]
    for ended, _ in running:
        acts += [("first", ended), ("end", ended)]
    return Script(made, acts)


class Run:
    """A script through some placers."""

    def __init__(self, clock: Time, placers: list[Placer], settle: object) -> None:
        self.clock = clock
        self.placers = placers
        self.settle = settle
        self.records: dict[int, Record] = {}
        self.tasks: dict[int, asyncio.Task[Placement]] = {}
        self.decided: dict[int, tuple[object, ...]] = {}

    async def play(self, played: Script) -> dict[int, tuple[object, ...]]:
        for act, number in played.acts:
            self.clock.now += 0.05
            turn = played.turns[number]
            await self.act(act, turn)
            await self.settle()  # type: ignore[operator]
        return self.decided

    async def act(self, act: str, turn: Turn) -> None:
        placer = self.placers[turn.worker % len(self.placers)]
        if act == "start":
            record = make_record(turn.body, turn.session, f"id-{turn.number}")
            self.records[turn.number] = record
            self.tasks[turn.number] = asyncio.ensure_future(placer.place(record, frozenset()))
            return
        task, record = self.tasks[turn.number], self.records[turn.number]
        if not task.done():
            # It still waits: its client leaves.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            self.decided[turn.number] = ("waited",)
            return
        placement = task.result()
        if act == "first":
            placer.seen(placement, Evidence.ANSWERED)
            placer.first_token(placement)
            return
        if act == "cut":
            placer.abort(placement)
        else:
            record.usage = usage_of(record, placement.predicted_cached_tokens)
            placer.finish(record, placement)
        placing = placement.placing
        self.decided[turn.number] = (
            placement.replica.id,
            placing.match,
            placing.prompt_tokens,
            placing.score,
            record.verdict,
            record.step and (record.step.thread.number, record.step.thread.turns),
        )


@pytest.mark.parametrize("seed", range(3))
async def test_decisions_are_those_of_one_process(seed: int) -> None:
    print(f"seed {seed}")
    played = script(seed)
    clock = Time()
    router = make_router([make_replica(f"r{i}") for i in range(REPLICAS)])
    gate = Gate(router, make_admission(router), clock)
    diagnosis = Diagnosis(router.ruler, 2**20)
    one: Placer = LocalPlacer(router, gate, diagnosis, clock, lambda replica: None)

    async def settle() -> None:
        for _ in range(8):
            await asyncio.sleep(0)
            gate.changed()

    alone = await Run(clock, [one], settle).play(played)
    several = Hop(count=3, replicas=REPLICAS)
    together = await Run(several.clock, list(several.workers), several.settle).play(played)
    assert together == alone
    assert len({decided[0] for decided in alone.values()}) > 1
    assert several.alone == []
    assert several.placement.at_rest()


class Chaos:
    """Turns on workers while processes die at any moment."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.hop = Hop(count=3, replicas=REPLICAS, backlog_s=0.2)
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended = 0

    async def turn(self, number: int) -> None:
        chance = random.Random(self.chance.random())
        placer = self.hop.workers[chance.randrange(3)]
        text = f"{number % 7} " * chance.randint(50, 4000)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
        record = make_record(body.encode(), f"s{number % 7}", f"id-{number}")
        tried: frozenset[str] = frozenset()
        for _ in range(2):
            placement = await placer.place(record, tried)
            tried |= {placement.replica.id}
            try:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                if chance.random() < 0.8:
                    placer.first_token(placement)
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                failed = chance.random() < 0.2
            except asyncio.CancelledError:
                placer.abort(placement)
                raise
            if not failed:
                record.usage = usage_of(record)
                placer.finish(record, placement)
                return
            placer.abort(placement)
            placer.seen(placement, Evidence.ANSWERED)

    async def live(self, steps: int = 80) -> None:
        for step in range(steps):
            self.hop.clock.now += 0.03
            task = asyncio.create_task(self.turn(step))
            self.tasks.add(task)
            await self.happen(self.chance.random())
        for task in self.tasks:
            if self.chance.random() < 0.3:
                task.cancel()
        for _ in range(400):
            self.hop.clock.now += 0.1
            self.hop.placement.desk.poll(self.hop.clock.now)
            await self.hop.settle()
            if all(task.done() for task in self.tasks):
                break
        for task in self.tasks:
            assert task.done(), "a turn waits for ever"
            assert task.cancelled() or task.exception() is None
        await self.hop.settle()

    async def happen(self, what: float) -> None:
        if what < 0.1:
            self.chance.choice(sorted(self.tasks, key=id)).cancel()
        elif what < 0.15:
            self.hop.restart_placement()
        elif what < 0.2:
            link = self.hop.link(self.chance.randrange(3))
            if link.up:
                link.leave()
            else:
                link.join()
        elif what < 0.25:
            link = self.hop.link(self.chance.randrange(3))
            link.full = not link.full
        elif what < 0.6:
            await asyncio.sleep(0)
        else:
            await self.hop.settle()


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_held_is_released_once_whatever_dies(seed: int) -> None:
    print(f"seed {seed}")
    chaos = Chaos(seed)
    await chaos.live()
    for worker in chaos.hop.workers:
        assert worker.claims == {}
        assert all(replica.load.in_flight == 0 for replica in worker.router.replicas)
        assert worker._asked == {}
    assert chaos.hop.placement.at_rest()
