"""What goes into the engine model and what comes out of it; all times are virtual seconds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: `chain` holds the hashes (8 bytes each) of the full blocks of prompt and
    output together; blocks beyond its end are computed but can never be hit."""

    id: str
    chain: bytes
    prompt_tokens: int
    output_tokens: int
    finish_reason: FinishReason = "length"


class Admitted(NamedTuple):
    """Left the waiting queue: `hbm_hit` + `dram_hit` + `computed` = tokens of the prompt.

    A preempted request is admitted again, with what it finds then.
    """

    id: str
    time_s: float
    queue_s: float
    hbm_hit: int
    dram_hit: int
    computed: int


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
    deferred: int  # of the waiting: admitted, but their blocks are still loading from DRAM
    kv_usage: float  # share of blocks held by requests; cached but free blocks do not count
    prefix_queries: int
    prefix_hits: int
    dram_queries: int
    dram_hits: int
    prompt_tokens: int  # of prompts that got their first token; so are the next two
    cached_prompt_tokens: int  # hits in either tier
    loaded_prompt_tokens: int  # hits in the DRAM tier
    generation_tokens: int
    preemptions: int
    evicted_blocks: int
