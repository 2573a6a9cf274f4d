"""What replicas that nobody measured yet are taken for: as fast as others of the same model.

What settings presume may be off by orders of magnitude. Beside it, the first replica that is
measured would look far better than all others, or far worse, and get every new conversation or
none.
"""

from collections.abc import Sequence
from typing import TypeVar

from kvproxy.core.learn import PrefillRate
from kvproxy.core.replica import Replica

Law = tuple[float, float, float]
T = TypeVar("T", Law, float)


def presume_rates(replicas: Sequence[Replica]) -> None:
    """Call when a rate had news, or when it became known what a replica serves."""
    unmeasured = [r for r in replicas if not (r.rate.measured and r.rate.based)]
    by_models: dict[tuple[str, ...], tuple[Law | None, float | None]] = {}
    for replica in unmeasured:
        models = replica.models
        if models not in by_models:
            by_models[models] = _measured([r.rate for r in replicas if _alike(models, r)])
        replica.rate.presume(*by_models[models])


def _measured(rates: Sequence[PrefillRate]) -> tuple[Law | None, float | None]:
    laws = [rate.law() for rate in rates if rate.measured]
    bases = [rate.base_s for rate in rates if rate.based]
    return _middle(laws) if laws else None, _middle(bases) if bases else None


def _middle(values: list[T]) -> T:
    """Of two the faster one: it costs little to find out that it was too much to hope for."""
    return sorted(values)[(len(values) - 1) // 2]


def _alike(models: tuple[str, ...], other: Replica) -> bool:
    """Whether one request may go to either."""
    if not models or not other.models or models == other.models:
        return True
    return any(map(other.serves, models))
