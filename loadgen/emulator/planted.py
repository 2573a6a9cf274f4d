"""Misconfigurations to emulate: what the people who run real engines get wrong, on purpose."""

from enum import StrEnum
from typing import Final


class Planted(StrEnum):
    """Each is one line of `kvproxy doctor`'s findings."""

    NO_TOKEN_DETAILS = "no-token-details"
    FORGETS = "forgets"
    HASH_SEED = "hash-seed"
    EVENTS_CONNECT = "events-connect"
    EVENTS_UNREACHABLE = "events-unreachable"
    EVENTS_NO_REPLAY = "events-no-replay"
    HASH_ALGORITHM = "hash-algorithm"
    DATED_TEMPLATE = "dated-template"
    CLOCK_SKEW = "clock-skew"
    SHORT_KEEPALIVE = "short-keepalive"
    ASLEEP = "asleep"
    TENSOR_PARALLEL = "tensor-parallel"
    TIER_IDLE = "tier-idle"
    LMCACHE_SEED = "lmcache-seed"
    LMCACHE_SILENT = "lmcache-silent"
    LMCACHE_LOST = "lmcache-lost"
    LMCACHE_CHUNKS = "lmcache-chunks"
    LMCACHE_SAVE_DECODE = "lmcache-save-decode"
    LMCACHE_FORGETS = "lmcache-forgets"


HELP: Final = {
    Planted.NO_TOKEN_DETAILS: "answers do not say how much was cached",
    Planted.FORGETS: "identical prompts are never found",
    Planted.HASH_SEED: "blocks are named by another seed (give it to some replicas only)",
    Planted.EVENTS_CONNECT: "KV events connect to a collector in place of listening",
    Planted.EVENTS_UNREACHABLE: "KV events are told of at a port where nobody listens",
    Planted.EVENTS_NO_REPLAY: "KV events cannot be asked again",
    Planted.HASH_ALGORITHM: "another hash algorithm (give it to some replicas only)",
    Planted.DATED_TEMPLATE: "the chat template prints the date",
    Planted.CLOCK_SKEW: "the clock is two minutes ahead",
    Planted.SHORT_KEEPALIVE: "idle connections are closed after half a second",
    Planted.ASLEEP: "the engine sleeps",
    Planted.TENSOR_PARALLEL: "eight ranks of vLLM 0.19 with a KV connector",
    Planted.TIER_IDLE: "the tier behind HBM was asked a lot and never had anything",
    Planted.LMCACHE_SEED: "LMCache inside the engine does not know what it stored",
    Planted.LMCACHE_SILENT: "LMCache's coordinator refuses every question",
    Planted.LMCACHE_LOST: "an LMCache server's heartbeats stopped",
    Planted.LMCACHE_CHUNKS: "an LMCache server cuts prompts differently",
    Planted.LMCACHE_SAVE_DECODE: "LMCache stores every decoded block",
    Planted.LMCACHE_FORGETS: "LMCache stores nothing",
}

CLOCK_SKEW_S = 120.0
KEEPALIVE_S = 0.5
OLD_VERSION = "0.19.0"
RANKS = 8
# Mixed into the names of blocks, as another PYTHONHASHSEED does.
SEED_MASK = 0x5DEECE66D5DEECE6
ASKED_TOKENS = 1_000_000
assert set(HELP) == set(Planted)
