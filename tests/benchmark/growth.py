"""How the cost of a decision, of memory and of events grows with the fleet: `make bench-growth`.

Real core, made-up conversations, processor time of this process. Laws are fitted to what was
measured here and say where a bound of one core or the defaults is met first.
"""

import argparse
import gc
import math
import random
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random
from typing import NamedTuple

from kvproxy.core.bindings import Bindings
from kvproxy.core.heard import Heard
from kvproxy.core.kv_digest import Digest, digest_bytes, told_from
from kvproxy.core.kv_events import decode_batch
from kvproxy.core.kv_outlet import Outlet
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.router import Router
from kvproxy.core.second_hand import SecondHand
from kvproxy.core.shared_words import (
    Bound,
    Told,
    bound_bytes,
    marks_of,
    message_from,
    told_head,
)
from kvproxy.core.types import Chain, Identity
from tests.benchmark.test_index_bench import EVENT_BLOCKS, play, stream
from tests.support.makers import make_replica, make_router

# A prompt of 100 blocks of 1 KiB, some 25k tokens, whose first 20 many share.
BLOCKS, SHARED, BLOCK_TEXT = 100, 20, 1024
TURNS = 200
# vLLM at a prefill of 10k tokens a second, all of them new: blocks of 16 stored, as many removed.
BLOCKS_PER_REPLICA_S = 2 * 10_000 / 16


def chain_of(random: Random, head: list[int], blocks: int = BLOCKS) -> Chain:
    chain = Chain()
    for number in range(blocks):
        chain.hashes.append(head[number] if number < SHARED else random.getrandbits(63))
        chain.text_bytes.append((number + 1) * BLOCK_TEXT)
        chain.segment_ends.append(number + 1)
    return chain


def grown(random: Random, chain: Chain) -> Chain:
    """The next turn: ten blocks more."""
    more = chain.until(len(chain))
    for _ in range(10):
        more.hashes.append(random.getrandbits(63))
        more.text_bytes.append(more.text_bytes[-1] + BLOCK_TEXT)
        more.segment_ends.append(len(more.hashes))
    return more


class Fleet:
    """`sessions` conversations live on `replicas`, whose caches just hold them."""

    def __init__(self, replicas: int, sessions: int, seed: int) -> None:
        self.random = Random(seed)
        heads = [[self.random.getrandbits(63) for _ in range(SHARED)] for _ in range(8)]
        gc.collect()
        before = _resident()
        tokens = 2 * (BLOCKS + 20) * BLOCK_TEXT // 4 * math.ceil(sessions / replicas)
        fleet = [make_replica(f"replica-{n}", hbm_tokens=tokens) for n in range(replicas)]
        self.router: Router = make_router(fleet, max_sessions=2 * sessions)
        self.chains: dict[int, Chain] = {}
        self.heads = heads
        kept = min(sessions, TURNS)
        for number in range(sessions):
            chain = chain_of(self.random, heads[number % len(heads)])
            # Placed in turn, for placing 100,000 by cost on 1,024 replicas would take an hour.
            replica = fleet[number % replicas]
            key = self.router.key_of(identity(number))
            end, held = replica.hbm.pin(chain.hashes)
            ends = self.router.ruler.token_ends(chain, held, "m", end.end)
            replica.hbm.release(replica.hbm.extend(end, chain.hashes[held:], ends), float(number))
            self.router.bind(key, replica.id, BLOCKS * BLOCK_TEXT // 4, 0.0)
            if number < kept:
                self.chains[number] = chain
        gc.collect()
        self.bytes = _resident() - before

    def known(self) -> list[float]:
        """Seconds of each decision for the next turn of a conversation that lives somewhere."""
        return [
            self._decision(identity(number), grown(self.random, chain))
            for number, chain in self.chains.items()
        ]

    def new(self) -> list[float]:
        """Of a conversation's first turn."""
        heads = self.heads
        return [
            self._decision(identity(10**9 + number), chain_of(self.random, heads[number % 8]))
            for number in range(TURNS)
        ]

    def _decision(self, who: Identity, chain: Chain) -> float:
        began = time.process_time()
        placement = self.router.place(who, chain, 100.0)
        took_s = time.process_time() - began
        self.router.finish(placement, None, 100.0)
        return took_s


class Point(NamedTuple):
    """Medians of processor time, and resident memory of router and replicas."""

    known_us: float
    new_us: float
    bytes: int


def measured(replicas: int, sessions: int, seed: int) -> Point:
    fleet = Fleet(replicas, sessions, seed)
    return Point(median_us(fleet.known()), median_us(fleet.new()), fleet.bytes)


def apart(replicas: int, sessions: int, seed: int) -> Point:
    """In a process of its own, whose memory nobody used before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, replicas, sessions, seed).result()


def identity(number: int) -> Identity:
    return Identity("tenant", "m", f"session-{number}")


def _resident() -> int:
    """Bytes of this process now; what was freed may still be counted."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def median_us(seconds: list[float]) -> float:
    return 1e6 * sorted(seconds)[len(seconds) // 2]


def blocks_per_cpu_s() -> float:
    """Announced blocks that one core decodes and applies."""
    batches = stream(600, 300)
    index = PrefixIndex(2**30)
    play(index, batches[:350])
    began = time.process_time()
    play(index, batches[350:])
    return 2 * EVENT_BLOCKS * 250 / (time.process_time() - began)


def decoded_per_cpu_s() -> float:
    """The part of it that sharing an index would not save."""
    batches = stream(200, 100)
    began = time.process_time()
    for payload in batches:
        decode_batch(payload)
    return 2 * EVENT_BLOCKS * 150 / (time.process_time() - began)


class Shared(NamedTuple):
    """Of listening for others too: processor seconds to tell, and for another proxy to hear, of a
    block stored or removed, and bytes through the store."""

    tell_s: float
    hear_s: float
    bytes: float


def shared_events() -> Shared:
    """Digests as often as 20 times a second where a replica prefills 10k tokens/s."""
    batches = stream(600, 300)
    first, second = make_router(1).holdings, make_router(1).holdings
    outlet, heard = Outlet("first", ("r", 0), first), SecondHand(second)
    tell_s = hear_s = told_bytes = blocks = 0.0
    for number, payload in enumerate(batches):
        for event in decode_batch(payload).events:
            first.apply("r", 0, event)
        began = time.process_time()
        digest = outlet.take(10**6, float(number))
        assert digest is not None
        data = digest_bytes(digest)
        told = time.process_time()
        read = told_from(data)
        assert isinstance(read, Digest)
        heard.hear(read)
        if number >= 350:
            tell_s += told - began
            hear_s += time.process_time() - told
            told_bytes += len(data)
            blocks += 2 * EVENT_BLOCKS
    return Shared(tell_s / blocks, hear_s / blocks, told_bytes / blocks)


def report_shards(show: Callable[[str], None], listen_s: float) -> None:
    """What proxies save that listen to a share each and tell the others (events.shard_across_…)."""
    shared = shared_events()
    show(
        f"shards: telling takes {1e6 * shared.tell_s:.2f} us a block and hearing of it "
        f"{1e6 * shared.hear_s:.2f}, listening {1e6 * listen_s:.2f}; "
        f"{shared.bytes * BLOCKS_PER_REPLICA_S / 1000:.0f} kB/s a replica through the store, "
        "once in and once out for each proxy"
    )
    for proxies in (2, 4, 8, 16):
        own = (listen_s + shared.tell_s) / proxies
        all_s = (own + shared.hear_s * (proxies - 1) / proxies) * BLOCKS_PER_REPLICA_S
        alone_s = listen_s * BLOCKS_PER_REPLICA_S
        show(
            f"  {proxies:2} proxies: {100 * all_s:.2f} % of a core each for a replica, "
            f"{alone_s / all_s:.1f} times less; {0.1 / alone_s:,.0f} replicas take a tenth of a "
            f"core without shards, {0.1 / all_s:,.0f} with them; a whole one at {1 / all_s:,.0f}"
        )


def words_per_cpu_s() -> float:
    """Bindings of other proxies that one core hears."""
    random_ = Random(1)
    chain = chain_of(random_, [1] * SHARED)
    bindings, heard, router = Bindings("me", 10_000, 1e9), Heard(80_000), make_router(8)
    words = []
    for number in range(3000):
        bound = Bound("other-proxy-0123456789ab", f"r{number % 8}", 25_000, marks_of(chain))
        key = number.to_bytes(16, "big")
        words.append(told_head(key) + b"7 " + bound_bytes(bound))
    began = time.process_time()
    for word in words:
        told = message_from(word)
        assert isinstance(told, Told)
        if bindings.told(told.key, told.version, told.bound, 1.0):
            router.bind(told.key, told.bound.replica, told.bound.tokens, 1.0)
            heard.tell(told.bound.replica, told.bound.marks, 1.0)
    return len(words) / (time.process_time() - began)


def law(points: dict[int, float]) -> tuple[float, float]:
    """(fixed, per replica) by the outermost points."""
    few, many = min(points), max(points)
    slope = (points[many] - points[few]) / (many - few) if many > few else 0.0
    return points[few] - slope * few, slope


def replicas_at(budget_us: float, fixed: float, slope: float) -> str:
    return f"{(budget_us - fixed) / slope:,.0f}" if slope > 0 else "any number"


def report_events(show: Callable[[str], None]) -> float:
    blocks, decoded = blocks_per_cpu_s(), decoded_per_cpu_s()
    share = BLOCKS_PER_REPLICA_S / blocks
    show(
        f"events: {blocks:,.0f} blocks a CPU second, {100 * blocks / decoded:.0f} % decoding; "
        f"a replica that prefills 10k tokens/s takes {100 * share:.2f} % of a core of every proxy, "
        f"{1 / share:,.0f} of them a whole one"
    )
    words = words_per_cpu_s()
    show(f"peers: {words:,.0f} bindings a CPU second heard; 1 % of a core at {words / 100:,.0f} "
         "turns/s of the whole fleet")  # fmt: skip
    report_shards(show, 1 / blocks)
    return 1 / share


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmark.growth", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--sessions", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    random.seed(asked.seed)
    known: dict[int, float] = {}
    new: dict[int, float] = {}
    for sessions in asked.sessions:
        for replicas in asked.replicas:
            point = apart(replicas, sessions, asked.seed)
            known[replicas], new[replicas] = point.known_us, point.new_us
            print(f"{replicas:5} replicas, {sessions:7,} conversations: decision "
                  f"{known[replicas]:7.0f} us known, {new[replicas]:7.0f} us new; "
                  f"{point.bytes / sessions / 1000:.1f} kB a conversation, "
                  f"{point.bytes / 1e6:.0f} MB in all", flush=True)  # fmt: skip
    for name, points in (("known", known), ("new", new)):
        fixed, slope = law(points)
        print(f"{name}: {fixed:.0f} us + {slope:.2f} us a replica; 1 ms at "
              f"{replicas_at(1000, fixed, slope)} replicas")  # fmt: skip
    full = report_events(print)
    fixed, slope = law(known)
    at = (1000 - fixed) / slope if slope > 0 else math.inf
    first = "decisions above 1 ms" if at < full else "events that fill a core"
    print(f"first to break: {first}, at {min(at, full):,.0f} replicas; conversations beyond "
          "identify.max_sessions (100k) are forgotten, the longest unused first")  # fmt: skip


if __name__ == "__main__":
    main()
