"""Is the replica there, awake, and does it serve what the others serve?"""

import re
from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity

# The engine with which more than four ranks and a KV connector were seen to lock up.
_LOCKS_UP = (0, 19)
_SAFE_RANKS = 4
_CLOCKS_S = 2.0


def check(fleet: Fleet) -> Iterator[Finding]:
    for replica in fleet.replicas:
        if replica.trouble:
            yield _unreachable(replica)
            continue
        yield from _asleep(replica)
        yield from _tensor_parallel(replica)
        yield from _clock(replica)
        yield from _idle_connections(replica, fleet.keepalive_s)
    yield from _models(fleet)


def _unreachable(replica: ReplicaFacts) -> Finding:
    # As it says itself: a port may be 8401.
    key = re.search(r"answered 40[13]\b", replica.trouble) is not None
    return Finding(
        "replica_key" if key else "replica_unreachable",
        Severity.ERROR,
        replica.id,
        "It wants another API key." if key else "It cannot be asked.",
        replica.trouble,
        "Set replicas[].api_key (or --api-key-env) to the engine's --api-key."
        if key
        else f"See that the engine runs and that {replica.url} is reachable from this host; "
        "vLLM listens on every interface only with --host 0.0.0.0.",
    )


def _asleep(replica: ReplicaFacts) -> Iterator[Finding]:
    if replica.asleep:
        yield Finding(
            "asleep",
            Severity.ERROR,
            replica.id,
            "The engine sleeps: it answers /health and serves nothing.",
            "vllm:engine_sleep_state is not awake",
            f"curl -X POST {replica.url}/wake_up",
        )


def _tensor_parallel(replica: ReplicaFacts) -> Iterator[Finding]:
    ranks = replica.tensor_parallel
    affected = replica.version[:2] == _LOCKS_UP and replica.has_connector
    if ranks is not None and ranks > _SAFE_RANKS and affected:
        yield Finding(
            "tensor_parallel",
            Severity.WARNING,
            replica.id,
            "More than four tensor-parallel ranks with a KV connector lock up in this version: "
            "requests stay running, no token comes, /health stays fine.",
            f"vLLM {'.'.join(map(str, replica.version))}, {ranks} ranks, a KV connector in use",
            "Run vLLM 0.20 or later, or --tensor-parallel-size 4 at most with more replicas. "
            "Until then probe.stall_s takes a locked replica out.",
        )


def _clock(replica: ReplicaFacts) -> Iterator[Finding]:
    skew = replica.skew_s
    if skew is not None and abs(skew) >= _CLOCKS_S:
        yield Finding(
            "clock_skew",
            Severity.NOTE if abs(skew) < 30 else Severity.WARNING,
            replica.id,
            "Its clock and this host's differ: logs, events and traces will not line up.",
            f"its Date header is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
            "Run chrony or systemd-timesyncd on both hosts.",
        )


def _idle_connections(replica: ReplicaFacts, keepalive_s: float) -> Iterator[Finding]:
    closed = replica.idle_closed_s
    if closed is not None and closed < keepalive_s:
        yield Finding(
            "keep_alive",
            Severity.WARNING,
            replica.id,
            "It closes idle connections sooner than kvproxy lets go of them, so that some "
            "requests meet a closed connection and are tried again.",
            f"closed after {closed:.1f} s; upstream.keepalive_s is {keepalive_s:g}",
            f"Set upstream.keepalive_s to {max(0.0, closed * 0.8):.1f}, or start vLLM with "
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE=60.",
        )


def _models(fleet: Fleet) -> Iterator[Finding]:
    served = {replica.id: replica.models for replica in fleet.reached}
    if len(set(served.values())) > 1:
        yield Finding(
            "models_differ",
            Severity.NOTE,
            "",
            "Replicas serve different models; each model is routed among those that serve it.",
            "; ".join(f"{name}: {', '.join(models) or 'none'}" for name, models in served.items()),
            "Nothing, if that is meant; else the same --served-model-name everywhere.",
        )
    for replica in fleet.reached:
        if not replica.models:
            yield Finding(
                "no_model",
                Severity.ERROR,
                replica.id,
                "It lists no model, so that nothing will be sent to it.",
                "/v1/models is empty",
                "See the engine's log; a model still loading is listed when it is ready.",
            )
