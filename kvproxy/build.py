"""From settings to the core: what each part is made with."""

import math
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from kvproxy.adapters.http1.upstream import Http1Upstream, UpstreamLimits
from kvproxy.core.access import CREDENTIALS, Access, Key
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.affinity import Affinity
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.disagg.choice import Mode, Terms
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.dry_run import DryReader, Reader
from kvproxy.core.header_rules import HeaderRules, header_rules
from kvproxy.core.heads import ReadingMemory
from kvproxy.core.holdings import Holdings
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import LifeCycle, LifeLimits
from kvproxy.core.loadable import Loadable
from kvproxy.core.policies import PolicyName
from kvproxy.core.pools import Arm, Pools
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica, Role
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Weights
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.turn import TurnReader
from kvproxy.core.unprinted import Unprinted
from kvproxy.core.volatile import BILLING_LINE, Action, Frozen, Rule, Volatile, Where
from kvproxy.ops.decision_log import DecisionLog, LogLimits
from kvproxy.ops.metrics import Metrics
from kvproxy.ops.source_counters import SourceCounters
from kvproxy.settings.disagg import ALLOC_PORT_BEHIND, DEFAULT_KV_PORTS
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings


class ReplicaMaker:
    """Makes replicas as settings say; those that load from one LMCache server share its model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._drams: dict[str, PrefixTree] = {}

    def make(self, replica: ReplicaSettings) -> Replica:
        probe, score = self._settings.probe, self._settings.score
        dram = self._dram(replica.id)
        return Replica(
            id=replica.id,
            url=replica.url,
            hbm_tokens=replica.hbm_tokens or self._settings.index.hbm_tokens_default,
            rate=PrefillRate(score.prefill_tok_s, score.base_s, score.attn_s_per_tok2),
            weight=replica.weight,
            role=Role(replica.role),
            peer=self._peer(replica),
            life=LifeCycle(LifeLimits(probe.unhealthy_after, probe.cool_max_s)),
            dram=dram,
            dram_shared=any(dram is shared for shared in self._drams.values()),
            saves_answers=self._settings.lmcache.save_decode,
        )

    def adjust(self, replica: Replica, wanted: ReplicaSettings) -> None:
        """What may change of a replica that goes on with what it holds and does."""
        replica.weight, replica.role = wanted.weight, Role(wanted.role)
        peer, known = self._peer(wanted), replica.peer
        if peer is None or known is None or (peer.host, peer.port) != (known.host, known.port):
            replica.peer = peer

    def _peer(self, replica: ReplicaSettings) -> Peer | None:
        """Where others find its KV; None where no KV moves."""
        connector = self._settings.disagg.connector
        if not connector:
            return None
        default = DEFAULT_KV_PORTS[connector]
        port = default if replica.kv_port is None else replica.kv_port
        host = replica.kv_host or urlsplit(replica.url).hostname or ""
        return Peer(host, port, alloc_port=port + ALLOC_PORT_BEHIND)

    def _dram(self, replica: str) -> PrefixTree | None:
        lmcache = self._settings.lmcache
        if lmcache.dram_tokens is None:
            return None
        server = replica
        for pair in lmcache.instances:
            name, _, of = pair.partition("=")
            server = name if of == replica else server
        # A replica's own model goes with it; one that is shared outlives it.
        if server == replica:
            return PrefixTree(lmcache.dram_tokens)
        return self._drams.setdefault(server, PrefixTree(lmcache.dram_tokens))


def build_router(settings: Settings, maker: ReplicaMaker | None = None) -> Router:
    maker = maker or ReplicaMaker(settings)
    replicas = [maker.make(replica) for replica in settings.replicas]
    ruler = Ruler(settings.index.anchors_max)
    holdings = Holdings(
        ruler,
        PrefixIndex(settings.events.index_max_bytes),
        TokenChains(settings.events.anchors_max_bytes),
        Loadable(settings.lmcache.prompts_max),
    )
    score = settings.score
    router = Router(
        replicas,
        PolicyName(settings.policy.name),
        affinity=Affinity(settings.identify.max_sessions, settings.identify.idle_s),
        ruler=ruler,
        weights=Weights(
            move_margin_s=score.move_margin_s,
            dram_tok_s=score.dram_tok_s,
            disk_tok_s=score.disk_tok_s,
        ),
        holdings=holdings,
        seed=settings.policy.seed,
    )
    router.disagg = build_disagg(settings)
    name_pools(settings, router.pools)
    return router


def name_pools(settings: Settings, pools: Pools) -> None:
    """What names stand for, and which models have a policy of their own."""
    arms = {entry.name: [Arm(*share) for share in entry.shares()] for entry in settings.models}
    policies = {
        model: PolicyName(entry.policy)
        for entry in settings.models
        if entry.policy is not None
        for model, _ in entry.shares()
    }
    pools.replace(arms, policies)


def build_disagg(settings: Settings) -> Disagg | None:
    """None where every request stays whole."""
    asked = settings.disagg
    if not asked.connector or asked.mode == "never":
        return None
    terms = Terms(
        Connector(asked.connector),
        Mode(asked.mode),
        asked.min_tokens,
        asked.margin_s,
        asked.hand_on_tokens,
    )
    return Disagg(terms, TransferRate(asked.transfer_tok_s))


def build_upstream(
    settings: Settings,
    api_keys: Mapping[str, str],
    closed: bool,
    tls: ssl.SSLContext,
    *,
    traced: bool,
) -> Http1Upstream:
    upstream = settings.upstream
    limits = UpstreamLimits(
        upstream.connect_timeout_s, upstream.idle_timeout_s, upstream.keepalive_s
    )
    headers = request_headers(settings, closed, traced=traced)
    return Http1Upstream(limits, api_keys, headers, tls=tls)


def request_headers(settings: Settings, closed: bool, *, traced: bool) -> HeaderRules:
    """Those that replicas see; where keys are asked for (`closed`) they end here."""
    upstream = settings.upstream
    without = CREDENTIALS if closed else ()
    # A leg's own trace stands among the client's headers.
    own = ("traceparent", "tracestate") if traced and upstream.allow_headers else ()
    return header_rules(upstream.drop_headers, (*upstream.allow_headers, *own), without)


def build_access(settings: Settings) -> Access:
    return Access(keys_of(settings), commands_open=settings.access.engine_commands)


def keys_of(settings: Settings) -> list[Key]:
    return [
        Key(
            key.name,
            key.sha256,
            key.tenant or key.name,
            frozenset(key.models),
            key.admin,
            key.requests_per_min or math.inf,
            key.tokens_per_min or math.inf,
            key.priority,
        )
        for key in settings.access.keys
    ]


def build_admission(settings: Settings, router: Router) -> Admission:
    """Only kvproxy's own policy holds work back: the others are compared as others run them."""
    return Admission(router, admission_limits(settings, router))


def admission_limits(settings: Settings, router: Router) -> AdmissionLimits:
    limits = settings.admission
    holds_back = router.policy is PolicyName.SECONDS
    return AdmissionLimits(
        AllowanceLimits(
            limits.large_prefill_share, limits.large_prefill_burst_s, limits.small_prefill_s
        ),
        backlog_s=limits.backlog_s if holds_back else math.inf,
        ageing_s=limits.ageing_s,
        wait_max_s=limits.wait_max_s,
        queue_max=limits.queue_max,
        ttft_slo_s=math.inf if limits.ttft_slo_s is None else limits.ttft_slo_s,
    )


def build_reader(
    settings: Settings,
    kept: Representatives | None = None,
    frozen: Frozen | None = None,
    pools: Pools | None = None,
    unprinted: Unprinted | None = None,
) -> Reader:
    """`kept` and `frozen` are first-seen values where those are not this process's alone; `pools`
    says what names stand for, `unprinted` what templates do not print."""
    asked = settings.canonical
    if kept is None:
        kept = Representatives(asked.representatives_max_bytes)
    patterns = {Action.FREEZE: asked.freeze, Action.DROP: asked.drop}
    rules = [
        Rule(f"{action}_{index}", where, re.compile(pattern), action)
        for action, listed in patterns.items()
        for index, pattern in enumerate(listed)
        for where in (Where.SYSTEM, Where.USER)
    ]
    if asked.billing_line:
        rules.insert(0, BILLING_LINE)
    block_bytes, points = settings.blocks.block_bytes, settings.identify.max_sessions
    preserving = Canonicaliser(Order.PRESERVE, Representatives(0), unprinted=unprinted)
    memory = ReadingMemory(settings.blocks.heads_max_bytes, settings.blocks.responses_max_bytes)
    plain = TurnReader(preserving, block_bytes, points, pools=pools, memory=memory)
    if not asked.enabled:
        return plain
    strips = asked.cache_control == "strip"
    acting = Canonicaliser(
        Order(asked.order),
        kept,
        Volatile(rules, frozen),
        strips_marks=strips,
        echoes=asked.echo,
        unprinted=unprinted,
    )
    reader = TurnReader(
        acting, block_bytes, points, asked.echo_max_bytes, pools=pools, memory=memory
    )
    return DryReader(plain, reader) if asked.dry_run else reader


def api_keys_of(settings: Settings) -> dict[str, str]:
    """What each replica is told in place of the client's key, by replica id."""
    keys = {}
    for replica in settings.replicas:
        secret = replica.api_key or settings.upstream.api_key
        if secret is not None:
            keys[replica.id] = secret.get_secret_value()
    return keys


def build_decision_log(settings: Settings, metrics: Metrics) -> DecisionLog | None:
    """None where nothing is to be written."""
    asked = settings.decisions
    if not asked.path:
        return None
    limits = LogLimits(asked.sample, asked.max_bytes, asked.files, asked.queue_max)
    made = DecisionLog(Path(asked.path), limits)
    metrics.add(SourceCounters(made.counted))
    return made
