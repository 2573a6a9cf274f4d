"""How many tokens of KV fit HBM and DRAM, and which of the two a working set needs."""

from typing import NamedTuple

from kvproxy.core.model_kv import KvShape


class Memory(NamedTuple):
    """Bytes of one replica. `hbm` is all of it, of which `weights` and, of the whole, what
    `utilization` leaves to others are no KV; `dram` is what a tier behind it may take."""

    hbm: int
    dram: int = 0
    weights: int = 0
    utilization: float = 0.92


class Sizing(NamedTuple):
    """Of one replica, in tokens; `fixed_bytes`: of each conversation, however long it is."""

    token_bytes: float
    fixed_bytes: float
    hbm_tokens: int
    dram_tokens: int


class Need(NamedTuple):
    """What `conversations` of `context` tokens take on `replicas` replicas."""

    tokens: int
    hbm_tokens: int
    dram_tokens: int
    advice: str


def size(shape: KvShape, memory: Memory, kv_dtype: str | None, ranks: int) -> Sizing:
    per_token = shape.token_bytes(kv_dtype, ranks)
    room = max(0.0, memory.hbm * memory.utilization - memory.weights)
    if not per_token:
        # Windows alone, or states alone: what is kept does not grow with the context.
        return Sizing(0.0, shape.fixed_bytes(kv_dtype, ranks), 0, 0)
    return Sizing(
        per_token,
        shape.fixed_bytes(kv_dtype, ranks),
        int(room / per_token),
        int(memory.dram / per_token),
    )


def need(sizing: Sizing, conversations: int, context: int, replicas: int) -> Need:
    """Compares the conversations that are alive with both tiers of the pool."""
    tokens = conversations * context
    hbm, dram = sizing.hbm_tokens * replicas, sizing.dram_tokens * replicas
    if tokens <= hbm // 2:
        advice = "HBM holds them with room to spare: prefix caching alone; a DRAM tier only costs."
    elif tokens <= hbm:
        advice = (
            "HBM holds them, barely: running requests need room too. Prefix caching alone, and "
            "watch kvproxy_replica_hbm_evicted_tokens; a DRAM tier as soon as it moves."
        )
    elif tokens <= dram:
        advice = "They do not fit HBM and fit DRAM: LMCache pays (HBM + DRAM)."
    else:
        short = tokens - max(hbm, dram)
        more = -(-tokens // max(1, sizing.hbm_tokens))
        advice = (
            f"They fit neither: {short:,} tokens too many. A larger DRAM tier, or {more} replicas "
            "for HBM alone; else kvproxy holds new conversations back."
        )
    return Need(tokens, hbm, dram, advice)
