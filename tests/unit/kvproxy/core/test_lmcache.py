"""Answers as LMCache 0.5.6 gave them (its HTTP, captured), and what could go wrong with them."""

import json
from typing import Any

import pytest

from kvproxy.core import lmcache
from kvproxy.core.lmcache import SHARED, Instance, LmcacheError
from kvproxy.core.types import Tier
from tests.support.shared import shared_path

DRAM = {"tier": "l1", "backend": "dram"}
DISK = {"tier": "l2", "backend": "fs"}
BUCKET = {"tier": "l2", "backend": "s3", "shared": True}
ONE = "cc0821a2-4d2c-4da2-8717-8ae45582bca5"


def placed(instance: str, where: dict[str, Any], size: int = 100) -> dict[str, Any]:
    return {"instance_id": instance, "incarnation": 1, "size_bytes": size, "shared": False} | where


def answer(*chunks: list[list[dict[str, Any]]]) -> bytes:
    """Each chunk as its parts (ranks), each part as its placements."""
    results = [
        {"key": {"chunk_hash_hex": f"{number:064x}", "kv_rank": rank}, "placements": part}
        for number, chunk in enumerate(chunks)
        for rank, part in enumerate(chunk)
    ]
    return json.dumps({"chunks": len(chunks), "results": results}).encode()


def holdings(*chunks: list[list[dict[str, Any]]]) -> lmcache.Holdings:
    return lmcache.read_lookup(answer(*chunks), 256).holdings


def test_the_longest_prefix_counts_not_the_chunks_behind_a_gap() -> None:
    both, first = [[placed("a", DRAM), placed("b", DRAM)]], [[placed("a", DRAM)]]
    assert holdings(both, first, both) == {"a": {Tier.DRAM: 768}, "b": {Tier.DRAM: 256}}
    assert holdings([[]], both) == {}
    assert holdings() == {}


def test_each_chunk_counts_where_it_is_read_fastest() -> None:
    found = holdings(
        [[placed("a", DISK), placed("a", DRAM)]], [[placed("a", DISK)]], [[placed("a", DRAM)]]
    )
    assert found == {"a": {Tier.DRAM: 512, Tier.DISK: 256}}


def test_a_chunk_needs_all_its_ranks_and_is_as_slow_as_the_slowest() -> None:
    whole = [[placed("a", DRAM)], [placed("a", DISK), placed("b", DRAM)]]
    assert holdings(whole) == {"a": {Tier.DISK: 256}}
    assert lmcache.read_lookup(answer(whole), 256).chunk_bytes == 200
    assert lmcache.read_lookup(answer([[placed("a", DRAM)], []]), 256).chunk_bytes is None


def test_what_is_shared_serves_everybody_behind_their_own() -> None:
    found = holdings([[placed("a", DRAM), placed("b", BUCKET)]], [[placed("b", BUCKET)]])
    assert found == {"a": {Tier.DRAM: 256, Tier.REMOTE: 256}, SHARED: {Tier.REMOTE: 512}}


@pytest.mark.parametrize(
    ("where", "tier"),
    [
        (DRAM, Tier.DRAM),
        ({"tier": "l1", "backend": "devdax"}, Tier.DISK),
        (DISK, Tier.DISK),
        ({"tier": "l2", "backend": "valkey"}, Tier.REMOTE),
        ({"tier": "l2", "backend": "something new"}, Tier.REMOTE),
    ],
)
def test_tiers(where: dict[str, Any], tier: Tier) -> None:
    assert holdings([[placed("a", where)]]) == {"a": {tier: 256}}


def test_bodies() -> None:
    body = json.loads(lmcache.lookup_body([1, 2, 3], "/models/m", "salt", 2))
    assert body == {
        "token_ids": [1, 2, 3], "model_name": "/models/m", "world_size": 2, "cache_salt": "salt",
    }  # fmt: skip
    assert json.loads(lmcache.controller_body([1, 2])) == {"tokens": [1, 2]}
    long = lmcache.lookup_body(range(lmcache.TOKENS_MAX + 5), "m", "", 1)
    assert len(json.loads(long)["token_ids"]) == lmcache.TOKENS_MAX


def test_the_controller_names_one_holder_each() -> None:
    layout = {
        "a": ["LocalCPUBackend", 512],
        "b": ["RemoteBackend", 256],
        "c": ["LocalDiskBackend", 0],
    }
    data = json.dumps({"event_id": "x", "layout_info": layout}).encode()
    assert lmcache.read_controller(data) == {"a": {Tier.DRAM: 512}, "b": {Tier.REMOTE: 256}}


def test_replicas_of_an_instance() -> None:
    instances = {"a": Instance("a", "10.0.0.1", 1), "b": Instance("b", "10.0.0.2", 1)}
    hosts = {"r1": "10.0.0.1", "r2": "10.0.0.2", "r3": "10.0.0.2"}
    assert lmcache.readers("b", [], instances, hosts) == {"r2", "r3"}
    assert lmcache.readers("b", [("b", "r1"), ("a", "r2")], instances, hosts) == {"r1"}
    assert lmcache.readers("gone", [], instances, hosts) == frozenset()
    assert lmcache.readers(SHARED, [], instances, hosts) == {"r1", "r2", "r3"}


READERS = [
    lambda data: lmcache.read_lookup(data, 256),
    lmcache.read_controller,
    lmcache.read_instances,
    lmcache.read_dram_bytes,
    lmcache.read_config,
]
NONSENSE = [
    b"", b"{", b"\xff", b"{}", b"[]", b"null", b'{"results":[{}]}', b'{"results":[null]}',
    b'{"instances":{}}', b'{"instances":[1]}', b'{"layout_info":{"a":[1,2]}}',
    b'{"layout_info":{"a":["x",-1]}}', b'{"mp":{"chunk_size":0},"storage_manager":{}}',
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_is_an_error_of_its_own(read: Any, data: bytes) -> None:
    with pytest.raises(LmcacheError):
        read(data)


def captured(name: str) -> bytes:
    """The captured file; where it ends with the status in brackets, without that."""
    return (
        shared_path("vllm-samples", "lmcache", name).read_bytes().rstrip().removesuffix(b" [200]")
    )


def test_captured_answers() -> None:
    answer = captured("directory_lookup.json")
    found = lmcache.read_lookup(answer, 256)
    assert (found.holdings, found.chunk_bytes) == ({ONE: {Tier.DRAM: 512}}, 131072)
    assert found.keys is not None
    asked = json.loads(lmcache.keys_body(found.keys))["keys"]
    assert asked == [result["key"] for result in json.loads(answer)["results"]]
    assert lmcache.read_controller(captured("controller_lookup.json")) == {}
    assert lmcache.read_instances(captured("9300_instances.txt")) == [
        Instance(ONE, "127.0.0.1", 9311)
    ]
    assert lmcache.read_dram_bytes(captured("9300_instances_usage.txt")) == {ONE: 268435456}
    assert lmcache.read_config(captured("9311_config.txt")) == lmcache.ServerConfig(256, 268435456)
