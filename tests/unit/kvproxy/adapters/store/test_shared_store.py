"""Parts that need no server; tests/integration/test_shared_store.py has the rest."""

import asyncio
import time

import pytest

from kvproxy.adapters.store import shared_store as module
from kvproxy.adapters.store.link import Address
from kvproxy.adapters.store.shared_store import SharedStore, StoreLimits
from kvproxy.core.representatives import Representatives
from kvproxy.core.shared_words import Bound, Loads, Mark, ReplicaLoad, Told, session_key
from kvproxy.core.types import Identity
from tests.support.makers import make_router, numbered_chain
from tests.support.proxies import eventually

LIMITS = StoreLimits("n", 0.01, 60.0, 100, 100, 100)
ME = Identity("t", "", "session")


def alone() -> SharedStore:
    """Its server is not there."""
    router = make_router(4)
    router.key_of = lambda identity: session_key(identity, "n")
    address = Address("redis://127.0.0.1:1")
    took: list[float] = []
    kept = Representatives(1000)
    return SharedStore("me", address, LIMITS, router=router, representatives=kept, took=took.append)


async def test_what_was_told_places_the_next_turn_there_without_a_question() -> None:
    store, chain = alone(), numbered_chain(60)
    router = store._router
    bound = Bound("other", "r2", 100, (Mark(60, chain.hashes[59]),))
    store._told(Told(session_key(ME, "n"), 1, bound))
    await store.recall(ME, numbered_chain(80))
    lookup = router.look_up(ME, numbered_chain(80), 1e9)
    assert store.questions == {"known": 1}
    assert [match.blocks for match in lookup.matches] == [0, 0, 60, 0]


async def test_what_was_told_of_a_replica_goes_with_its_cache() -> None:
    store, chain = alone(), numbered_chain(60)
    router, now = store._router, time.monotonic()
    for replica in router.replicas:
        replica.began(1000.0, now - 9.0)
    marks = (Mark(60, chain.hashes[59]),)
    for name, process in (("r0", 0.0), ("r1", 1000.0), ("r2", 1000.0), ("r3", 2000.0)):
        store.heard.tell(name, marks, now, process)
    for replica in (router.replicas[0], router.replicas[2], router.replicas[3]):
        assert replica.began(2000.0, now + 1.0)
    await store.recall(ME, numbered_chain(80))
    lookup = router.look_up(ME, numbered_chain(80), 1e9)
    # r3's peer had seen the new process before this proxy did.
    assert [match.blocks for match in lookup.matches] == [0, 60, 0, 60]


async def test_a_home_that_is_known_is_not_guessed_again_without_a_server() -> None:
    store, chain = alone(), numbered_chain(5)
    store._told(Told(session_key(ME, "n"), 1, Bound("other", "r2", 100, ())))
    store.bindings.deaf()
    await store.recall(ME, chain)
    assert store.questions == {"skipped": 1}
    home = store._router.affinity.home(session_key(ME, "n"), time.monotonic())
    assert home is not None
    assert home.replica == "r2"


async def test_without_a_server_the_home_is_presumed_and_what_was_placed_waits() -> None:
    store, chain = alone(), numbered_chain(5)
    await store.recall(ME, chain)
    assert store.questions == {"skipped": 1}
    placement = store._router.place(ME, chain, 0.0)
    store.placed(placement)
    assert store.writer.waiting == 2
    assert store.bindings.knows(session_key(ME, "n"), 1.0)


async def test_of_what_nobody_can_take_nothing_is_asked() -> None:
    store = alone()
    store.link.up = True
    for replica in store._router.replicas:
        replica.models = ("other",)
    await store.recall(Identity("t", "m", "session"), numbered_chain(5))
    assert store.questions == {"skipped": 1}


async def test_nothing_is_shared_of_turns_without_a_session() -> None:
    store, chain = alone(), numbered_chain(5)
    await store.recall(Identity("t", "", ""), chain)
    store.placed(store._router.place(Identity("t", "", ""), chain, 0.0))
    assert (store.questions, store.writer.waiting) == ({}, 0)


async def test_own_loads_are_not_counted_twice() -> None:
    store = alone()
    store._told(Loads("me", (ReplicaLoad("r0", 1, 1, 1.0),)))
    assert store._router.replicas[0].load.foreign_waiting == 0
    store._told(Loads("other", (ReplicaLoad("r0", 1, 1, 1.0),)))
    assert store._router.replicas[0].load.foreign_waiting == 1


async def test_what_peers_had_under_way_is_forgotten_without_a_server_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    store = alone()
    load = store._router.replicas[0].load
    store._told(Loads("peer", (ReplicaLoad("r0", 3, 2, 4.0),)))
    assert (load.decoding, load.queue_s(0.0)) == (3, 4.0)
    await store.start()
    try:
        await eventually(lambda: (load.decoding, load.queue_s(0.0)) == (0, 0.0))
    finally:
        await store.close()


async def test_a_store_that_comes_back_is_told_again_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    store, keys = alone(), [bytes([n]) * 16 for n in range(9)]
    for key in keys:
        store.bindings.placed(key, Bound("me", "r0", 100, ()), 1.0)
    task = asyncio.create_task(store._retelling())
    store._link_changed(True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert 0 < store.writer.waiting < len(keys)
    store.writer.put_binding(keys[8], store.bindings.placed(keys[8], Bound("me", "r1", 1, ()), 2.0))
    await eventually(lambda: store.writer.waiting == len(keys))
    told = dict(store.writer._bound.take(len(keys)))
    assert told[keys[8]].bound.replica == "r1", "what was placed meanwhile is newer"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
