"""What goes into the engine model and what comes out of it; all times are virtual seconds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: `chain` holds the hashes (8 bytes each) of the full blocks of prompt and
    output together; blocks beyond its end are computed but can never be hit. `remote_tokens` of
    the prompt are held by a peer and are loaded from there; `keeps` leaves its blocks in place
    after its end, for a peer to load, until the engine is told to let go of them."""

    id: str
    chain: bytes
    prompt_tokens: int
    output_tokens: int
    finish_reason: FinishReason = "length"
    remote_tokens: int = 0
    keeps: bool = False


class Admitted(NamedTuple):
    """Left the waiting queue: tokens of the prompt are `hbm_hit` + `dram_hit` + `remote_hit` +
    `computed`.

    A preempted request is admitted again, with what it finds then.
    """

    id: str
    time_s: float
    queue_s: float
    hbm_hit: int
    dram_hit: int
    computed: int
    remote_hit: int = 0


class FirstToken(NamedTuple):
    id: str
    time_s: float


class Tokens(NamedTuple):
    """`tokens` more tokens, the last of them at `time_s`; the first token is not among them."""

    id: str
    time_s: float
    tokens: int


class Finished(NamedTuple):
    id: str
    time_s: float
    reason: FinishReason


Emission = Admitted | FirstToken | Tokens | Finished


class Gauges(NamedTuple):
    """State of one engine. Token counters only grow; a request counts once in each, however
    often it is preempted."""

    running: int
    waiting: int
    deferred: int  # of the waiting: admitted, but their blocks are still being loaded
    kv_usage: float  # share of blocks held by requests; cached but free blocks do not count
    prefix_queries: int
    prefix_hits: int
    dram_queries: int
    dram_hits: int
    prompt_tokens: int  # of prompts that got their first token; so are the next two
    cached_prompt_tokens: int  # hits in either tier, and what peers held
    loaded_prompt_tokens: int  # hits in the DRAM tier, and what peers held
    generation_tokens: int
    preemptions: int
    evicted_blocks: int
