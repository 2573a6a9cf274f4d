"""Cost of the index of announced blocks: time per block and prompt, bytes per block and replica.
Nothing is asserted by time."""

import random
import time
from array import array
from collections import deque
from typing import Any

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvproxy.core.kv_events import decode_batch
from kvproxy.core.prefix_index import PrefixIndex

BLOCK = 16
EVENT_BLOCKS = 128
REPLICAS = 16
PROMPT_BLOCKS = 100_000 // BLOCK


def stored(rng: random.Random, parent: int | None) -> dict[str, Any]:
    hashes = [rng.getrandbits(64) or 1 for _ in range(EVENT_BLOCKS)]
    tokens = [rng.randrange(150_000) for _ in range(EVENT_BLOCKS * BLOCK)]
    return {
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent,
        "token_ids": tokens, "block_size": BLOCK, "lora_id": None, "medium": "GPU",
        "lora_name": None, "extra_keys": [None] * EVENT_BLOCKS, "group_idx": 0,
        "kv_cache_spec_kind": "full_attention", "session_id": "s",
    }  # fmt: skip


def removed(hashes: list[int]) -> list[dict[str, Any]]:
    """One event a block and the tail first, as vLLM sends them."""
    return [
        {"type": "BlockRemoved", "block_hashes": [key], "medium": "GPU", "group_idx": 0}
        for key in reversed(hashes)
    ]


def stream(events: int, held: int) -> list[bytes]:
    """Batches of an engine whose cache holds `held` such events: each stores what it evicted."""
    rng = random.Random(1)
    batches, chains = [], []
    parent = None
    for number in range(events):
        event = stored(rng, parent)
        parent = event["block_hashes"][-1] if number % 48 else None
        chains.append(event["block_hashes"])
        evicted = removed(chains[number - held]) if number >= held else []
        batches.append(msgspec.msgpack.encode([float(number), [*evicted, event], 0]))
    return batches


def play(index: PrefixIndex, batches: list[bytes], replica: str = "r") -> None:
    for payload in batches:
        for event in decode_batch(payload).events:
            index.apply(replica, 0, event)


def test_decode_and_apply(benchmark: BenchmarkFixture) -> None:
    """A cache that is full: every block that is stored pushes another one out."""
    made = stream(1200, 800)
    warm, batches = made[:900], made[900:]

    def ready() -> tuple[tuple[PrefixIndex, list[bytes]], dict[str, Any]]:
        index = PrefixIndex(2**30)
        play(index, warm)
        return (index, batches), {}

    spent_s = []

    def timed(index: PrefixIndex, batches: list[bytes]) -> None:
        began = time.process_time()
        play(index, batches)
        spent_s.append(time.process_time() - began)

    benchmark.pedantic(timed, setup=ready, rounds=5)
    rate = 2 * EVENT_BLOCKS * len(batches) / min(spent_s)
    print(f"{rate:,.0f} blocks stored or removed per processor second, decoding included")


def test_look_up_100k_tokens_on_16_replicas(benchmark: BenchmarkFixture) -> None:
    """The worst case: every replica holds a different length of it."""
    index, chain = PrefixIndex(2**30), array("Q")
    rng, parent = random.Random(2), None
    for number in range(PROMPT_BLOCKS // EVENT_BLOCKS):
        event = stored(rng, parent)
        parent = event["block_hashes"][-1]
        [read] = decode_batch(msgspec.msgpack.encode([1.0, [event], 0])).events
        for replica in range(REPLICAS):
            if number * REPLICAS < (replica + 1) * (PROMPT_BLOCKS // EVENT_BLOCKS):
                grown = index.apply(f"r{replica}", 0, read)
                if replica == REPLICAS - 1 and grown is not None:
                    chain.extend(grown.hashes)

    def look_up() -> list[int]:
        return [index.look_up(f"r{r}", chain, BLOCK).blocks for r in range(REPLICAS)]

    assert len(set(benchmark(look_up))) == REPLICAS
    print(f"{1e6 * benchmark.stats.stats.median:.0f} µs for {len(chain)} blocks")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bytes_and_bound_while_10m_blocks_stream_through() -> None:
    """More is announced than the limit has room for: what does not fit is refused, and the bytes
    stay below the limit."""
    limit, total, held, count = 32 * 2**20, 10_000_000, 600_000, 1024
    index = PrefixIndex(limit)
    most, pairs = 0, 1
    rng = random.Random(3)
    chains: deque[list[int]] = deque()
    event = stored(rng, None) | {"extra_keys": None}
    tokens = list(range(count * BLOCK))
    for number in range(total // count):
        tokens[0] = number
        chains.append([rng.getrandbits(64) or 1 for _ in range(count)])
        events = [event | {"block_hashes": chains[-1], "token_ids": tokens}]
        if len(chains) * count > held:
            gone = {"type": "BlockRemoved", "block_hashes": chains.popleft(), "medium": "GPU"}
            events.insert(0, gone)
        play(index, [msgspec.msgpack.encode([float(number), events, 0])])
        assert index.budget.used <= limit
        if index.budget.used > most:
            most, pairs = index.budget.used, index.pairs
    [(_, _, source)] = list(index)
    print(
        f"at most {most / 2**20:.1f} MiB of {limit / 2**20:.0f} for {pairs} pairs, "
        f"{most / pairs:.0f} bytes each; {source.counts.refused} of {total} refused"
    )
    assert source.counts.refused
    assert most <= 100 * pairs
