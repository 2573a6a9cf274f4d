"""Whatever is lost, late or cut: in the end every proxy has a conversation where its latest turn
ran. The store is a twin of the real one, which is held to it below."""

import random
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from redis.asyncio import Redis

from kvproxy.adapters.store.scripts import ACQUIRE, COMMIT
from kvproxy.core.bindings import Owed
from kvproxy.core.shared_words import Bound, bound_bytes, bound_from
from tests.support.naive_store import NaiveProxy, NaiveStore
from tests.support.valkey import valkey

KEYS = [b"key %012d" % number for number in range(4)]


class World:
    """Conversations whose turns hop over proxies, one at a time; every act takes a while."""

    def __init__(self, seed: int, proxies: int = 3) -> None:
        self.chance = Random(seed)
        self.store = NaiveStore()
        self.proxies = [NaiveProxy(f"p{number}", self.store) for number in range(proxies)]
        self.latest: dict[bytes, str] = {}
        self.now_s = 1000.0
        self.turns = 0
        self.forgot = False

    def turn(self) -> None:
        proxy, key = self.chance.choice(self.proxies), self.chance.choice(KEYS)
        replica = f"r{self.chance.randrange(5)}"
        home = proxy.recall(key, replica, self.now_s)
        # Some move, as when the home is busy or gone.
        self.latest[key] = home if self.chance.random() < 0.6 else replica
        self.turns += 1
        proxy.placed(key, self.latest[key], self.turns, self.now_s)

    def cut(self) -> None:
        """The store is gone for everybody, with its memory or without, or for one proxy alone. One
        that forgets again before all have told it again is beyond help, and left out."""
        hurt = self.chance.choice(["killed", "away", "partition"])
        if hurt == "partition":
            proxy = self.chance.choice(self.proxies)
            proxy.reaches = False
            proxy.lost()
            return
        if hurt == "killed":
            if self.forgot:
                self.settle()
            self.forgot = True
            self.store.kept.clear()
        self.store.up = False
        for proxy in self.proxies:
            proxy.lost()

    def mend(self) -> None:
        """Each proxy finds out in its own time, by either connection first."""
        self.store.up = True
        for proxy in self.chance.sample(self.proxies, len(self.proxies)):
            steps: list[Callable[[], None]] = [proxy.hear, proxy.retell]
            steps += [partial(proxy.tell, self.now_s)]
            for step in self.chance.sample(steps, 3):
                proxy.reaches = True
                step()
                self.step(["turn", "tell", "listen", "wait"])

    def step(self, acts: list[str]) -> None:
        self.now_s += self.chance.uniform(0.001, 2.0)
        proxy = self.chance.choice(self.proxies)
        match self.chance.choice(acts):
            case "turn":
                self.turn()
            case "tell":
                proxy.tell(self.now_s)
            case "listen":
                proxy.listen(self.now_s, self.chance.randrange(4))
            case "cut":
                self.cut()
            case "mend":
                self.mend()

    def settle(self) -> None:
        self.mend()
        for proxy in self.proxies:
            proxy.hear()
            proxy.retell()
        for _ in range(4):
            for proxy in self.proxies:
                proxy.tell(self.now_s)
                proxy.listen(self.now_s)


def after_outages(seed: int) -> None:
    world = World(seed)
    for _ in range(60):
        world.step(["turn", "turn", "turn", "tell", "tell", "listen", "listen", "cut", "mend"])
    world.settle()
    for key, replica in world.latest.items():
        assert world.store.kept[key].bound.replica == replica, f"seed {seed}"
        homes = [proxy.recall(key, "nowhere", world.now_s) for proxy in world.proxies]
        assert homes == [replica] * len(homes), f"seed {seed}"


def test_after_any_outage_a_conversation_is_where_its_latest_turn_ran() -> None:
    for seed in range(300):
        after_outages(seed)


@pytest.mark.slow
def test_after_thousands_of_outages() -> None:
    for seed in range(300, 10_000):
        after_outages(seed)


def test_a_store_whose_clock_jumps_keeps_the_order_of_turns_that_know_each_other() -> None:
    for seed in range(50):
        world = World(seed)
        for _ in range(40):
            world.turn()
            world.now_s += 1.0
            world.store.ahead_ms = world.chance.uniform(-1e9, 1e9)
            for proxy in world.proxies:
                proxy.tell(world.now_s)
            for proxy in world.proxies:
                proxy.listen(world.now_s)
            homes = {key: {proxy.homes[key] for proxy in world.proxies} for key in world.latest}
            assert homes == {key: {there} for key, there in world.latest.items()}, f"seed {seed}"


async def test_the_real_store_takes_the_same_steps() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, twin, now_s = Random(seed), NaiveStore(), 0.0
    async with valkey() as server, Redis.from_url(server.url) as client:
        for _ in range(400):
            key, origin = chance.choice(KEYS), f"p{chance.randrange(3)}"
            bound = Bound(origin, f"r{chance.randrange(3)}", chance.randrange(100), ())
            if chance.random() < 0.2:
                found = twin.acquire(key, bound)
                got = await client.eval(ACQUIRE, 1, key, origin, bound_bytes(bound), 60_000)
                if found is None:
                    assert got is None
                else:
                    assert (int(got[0]), bound_from(got[1])) == (found.version, found.bound)
                continue
            # Ages a minute apart, far more than this test takes.
            placed_s = 60.0 * chance.randrange(-1000, 1000)
            there = twin.kept.get(key)
            version, writer = chance.randrange(6), f"p{chance.randrange(3)}"
            if there is not None and chance.random() < 0.3:
                version, writer = there.version, there.writer
            owed = Owed(bound, placed_s, version, writer)
            age_ms = 1000 * (now_s - placed_s)
            asked = (version, writer, origin, bound_bytes(bound), round(age_ms))
            got = await client.eval(COMMIT, 1, key, *asked, 60_000, "ch", b"")
            # Only differences between ages count; the twin's day began long after its zero.
            expected, kept = twin.commit(key, owed, age_ms, 1e12 + 1000 * now_s)
            refused = kept.bound is not bound
            assert int(got[0]) == expected, f"seed {seed}"
            assert (len(got) == 2) == refused
            if refused:
                assert bound_from(got[1]) == kept.bound
