"""Streams captured from a real engine, replayed into the index."""

from pathlib import Path

import pytest

from kvproxy.core.kv_events import Stored, decode_batch
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.types import Tier
from tests.support.event_captures import event_captures, messages
from tests.support.naive_index import NaiveSource
from tests.support.vllm_hashes import chain

pytestmark = pytest.mark.shared
CAPTURES = event_captures()
NO_DATA = pytest.param(None, marks=pytest.mark.skip(reason="no reference data"))


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


@pytest.mark.parametrize(
    ("seed", "salt", "expected"),
    [
        ("0", "", [10362225831949560093, 12472515041799373675]),
        ("vllm-none-hash", "", [1882140585328457242, 15284023028817948126]),
        ("0", "s", [2224236154522063886]),
        ("vllm-none-hash", "s", [3027471258523438235]),
    ],
)
def test_golden_vectors(seed: str, salt: str, expected: list[int]) -> None:
    blocks = [[1, 2, 3, 4], [5, 6, 7, 8]][: len(expected)]
    assert chain(blocks, seed, salt) == expected
