"""Deterministic choice among equals: weighted rendezvous hashing.

Every proxy that sees the same session and the same candidates chooses the same one, without talking
to the others, and removing a replica moves only its own sessions.
"""

from collections.abc import Collection, Sequence
from math import log

from xxhash import xxh3_64_intdigest

from kvproxy.core.replica import Replica

_U = 2.0**53


def one_of(key: bytes, names: Collection[str]) -> str:
    """The name that everybody picks for `key` who knows the same names."""
    return max(names, key=lambda name: (xxh3_64_intdigest(name.encode() + b"\0" + key), name))


def rendezvous(key: bytes, candidates: Sequence[Replica]) -> Replica:
    """Highest of -w/ln(u) wins with probability proportional to w; ids break exact ties."""
    assert candidates
    behind = b"\0" + key
    drawn = [xxh3_64_intdigest(replica.id.encode() + behind) for replica in candidates]
    weights = [replica.weight for replica in candidates]
    draws: Sequence[float] = drawn
    if weights.count(weights[0]) != len(weights):
        # 53 bits and a half: u is neither 0 nor 1, so its logarithm can be divided by. It grows
        # with u, so that equal weights need none.
        draws = [
            -weight / log(((bits >> 11) + 0.5) / _U)
            for weight, bits in zip(weights, drawn, strict=True)
        ]
    highest = max(draws)
    if draws.count(highest) == 1:
        return candidates[draws.index(highest)]
    equals = [replica for replica, draw in zip(candidates, draws, strict=True) if draw == highest]
    return max(equals, key=lambda replica: replica.id)
