"""Deterministic choice among equals: weighted rendezvous hashing.

Every proxy that sees the same session and the same candidates chooses the same one, without talking
to the others, and removing a replica moves only its own sessions.
"""

from collections.abc import Sequence
from math import log

from xxhash import xxh3_64_intdigest

from kvproxy.core.replica import Replica


def rendezvous(key: bytes, candidates: Sequence[Replica]) -> Replica:
    assert candidates
    return max(candidates, key=lambda replica: _draw(key, replica))


def _draw(key: bytes, replica: Replica) -> tuple[float, str]:
    """Highest of -w/ln(u) wins with probability proportional to w; ids break exact ties."""
    bits = xxh3_64_intdigest(replica.id.encode() + b"\0" + key)
    uniform = (bits + 1) / 2**64
    draw = float("inf") if uniform >= 1.0 else -replica.weight / log(uniform)
    return draw, replica.id
