"""Streams captured from a real engine, replayed into the index."""

from array import array
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from kvproxy.core.event_source import root
from kvproxy.core.kv_events import Stored, decode_batch
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.types import Tier
from tests.support.event_captures import event_captures, messages
from tests.support.naive_index import NaiveSource, stored
from tests.support.vllm_hashes import chain

CAPTURES = event_captures()
NO_DATA = pytest.param(None, marks=pytest.mark.skip(reason="no reference data"))


@pytest.mark.shared
@pytest.mark.parametrize("path", CAPTURES or [NO_DATA], ids=lambda path: path.stem if path else "")
def test_the_index_equals_a_naive_recomputation(path: Path) -> None:
    index, naive, blocks = PrefixIndex(2**30), NaiveSource(), 0
    for *_, payload in messages(path):
        if not payload:
            continue
        for event in decode_batch(payload).events:
            index.apply("r", 0, event)
            naive.apply(event)
            blocks += len(event.hashes) if isinstance(event, Stored) else 0
    source = index.source("r", 0)
    assert (source is not None) == bool(blocks)
    names: dict[int, bytes] = {}
    for tier in Tier:
        held = source.tiers[tier].contents() if source and tier in source.tiers else {}
        assert {engine: copies for engine, (_, copies) in held.items()} == naive.held(tier)
        for engine, (ours, _) in held.items():
            assert names.setdefault(ours, naive.names[engine]) == naive.names[engine]
    assert len(set(names.values())) == len(names)
    print(f"{path.stem}: {blocks} blocks stored, {index.pairs} held")


@pytest.mark.shared
def test_the_hashes_of_a_capture_are_those_of_the_recipe() -> None:
    path = next((path for path in CAPTURES if path.stem == "http_run"), None)
    if path is None:
        pytest.skip("no reference data")
    known: dict[int, tuple[str, list[list[int]]]] = {0: ("", [])}
    checked = 0
    for *_, payload in messages(path):
        for event in decode_batch(payload).events:
            if not isinstance(event, Stored):
                continue
            salt, blocks = known[event.parent]
            if event.extra_keys:
                salt = str(event.extra_keys[0][0])
            for at, engine in enumerate(event.hashes):
                size = event.block_size
                blocks = [*blocks, list(event.tokens[at * size : (at + 1) * size])]
                known[engine] = salt, blocks
                assert chain(blocks, "0", salt)[-1] == engine
                checked += 1
    assert checked > 150


GOLDEN = [
    ("sha256_cbor", "0", [2164874634404590027, 17270480062156288726], 1010128506746956049,
     11662617759969624837),
    ("sha256_cbor", "vllm-none-hash", [9561501211280363793, 15292913576410714033],
     10842723440378006786, 2371541872390613964),
    ("sha256", "0", [10362225831949560093, 12472515041799373675], 2224236154522063886,
     12424584146079932765),
    ("sha256", "vllm-none-hash", [1882140585328457242, 15284023028817948126], 3027471258523438235,
     14424870916857925601),
    ("xxhash_cbor", "0", [1560721706249274670, 16652244415917022755], 14365037857267251697,
     678351456289135728),
    ("xxhash_cbor", "vllm-none-hash", [15832582268029990071, 6053360263242172844],
     15836871938713444621, 6083626997080071535),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "seed", "plain", "salted", "untagged"), GOLDEN)
def test_golden_vectors(
    algorithm: str, seed: str, plain: list[int], salted: int, untagged: int
) -> None:
    """Two blocks; the first with a salt; the same up to vLLM 0.30. Whatever the algorithm, the
    index names the blocks alike."""
    blocks = [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert chain(blocks, seed, algorithm=algorithm) == plain
    assert chain(blocks[:1], seed, "s", algorithm=algorithm) == [salted]
    assert chain(blocks[:1], seed, "s", algorithm=algorithm, tagged=False) == [untagged]
    index = PrefixIndex(2**20)
    event = stored(plain, tokens=[1, 2, 3, 4, 5, 6, 7, 8], session="s")
    grown = index.apply("r", 0, event)
    assert grown is not None
    assert list(grown.hashes) == NAMES


# Of those two blocks: our own, the same whatever an engine calls them.
_first = xxh3_64_intdigest(array("I", [1, 2, 3, 4]).tobytes(), root(4))
NAMES = [_first, xxh3_64_intdigest(array("I", [5, 6, 7, 8]).tobytes(), _first)]
