"""Cost of the index of announced blocks: time per block and prompt, bytes per block and replica.
Nothing is asserted by time; on a busy machine ratios to what Python itself takes tell."""

import random
import time
from array import array
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvproxy.core.kv_events import decode_batch
from kvproxy.core.prefix_index import PrefixIndex

BLOCK = 16
EVENT_BLOCKS = 128
REPLICAS = 16
# 100k tokens in whole events, and the 256k tokens that a replica holds beside them.
PROMPT_EVENTS = 100_000 // (BLOCK * EVENT_BLOCKS) + 1
OTHER_EVENTS = 125


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


def a_thousand_dict_gets() -> int:
    """What Python itself takes on this machine as busy as it is."""
    found = dict.fromkeys(range(0, 2_000, 2), 1)
    return sum(found.get(key, 0) for key in range(1_000))


@pytest.mark.timeout(900)
def test_decode_and_apply(benchmark: BenchmarkFixture) -> None:
    """A cache that is full: every block that is stored pushes another one out."""
    made = stream(1200, 800)
    warm, batches = made[:900], made[900:]

    def ready() -> tuple[tuple[PrefixIndex, list[bytes]], dict[str, Any]]:
        index = PrefixIndex(2**30)
        play(index, warm)
        return (index, batches), {}

    spent_s, measures = [], []

    def timed(index: PrefixIndex, batches: list[bytes]) -> None:
        began = time.process_time()
        play(index, batches)
        between = time.process_time()
        spent_s.append(between - began)
        for _ in range(1_000):
            a_thousand_dict_gets()
        measures.append((time.process_time() - between) / 1_000)

    benchmark.pedantic(timed, setup=ready, rounds=5)
    blocks = 2 * EVENT_BLOCKS * len(batches)
    measured = median(spent / measure for spent, measure in zip(spent_s, measures, strict=True))
    print(
        f"{blocks / min(spent_s):,.0f} blocks stored or removed per processor second, decoding "
        f"included; {blocks / measured:.1f} in the time of a thousand dict.get"
    )


# How many of the prompt's events each replica has heard of.
EACH_ANOTHER_LENGTH = [
    1 + number * (PROMPT_EVENTS - 1) // (REPLICAS - 1) for number in range(REPLICAS)
]
ONE_HOLDS_IT = [PROMPT_EVENTS if number == 5 else 8 for number in range(REPLICAS)]


def indexed(held: Sequence[int]) -> tuple[PrefixIndex, "array[int]"]:
    """A prompt of which every replica holds so many events, beside others; and its chain."""
    index, chain = PrefixIndex(2**30), array("Q")
    others = stream(OTHER_EVENTS, OTHER_EVENTS)
    for replica in range(REPLICAS):
        play(index, others, f"r{replica}")
    rng, parent = random.Random(2), None
    for number in range(PROMPT_EVENTS):
        event = stored(rng, parent)
        parent = event["block_hashes"][-1]
        [read] = decode_batch(msgspec.msgpack.encode([1.0, [event], 0])).events
        told = [index.apply(f"r{r}", 0, read) for r in range(REPLICAS) if number < held[r]]
        assert told[0] is not None
        chain.extend(told[0].hashes)
    return index, chain


@pytest.mark.timeout(900)
@pytest.mark.parametrize("held", [EACH_ANOTHER_LENGTH, ONE_HOLDS_IT], ids=["worst", "usual"])
def test_look_up_100k_tokens_on_16_replicas(benchmark: BenchmarkFixture, held: list[int]) -> None:
    """Worst is when every replica holds a different length of it; mostly one has it all, and others
    only the opening that many prompts share."""
    index, chain = indexed(held)

    def look_up() -> list[int]:
        """As core/holdings does."""
        near, found = len(chain), []
        for replica in range(REPLICAS):
            blocks = index.look_up(f"r{replica}", chain, BLOCK, near).hbm
            if blocks < len(chain):
                near = blocks
            found.append(blocks)
        return found

    assert benchmark(look_up) == [EVENT_BLOCKS * events for events in held]
    ratios = []
    for _ in range(300):
        began = time.perf_counter()
        look_up()
        between = time.perf_counter()
        a_thousand_dict_gets()
        ratios.append((between - began) / (time.perf_counter() - between))
    spent = benchmark.stats.stats
    print(
        f"{1e6 * spent.median:.0f} µs (least {1e6 * spent.min:.0f}) for {len(chain)} blocks, "
        f"{median(ratios):.2f} times a thousand dict.get"
    )


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
