"""Ways to choose a replica, behind one interface; `seconds` is kvproxy's own, the rest compare.

A policy only reads. What it chose is reserved by the router in the same synchronous step.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from kvproxy.core.affinity import Home
from kvproxy.core.pick import rendezvous
from kvproxy.core.replica import Replica
from kvproxy.core.score import Match


class PolicyName(StrEnum):
    SECONDS = "seconds"
    STICKY_LEAST_LOADED = "sticky_least_loaded"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    SESSION_HASH = "session_hash"
    LONGEST_PREFIX = "longest_prefix"


class View(Struct, frozen=True):
    """What a policy may look at. `matches` is parallel to `candidates`, which is not empty;
    `cheapest` finds those of the fewest seconds, `sessions` counts who lives on a replica,
    `session_key` is what tells conversations apart, `near` says where the conversation lives that
    began this one."""

    candidates: Sequence[Replica]
    matches: Sequence[Match]
    cheapest: Callable[[], Sequence[int]]
    sessions: Callable[[str], int]
    home: Home | None
    session_key: Callable[[], bytes]
    sequence: int
    seed: int
    near: Callable[[], Home | None] = lambda: None


Policy = Callable[[View], int]


def seconds(view: View) -> int:
    """Fewest seconds. Of equals the one where a parent lives; else they are split by the session,
    so that cold starts spread and repeat."""
    best = view.cheapest()
    if len(best) == 1:
        return best[0]
    near = view.near()
    for index in best if near is not None else ():
        if near is not None and view.candidates[index].id == near.replica:
            return index
    return _split(view, best)


def sticky_least_loaded(view: View) -> int:
    """The session's replica for ever; a new session goes where fewest live."""
    for index, replica in enumerate(view.candidates):
        if view.home is not None and replica.id == view.home.replica:
            return index
    loads = [(view.sessions(replica.id), replica.load.in_flight) for replica in view.candidates]
    least = min(loads)
    return _split(view, [index for index, load in enumerate(loads) if load == least])


def round_robin(view: View) -> int:
    return view.sequence % len(view.candidates)


def random(view: View) -> int:
    """Uniform, from the seed and the request's number, so that a run can be repeated."""
    return xxh3_64_intdigest(view.sequence.to_bytes(8, "big"), view.seed) % len(view.candidates)


def session_hash(view: View) -> int:
    return view.candidates.index(rendezvous(view.session_key(), view.candidates))


def longest_prefix(view: View) -> int:
    """The negative example: a prefix that everybody shares drags everybody to one replica."""
    held = [match.blocks for match in view.matches]
    return held.index(max(held))


def _split(view: View, indexes: Sequence[int]) -> int:
    chosen = rendezvous(view.session_key(), [view.candidates[index] for index in indexes])
    return view.candidates.index(chosen)


POLICIES: dict[PolicyName, Policy] = {
    PolicyName.SECONDS: seconds,
    PolicyName.STICKY_LEAST_LOADED: sticky_least_loaded,
    PolicyName.ROUND_ROBIN: round_robin,
    PolicyName.RANDOM: random,
    PolicyName.SESSION_HASH: session_hash,
    PolicyName.LONGEST_PREFIX: longest_prefix,
}
