"""Which replicas a request may be placed on."""

from collections.abc import Sequence

from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.replica import Replica

_READY, _PROBING = Health.READY, Health.PROBING
# Of those that could take work if they were well.
_TAKING = frozenset({Health.READY, Health.SUSPECT, Health.PROBING, Health.EJECTED})
# Whom to ask when none is well, best first.
_AT_WORST = ((Health.PROBING, Health.SUSPECT), (Health.EJECTED,))


def usable(replicas: Sequence[Replica], model: str, exclude: frozenset[str]) -> list[Replica]:
    """The best there are for `model`. Those that look ill are tried when all do: then it is the
    evidence that is doubtful, and an attempt that fails costs less than a request that is not
    served."""
    # Spelt out, for every decision asks this of every replica.
    best = [
        replica
        for replica in replicas
        if (
            (health := replica.life.health) is _READY
            or (health is _PROBING and not replica.load.in_flight)
        )
        and (not model or not replica.models or model in replica.models)
        and (not exclude or replica.id not in exclude)
    ]
    if best and 2 * len(best) < len(replicas):
        best += _doubted(replicas, model, exclude, 2 * len(best))
    return best or _usable_at_worst(replicas, model, exclude)


def eligible(replicas: Sequence[Replica], model: str, exclude: frozenset[str]) -> list[Replica]:
    """Those that are usable; raises ProxyError no_replica or model_not_found where none is."""
    found = usable(replicas, model, exclude)
    if found:
        return found
    if not (model and replicas) or any(replica.serves(model) for replica in replicas):
        serving = f"that serves `{model}` " if model else f"of {len(replicas)} "
        raise ProxyError(
            "no_replica", f"no replica {serving}is ready; see /readyz", retry_after_s=1.0
        )
    raise ProxyError("model_not_found", f"The model `{model}` does not exist.", param="model")


def _doubted(
    replicas: Sequence[Replica], model: str, exclude: frozenset[str], well_twice: int
) -> list[Replica]:
    """Where most look ill, those that only probes say so of: one request at a time tells."""
    out = [r for r in replicas if r.life.health is Health.EJECTED]
    if not out:
        return []
    there = [r for r in replicas if r.life.health in _TAKING and r.serves(model)]
    if well_twice >= len(there):
        return []
    return [
        replica
        for replica in out
        if replica.life.doubtful
        and not replica.load.in_flight
        and replica.serves(model)
        and replica.id not in exclude
    ]


def _usable_at_worst(
    replicas: Sequence[Replica], model: str, exclude: frozenset[str]
) -> list[Replica]:
    there = [r for r in replicas if r.id not in exclude and r.serves(model)]
    for wanted in _AT_WORST:
        found = [replica for replica in there if replica.life.health in wanted]
        if found:
            return found
    return []
