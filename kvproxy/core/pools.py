"""Names that clients send, and the models that replicas know them by.

A name stands for one model or is split between several by weight. Which one a conversation gets is
drawn from what tells it apart, so that every turn and every proxy draws alike, and another weight
moves no more conversations than it has to.
"""

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from kvproxy.core.eligible import usable
from kvproxy.core.errors import ProxyError
from kvproxy.core.policies import PolicyName
from kvproxy.core.replica import Replica

_U = 2.0**53


class Arm(NamedTuple):
    """A model and its share, relative to those beside it; at 0 it stands in when no other can."""

    model: str
    weight: float = 1.0


class Pools:
    """`there` lists the replicas of now. A name that stands for nothing else is its own model."""

    def __init__(self, there: Callable[[], Sequence[Replica]] = lambda: ()) -> None:
        self._there = there
        self.names: Mapping[str, Sequence[Arm]] = {}
        self.policies: Mapping[str, PolicyName] = {}

    def replace(
        self, names: Mapping[str, Sequence[Arm]], policies: Mapping[str, PolicyName]
    ) -> None:
        """Other names from the next request on; `policies` by model."""
        self.names, self.policies = names, policies

    def splits(self, name: str) -> bool:
        """Whether it takes a conversation to tell what `name` stands for."""
        return len(self.names.get(name, ())) > 1

    def takes(self, model: str) -> bool:
        """Whether a replica that serves `model` takes work."""
        return any(replica.up and replica.serves(model) for replica in self._there())

    def serve(self, name: str, key: Callable[[], bytes] = lambda: b"") -> str:
        """The model for a request that names `name`; `key` tells its conversation apart.

        Models without a replica that takes work are passed over as long as another has one. Raises
        ProxyError model_not_found or no_replica, in the client's own word for the model.
        """
        arms = self.names.get(name)
        if arms is None:
            return name
        able = [arm for arm in arms if self.takes(arm.model)]
        if not able:
            # Those that look ill are tried where all do, as for a model's own name.
            able = [arm for arm in arms if usable(self._there(), arm.model, frozenset())]
        drawn = [arm for arm in able if arm.weight > 0] or able
        if len(drawn) == 1:
            return drawn[0].model
        if drawn:
            return draw(key(), drawn)
        replicas = self._there()
        if replicas and not any(r.serves(arm.model) for arm in arms for r in replicas):
            missing = f"The model `{name}` does not exist."
            raise ProxyError("model_not_found", missing, param="model")
        ready = f"no replica that serves `{name}` is ready; see /readyz"
        raise ProxyError("no_replica", ready, retry_after_s=1.0)

    def models(self, name: str) -> list[str]:
        """All that `name` may stand for."""
        return [arm.model for arm in self.names.get(name, (Arm(name),))]


def draw(key: bytes, arms: Sequence[Arm]) -> str:
    """Weighted rendezvous: -w/ln(u) is highest with probability proportional to w."""
    assert arms
    behind = b"\0" + key

    def drawn(arm: Arm) -> tuple[float, str]:
        u = ((xxh3_64_intdigest(arm.model.encode() + behind) >> 11) + 0.5) / _U
        return (-arm.weight / log(u), arm.model)

    return max(map(drawn, arms))[1]
