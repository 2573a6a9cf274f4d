"""Can kvproxy hear what replicas hold?"""

from collections.abc import Iterator

from kvproxy.admin.doctor.facts import Fleet, ReplicaFacts
from kvproxy.admin.doctor.finding import Finding, Severity

# The first version whose /kv_event_sources tells; the first whose events name their request.
_TELLS, _NAMES = (0, 31), (0, 30)
_EVENTS = (
    '--kv-events-config \'{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557", '
    '"replay_endpoint": "tcp://*:5558"}\''
)


def check(fleet: Fleet) -> Iterator[Finding]:
    for replica in fleet.reached:
        events = replica.events
        if events.refusal:
            yield Finding(
                "events_connect",
                Severity.WARNING,
                replica.id,
                "It publishes KV events where kvproxy cannot hear them.",
                events.refusal,
                f"Start vLLM with {_EVENTS}: only an endpoint with a * is listened at; or set "
                "replicas[].events_endpoint to tcp://*:PORT so that kvproxy listens.",
            )
        elif not events.sources:
            yield _off(replica)
        yield from _heard(replica)
        yield from _unnamed(replica)


def _off(replica: ReplicaFacts) -> Finding:
    old = replica.version and replica.version < _TELLS and not replica.events.told
    evidence = "/kv_event_sources is empty"
    mend = f"Start vLLM with {_EVENTS}."
    if old:
        evidence = f"vLLM {'.'.join(map(str, replica.version))} has no page that names its events"
        mend = (
            "If they are on, name them in replicas[].events_endpoint and "
            f".events_replay_endpoint; else start vLLM with {_EVENTS}."
        )
    return Finding(
        "events_unknown" if old else "events_off",
        Severity.NOTE,
        replica.id,
        "kvproxy goes by its own history of this replica: evictions are modelled, not heard.",
        evidence,
        mend,
    )


def _heard(replica: ReplicaFacts) -> Iterator[Finding]:
    for endpoint in replica.events.deaf:
        yield Finding(
            "events_unreachable",
            Severity.WARNING,
            replica.id,
            "Its KV events cannot be reached from here.",
            f"nobody listens at {endpoint}",
            "Open that port between the engine and kvproxy (NetworkPolicy, firewall, container "
            "port), or set replicas[].events_endpoint to the address as seen from here.",
        )
    for source in replica.events.sources:
        if not source.replay:
            yield Finding(
                "events_no_replay",
                Severity.WARNING,
                replica.id,
                "One lost event costs all that is known of this replica: nothing can be asked "
                "again.",
                f"rank {source.rank} has no replay_endpoint",
                f"Start vLLM with {_EVENTS}.",
            )
    for endpoint in replica.events.silent_replays:
        yield Finding(
            "events_replay_silent",
            Severity.WARNING,
            replica.id,
            "Its replay endpoint does not answer.",
            f"no answer from {endpoint}",
            "Open that port between the engine and kvproxy.",
        )


def _unnamed(replica: ReplicaFacts) -> Iterator[Finding]:
    if replica.events.sources and replica.engine == "vllm" and () < replica.version < _NAMES:
        yield Finding(
            "events_unnamed",
            Severity.NOTE,
            replica.id,
            "Its events do not say which request they are of, so prompts are tokenised through "
            "/tokenize after their answers.",
            f"vLLM {'.'.join(map(str, replica.version))}; session_id came with 0.30",
            "Nothing has to be done; vLLM 0.30 or later saves the extra calls.",
        )
