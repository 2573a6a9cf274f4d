import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.kv_events import Cleared, KvEventError, Removed, Stored, decode_batch
from kvproxy.core.types import Tier

MAP = {
    "type": "BlockStored", "block_hashes": [11, 12], "parent_block_hash": None,
    "token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": None, "medium": "GPU",
    "lora_name": None, "extra_keys": [None, ["salt"]], "group_idx": 0,
    "kv_cache_spec_kind": "full_attention", "session_id": "conv-1",
}  # fmt: skip
ARRAY = ["BlockStored", [11, 12], None, [1, 2, 3, 4], 2, None, "GPU", None, [None, ["salt"]]]
EXPECTED = Stored([11, 12], 0, [1, 2, 3, 4], 2, Tier.HBM, [None, ["salt"]], 0, True, "conv-1")


def decode(*events: object, rank: object = 0) -> list[object]:
    return list(decode_batch(msgspec.msgpack.encode([1.5, events, rank])).events)


def test_maps_and_arrays_mean_the_same() -> None:
    assert decode(MAP) == [EXPECTED]
    assert decode(ARRAY) == [EXPECTED._replace(group=None, session="")]
    removal = [Removed([9], Tier.HBM, None)]
    assert decode({"type": "BlockRemoved", "block_hashes": [9], "medium": "GPU"}) == removal
    assert decode(["BlockRemoved", [9], "GPU"]) == removal
    assert decode({"type": "AllBlocksCleared"}, ["AllBlocksCleared"]) == [Cleared(), Cleared()]


def test_removals_in_a_row_are_one() -> None:
    one = {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"}
    two, other = one | {"block_hashes": [2]}, one | {"medium": "CPU"}
    assert decode(one, two, other, MAP, one) == [
        Removed([1, 2], Tier.HBM, None), Removed([1], Tier.DRAM, None), EXPECTED,
        Removed([1], Tier.HBM, None),
    ]  # fmt: skip


def test_removals_in_a_row_are_one_only_where_they_are_of_one_place() -> None:
    one = {"type": "BlockRemoved", "block_hashes": [1], "medium": "CPU"}
    array = ["BlockRemoved", [2, -1], "CPU"]
    group, far = one | {"group_idx": 1}, one | {"locality": "REMOTE"}
    assert decode(one, array, one | {"block_hashes": [0, 3]}, group, group, far, one) == [
        Removed([1, 2, 2**64 - 1, 1, 3], Tier.DRAM, None),
        Removed([1, 1], Tier.DRAM, 1),
        Removed([1], Tier.REMOTE, None),
        Removed([1], Tier.DRAM, None),
    ]
    with pytest.raises(KvEventError):
        decode(one, one | {"block_hashes": ["x"]})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (2**64 - 1, 2**64 - 1),
        (-1, 2**64 - 1),
        (-(2**63), 2**63),
        (0, 1),
        (bytes(24) + (77).to_bytes(8, "big"), 77),
        (bytes(32), 1),
    ],
)
def test_hashes_become_words_that_are_never_zero(given: object, word: int) -> None:
    [event] = decode(MAP | {"block_hashes": [given], "parent_block_hash": given})
    assert isinstance(event, Stored)
    assert event.hashes == [word]
    assert event.parent == word


@pytest.mark.parametrize(
    ("medium", "tier"),
    [
        (None, Tier.HBM), ("GPU", Tier.HBM), ("gpu", Tier.HBM), ("CPU", Tier.DRAM),
        ("cpu", Tier.DRAM), ("CPU_PINNED", Tier.DRAM), ("cuda:0", Tier.DRAM),
        ("STORAGE", Tier.DISK), ("disk", Tier.DISK), ("EXTERNAL", Tier.REMOTE),
        ("new", Tier.REMOTE),
    ],
)  # fmt: skip
def test_media(medium: str | None, tier: Tier) -> None:
    [event] = decode(MAP | {"medium": medium})
    assert isinstance(event, Stored)
    assert event.tier is tier


def test_what_is_remote_is_no_local_tier() -> None:
    [event] = decode({"type": "BlockRemoved", "block_hashes": [1], "medium": "CPU",
                      "locality": "REMOTE"})  # fmt: skip
    assert event == Removed([1], Tier.REMOTE, None)


def test_pairs_of_tokens_and_other_groups() -> None:
    [event] = decode(MAP | {"token_ids": [[1, 2], [2, 3], [3, 4], [4, 5]],
                            "kv_cache_spec_kind": "sliding_window"})  # fmt: skip
    assert isinstance(event, Stored)
    assert (event.tokens, event.block_size, event.whole_prefix) == (
        [1, 2, 2, 3, 3, 4, 4, 5],
        4,
        False,
    )


def test_what_is_not_known_is_ignored() -> None:
    assert decode(MAP | {"new": 1}, {"type": "New"}, ["New", 1]) == [EXPECTED]
    assert decode_batch(msgspec.msgpack.encode([1, []])).rank == 0
    assert decode_batch(msgspec.msgpack.encode([1, [], None, "new"])).rank == 0


@pytest.mark.parametrize(
    "event",
    [
        1, [], [1], {}, {"type": 1}, {"type": "BlockStored"}, {"type": "BlockRemoved"},
        MAP | {"block_hashes": ["x"]}, MAP | {"block_hashes": [1.5]}, MAP | {"token_ids": "x"},
        MAP | {"block_size": "x"}, MAP | {"medium": 1}, MAP | {"extra_keys": 1},
        MAP | {"parent_block_hash": "x"},
    ],
)  # fmt: skip
def test_malformed_events_are_one_error(event: object) -> None:
    with pytest.raises(KvEventError):
        decode(event)


@given(st.binary(max_size=200))
def test_garbage_is_one_error(payload: bytes) -> None:
    try:
        decode_batch(payload)
    except KvEventError:
        return
    value = msgspec.msgpack.decode(payload)
    assert isinstance(value, list)
    assert isinstance(value[1], list)


@pytest.mark.parametrize("odd", [{"token_ids": [[1, 2], 3]}, {"block_size": 0}, {"block_size": -2}])
def test_blocks_that_cannot_be_are_refused(odd: dict[str, object]) -> None:
    with pytest.raises(KvEventError):
        decode(MAP | odd)
    assert decode(MAP | {"block_size": 0, "token_ids": []}) != [], "told again, by name alone"
