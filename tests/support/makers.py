"""Small values that tests of the core keep building."""

import os
from collections.abc import Sequence

from kvproxy.core.affinity import Affinity
from kvproxy.core.blocks import extend
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import Health, LifeCycle
from kvproxy.core.policies import PolicyName
from kvproxy.core.replica import Replica
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Weights
from kvproxy.core.segments import Segment
from kvproxy.core.turn import TurnReader
from kvproxy.core.types import Chain
from kvproxy.core.volatile import Rule, Volatile

BLOCK_BYTES = 64


def make_replica(
    name: str = "r0",
    *,
    url: str = "",
    hbm_tokens: int = 100_000,
    tok_s: float = 10_000.0,
    health: Health = Health.READY,
    models: tuple[str, ...] = (),
    weight: float = 1.0,
) -> Replica:
    return Replica(
        id=name,
        url=url or f"http://{name}",
        hbm_tokens=hbm_tokens,
        rate=PrefillRate(tok_s, 0.0),
        life=LifeCycle(health=health),
        models=models,
        weight=weight,
    )


def make_router(
    replicas: int | Sequence[Replica] = 2,
    policy: PolicyName = PolicyName.SECONDS,
    *,
    seed: int = 0,
    max_sessions: int = 1000,
    idle_s: float = 3600.0,
    weights: Weights | None = None,
) -> Router:
    if isinstance(replicas, int):
        replicas = [make_replica(f"r{index}") for index in range(replicas)]
    return Router(
        replicas,
        policy,
        affinity=Affinity(max_sessions, idle_s),
        ruler=Ruler(1000),
        weights=weights or Weights(),
        seed=seed,
    )


def make_chain(*texts: bytes | str, root: int = 0, block_bytes: int = BLOCK_BYTES) -> Chain:
    """A chain with one segment a text and nothing but the text in it."""
    chain = Chain(root)
    data = [text.encode() if isinstance(text, str) else text for text in texts]
    extend(chain, [Segment(text, 0, len(text)) for text in data], block_bytes)
    return chain


def make_reader(
    order: Order = Order.FIRST_SEEN,
    *,
    representatives: Representatives | None = None,
    block_bytes: int = BLOCK_BYTES,
    max_points: int = 1000,
    rules: Sequence[Rule] = (),
) -> TurnReader:
    if representatives is None:
        representatives = Representatives(2**20)
    canon = Canonicaliser(order, representatives, Volatile(rules))
    return TurnReader(canon, block_bytes, max_points)


def numbered_chain(blocks: int) -> Chain:
    """One block a segment; shorter ones are beginnings of longer ones."""
    return make_chain(*(f"text {number}" for number in range(blocks)))


def make_random_chain(blocks: int, messages: int) -> Chain:
    """Like nothing else, of so many whole blocks in so many messages."""
    chain = Chain()
    for _ in range(messages):
        data = os.urandom(BLOCK_BYTES * blocks // messages)
        extend(chain, [Segment(data, 0, len(data))], BLOCK_BYTES)
    chain.trim()
    return chain
