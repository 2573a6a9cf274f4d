"""Why predictions go wrong again and again: the likeliest cause, and the setting that mends it."""

from kvproxy.core.holdings import Outcome
from kvproxy.core.replica import Replica
from kvproxy.core.trust import Change, Source

CACHING_OFF = "prefix caching is off; start the engine with --enable-prefix-caching"
RESTARTED = (
    "the replica seems to have restarted or to have dropped its cache without a word; what was "
    "known of it is forgotten. Its KV events would tell: --kv-events-config with "
    "enable_kv_cache_events"
)
SILENT = (
    "it should publish KV events and none arrives; its endpoint must be one it listens on, such as "
    "tcp://*:5557 in --kv-events-config, and reachable from here, or events.enabled must be off"
)
UNREPORTED = (
    "it does not report cached tokens; start the engine with --enable-prompt-tokens-details "
    "(SGLang: --enable-cache-report), or nothing that is predicted can be checked"
)
UNCOUNTED = (
    "its streams do not say how many tokens they took, since no client asks for it: until some "
    "send stream_options.include_usage, or vLLM runs with --enable-force-include-usage (all "
    "clients get one more chunk then), lengths and rates are estimates that nothing corrects"
)
SMALLER = (
    "it holds less than replicas[].hbm_tokens or its own metrics say, or others use it too; its "
    "KV events would tell, see events.enabled"
)
EVICTED = "its announcements come late or are lost; set replay_endpoint in its --kv-events-config"
TOKENISED = (
    "prompts are rendered to other tokens from turn to turn; compare with canonical.enabled off"
)
SLOWER_TIER = (
    "a slower tier supplied what was not known of; set lmcache.coordinator_url. Replicas that "
    "share LMCache servers need the same PYTHONHASHSEED"
)
NOT_LOADED = (
    "LMCache's coordinator names chunks that the replica does not load; lmcache.instances must say "
    "which server it loads from, the servers need --coordinator-event-reporting, and unless their "
    "--hash-algorithm is blake3 they need the same PYTHONHASHSEED"
)


def likely_cause(replica: Replica, change: Change) -> str:
    """For a source that became distrusted."""
    if replica.hbm_tokens == 0:
        return CACHING_OFF
    if change.reported > change.predicted:
        return SLOWER_TIER
    if change.source is Source.COORDINATOR:
        return NOT_LOADED
    if change.source is Source.EVENTS:
        return TOKENISED if change.reported else EVICTED
    return SMALLER if change.reported else RESTARTED


def sentences(replica: Replica, outcome: Outcome) -> list[str]:
    """What to tell the operator, one line each."""
    lines = [_told(replica, change) for change in outcome.changes]
    if outcome.restarted:
        lines.append(f"replica {replica.id}: {RESTARTED}")
    if outcome.unreported:
        lines.append(f"replica {replica.id}: {UNREPORTED}")
    if outcome.uncounted:
        lines.append(f"replica {replica.id}: {UNCOUNTED}")
    if outcome.silent:
        lines.append(f"replica {replica.id}: {SILENT}")
    return lines


def _told(replica: Replica, change: Change) -> str:
    numbers = (
        f"{change.wrong} of {change.of} predictions wrong, last {change.predicted} cached tokens "
        f"predicted, {change.reported} reported"
    )
    if change.trusted:
        return f"replica {replica.id}: {change.source} is trusted again ({numbers})"
    cause = likely_cause(replica, change)
    return f"replica {replica.id}: {change.source} is not trusted any more ({numbers}): {cause}"
