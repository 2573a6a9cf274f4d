"""What replicas that nobody measured yet are taken for: as fast as others of the same model.

What settings presume may be off by orders of magnitude. Beside it, the first replica that is
measured would look far better than all others, or far worse, and get every new conversation or
none.
"""

from collections.abc import Sequence

from kvproxy.core.learn import PrefillRate
from kvproxy.core.replica import Replica


def presume_rates(replicas: Sequence[Replica]) -> None:
    """Call when a rate has news, or when it became known what a replica serves."""
    by_models: dict[tuple[str, ...], list[PrefillRate]] = {}
    for replica in replicas:
        rate = replica.rate
        rate.news = False
        if rate.measured and rate.based:
            continue
        others = by_models.get(replica.models)
        if others is None:
            others = [other.rate for other in replicas if _alike(replica, other)]
            by_models[replica.models] = others
        rate.presume(others)


def _alike(one: Replica, other: Replica) -> bool:
    """Whether one request may go to either."""
    if not one.models or not other.models:
        return True
    return one.models == other.models or any(map(other.serves, one.models))
